"""Calibration data in a Parquet file: a sample per row, a column per input, read in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from convert.calibration import READERS, Preparation, Reader, Row, Rows
from convert.calibration._tokens import Layout, arrays_of, layout
from convert.errors import UsageError

MAGIC = b"PAR1"
BATCH_ROWS = 256  # that are in memory at a time


def recognise(origin: str) -> bool:
    """Whether it begins as Parquet files do."""
    path = Path(origin)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read(job: Preparation) -> Rows:
    """Open a table; raises UsageError where it is damaged, MissingExtra (from the worker) without pyarrow."""
    import pyarrow
    import pyarrow.parquet

    path = Path(job.origin)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            titles, count = list(file.schema_arrow.names), file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"--calibration: cannot read {path}: {error}", fix="write it again") from error
    how = layout(str(path), titles, job.signature)

    def rows(wanted: Sequence[int]) -> Iterator[Row]:
        try:
            yield from _rows(job, path, how, titles, wanted)
        except (pyarrow.ArrowException, OSError) as error:
            raise UsageError(f"--calibration: cannot read {path}: {error}", fix="write it again") from error

    return Rows(count, rows, how.notes)


def _rows(job: Preparation, path: Path, how: Layout, titles: list[str], wanted: Sequence[int]) -> Iterator[Row]:
    """Read batches of the columns that are inputs, and give the wanted rows of them."""
    import pyarrow.parquet

    needed = [titles[index] for _, index in how.columns] or titles
    remaining = iter(wanted)
    row = next(remaining, None)
    start = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=needed):
            while row is not None and row < start + batch.num_rows:
                cells = {name: batch.column(name)[row - start].as_py() for name in needed}
                where = f"{path}, row {row}"
                yield where, arrays_of(where, [cells.get(title) for title in titles], how, job.signature)
                row = next(remaining, None)
            if row is None:
                return
            start += batch.num_rows


READERS.register(Reader("parquet", "a Parquet table", recognise, read))
