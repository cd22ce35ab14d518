"""Calibration data in an `.npy` of rows, for a model of one input."""

from __future__ import annotations

from pathlib import Path

from convert.calibration import READERS, Preparation, Reader, Rows
from convert.calibration._columns import DAMAGE, Mapped, Table, damaged, table
from convert.errors import UsageError
from convert.spec import Signature

MAGIC = b"\x93NUMPY"


def recognise(origin: str) -> bool:
    """Whether it begins as NumPy's files do."""
    path = Path(origin)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def rows_of(path: Path, signature: Signature) -> Table:
    """Say how an array is cut into rows; raises UsageError for a model of several inputs."""
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise UsageError(
            f"--calibration: {path} is one array, and the model takes {len(signature.inputs)} inputs",
            fix=f"give an .npz with an array for each of: {names}",
        )
    try:
        column = Mapped.open(path)
    except DAMAGE as error:
        raise damaged(str(path), error) from error
    return table(str(path), {signature.inputs[0].name: column}, signature)


def read(job: Preparation) -> Rows:
    """Open an array."""
    rows = rows_of(Path(job.origin), job.signature)
    return Rows(rows.count, rows.read)


READERS.register(Reader("npy", "an .npy of one array", recognise, read))
