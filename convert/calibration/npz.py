"""Calibration data in an `.npz` of arrays named as the model's inputs, rows along the batch."""

from __future__ import annotations

import zipfile
from pathlib import Path

from convert.calibration import READERS, Preparation, Reader, Rows
from convert.calibration._columns import DAMAGE, Column, Member, Table, damaged, table
from convert.errors import UsageError
from convert.spec import Signature


def recognise(origin: str) -> bool:
    """Whether it is a zip archive."""
    return Path(origin).is_file() and zipfile.is_zipfile(origin)


def columns(path: Path) -> dict[str, Column]:
    """Read the headers of all arrays in an archive; raises UsageError where it is damaged or holds no arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            found: dict[str, Column] = {n.removesuffix(".npy"): Member.open(path, archive, n) for n in members}
    except DAMAGE as error:
        raise damaged(str(path), error) from error
    if not found:
        raise UsageError(
            f"--calibration: {path} holds no arrays", fix="write it with numpy.savez(path, <input name>=array, ...)"
        )
    return found


def rows_of(path: Path, signature: Signature) -> Table:
    """Say how an archive is cut into rows."""
    return table(str(path), columns(path), signature)


def read(job: Preparation) -> Rows:
    """Open an archive."""
    rows = rows_of(Path(job.origin), job.signature)
    return Rows(rows.count, rows.read)


READERS.register(Reader("npz", "an .npz of arrays", recognise, read))
