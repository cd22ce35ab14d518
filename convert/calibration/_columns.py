"""Arrays of many rows on disk, cut into rows that are read when asked for."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convert.calibration._fitting import require_kind, require_names
from convert.errors import UsageError
from convert.spec import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from convert.calibration import Row

#: What reading a damaged array file raises.
DAMAGE = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class Column(Protocol):
    """One array on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, read from its header."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Its dtype, read from its header."""

    def pieces(self, wanted: Sequence[int], step: int) -> Iterator[np.ndarray]:
        """Give the pieces of these numbers, ascending, each of `step` entries of the leading axis; 0 for the whole."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """An `.npy` file, of which only the pages that are looked at are read."""

    array: np.ndarray

    @classmethod
    def open(cls, path: Path) -> Mapped:
        """Map a file; raises one of `DAMAGE`."""
        import numpy as np

        return cls(np.load(path, mmap_mode="r", allow_pickle=False))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Its dtype."""
        return self.array.dtype

    def pieces(self, wanted: Sequence[int], step: int) -> Iterator[np.ndarray]:
        """Copy the pieces out of the file."""
        import numpy as np

        for index in wanted:
            yield np.array(self.array[index * step : (index + 1) * step] if step else self.array)


@dataclass(frozen=True, slots=True)
class Member:
    """An array within an `.npz`, compressed or not, read from front to back."""

    path: Path
    name: str  # of the member
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    by_columns: bool  # stored column after column, so that no row is in one piece

    @classmethod
    def open(cls, path: Path, archive: zipfile.ZipFile, name: str) -> Member:
        """Read a member's header; raises one of `DAMAGE`."""
        from numpy.lib import format as npy

        with archive.open(name) as stream:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(stream))
            if read is None:
                raise ValueError(f"{name} has a header that only arrays of records have")
            shape, by_columns, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        return cls(path, name, shape, dtype, by_columns)

    def pieces(self, wanted: Sequence[int], step: int) -> Iterator[np.ndarray]:
        """Read on to each piece."""
        import numpy as np

        if self.by_columns:
            yield from self._unpacked(wanted, step)
            return
        shape = (step, *self.shape[1:]) if step else self.shape
        size, total = (int(np.prod(sizes, dtype=np.int64)) * self.dtype.itemsize for sizes in (shape, self.shape))
        with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as stream:
            start = archive.getinfo(self.name).file_size - total
            for index in wanted:
                stream.seek(start + index * size if step else start)
                data = stream.read(size)
                if len(data) < size:
                    raise EOFError(f"{self.name} ends before its last row")
                yield np.frombuffer(data, self.dtype).reshape(shape)

    def _unpacked(self, wanted: Sequence[int], step: int) -> Iterator[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "member.npy"
            with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as stream, file.open("wb") as target:
                shutil.copyfileobj(stream, target)
            yield from Mapped.open(file).pieces(wanted, step)


@dataclass(frozen=True, slots=True)
class Table:
    """Arrays of equally many rows, one for every input of the model."""

    where: str
    columns: tuple[tuple[str, Column, Cut], ...]
    count: int

    def read(self, wanted: Sequence[int]) -> Iterator[Row]:
        """Read rows, one at a time; raises UsageError where the file turns out to be damaged."""
        pieces = [column.pieces(wanted, cut.step) for _, column, cut in self.columns]
        with contextlib.ExitStack() as closing:
            for generator in pieces:
                closing.callback(generator.close)  # type: ignore[attr-defined]
            for index in wanted:
                try:
                    arrays = {
                        name: next(piece)[None] if cut.lacks_batch else next(piece)
                        for (name, _, cut), piece in zip(self.columns, pieces, strict=True)
                    }
                except DAMAGE as error:
                    raise damaged(self.where, error) from error
                yield (f"{self.where}, row {index}" if self.count > 1 else self.where), arrays


@dataclass(frozen=True, slots=True)
class Cut:
    """How an array is cut into rows: `count` of them, `step` entries of the leading axis each; 0 where all share it."""

    step: int
    count: int
    lacks_batch: bool = False


def table(where: str, columns: Mapping[str, Column], signature: Signature) -> Table:
    """Say how named arrays are cut into rows of what the model takes.

    Rows are cut along the batch, free or fixed; an axis of another free dimension belongs to one row as a whole, and
    an array without the batch axis is one row. Raises UsageError, naming the input, for what does not fit.
    """
    takes = f"the model takes: {', '.join(map(str, signature.inputs))}"
    require_names(where, columns, signature)
    cuts: dict[str, Cut] = {}
    for spec in signature.inputs:
        try:
            cuts[spec.name] = _cut(spec, columns[spec.name])
        except UsageError as error:
            raise UsageError(f"{where}: {spec.name} {error.message}", fix=error.fix or takes) from None
    counts = {name: cut.count for name, cut in cuts.items() if cut.step or cut.lacks_batch}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(f"{where}: the arrays have different numbers of rows: {told}", fix=takes)
    return Table(
        where,
        tuple((spec.name, columns[spec.name], cuts[spec.name]) for spec in signature.inputs),
        next(iter(counts.values()), 1),
    )


def _cut(spec: TensorSpec, column: Column) -> Cut:
    import numpy as np

    require_kind(spec, column.dtype)
    shape = column.shape
    if 0 in shape:
        raise UsageError("is empty")
    lacks_batch = len(shape) == len(spec.shape) - 1 and spec.shape[0] in (BATCH, 1)
    whole = (1, *shape) if lacks_batch else shape
    leading = spec.shape[0] if spec.shape and whole else 0
    step = leading if isinstance(leading, int) else 1 if leading == BATCH else whole[0]
    row = np.broadcast_to(np.zeros((), spec.dtype), (step, *whole[1:]) if step else whole)
    wrong = spec.mismatch(row)
    if wrong:
        raise UsageError(f"does not fit: {wrong}{_hint(spec, row.shape)}")
    if step and whole[0] % step:
        raise UsageError(f"has {whole[0]} rows, which {step} does not divide")
    return Cut(0, 1, lacks_batch=True) if lacks_batch else Cut(step, whole[0] // step if step else 1)


def _hint(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    """Say so where only the order of axes is wrong."""
    fixed = [dim for dim in spec.shape[1:] if isinstance(dim, int)]
    same = len(fixed) == len(shape) - 1 and sorted(fixed) == sorted(shape[1:])
    return f"; the axes are in another order{f', the model takes {spec.layout}' if spec.layout else ''}" if same else ""


def damaged(where: str, error: Exception) -> UsageError:
    """Build the error for an array file that cannot be read."""
    return UsageError(
        f"--calibration: cannot read {where}: {error}", fix="write it again with numpy.savez or numpy.save"
    )
