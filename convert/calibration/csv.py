"""Calibration data in a CSV file: a sample per line, of integer token ids or other numbers."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from convert.calibration import READERS, Preparation, Reader, Row, Rows
from convert.calibration._tokens import Layout, arrays_of, layout, numbers, require_no_index
from convert.errors import UsageError
from convert.spec import Signature

SUFFIXES = (".csv", ".tsv")
SEPARATORS = ",;\t"

#: Longest cell: a sample of a hundred thousand numbers.
LONGEST_CELL = 1 << 20


def recognise(origin: str) -> bool:
    """Whether it is a file that is called a table; nothing in such a file says so itself."""
    return Path(origin).is_file() and Path(origin).suffix.lower() in SUFFIXES


def read(job: Preparation) -> Rows:
    """Open a table: its lines are counted, and its first one may name the inputs."""
    path = Path(job.origin)
    first = next(_lines(path), [])
    if not first:
        raise UsageError(f"--calibration: {path} is empty", fix="write a sample per line")
    titles = [cell.strip() for cell in first]
    named = any(spec.name in titles for spec in job.signature.inputs)
    how = layout(str(path), titles if named else [], job.signature)
    if not named:
        _require_numbers(path, first, how, job.signature)
    skipped = 1 if named else 0
    count = sum(1 for _ in _lines(path)) - skipped

    def rows(wanted: Sequence[int]) -> Iterator[Row]:
        remaining = iter(wanted)
        row = next(remaining, None)
        for number, cells in enumerate(itertools.islice(_lines(path), skipped, None)):
            if number == row:
                where = f"{path}, row {number}"
                yield where, arrays_of(where, cells, how, job.signature)
                row = next(remaining, None)
            if row is None:
                return

    return Rows(count, rows, how.notes)


def _require_numbers(path: Path, first: list[str], how: Layout, signature: Signature) -> None:
    """Raise UsageError where a first line without names of inputs is a title all the same."""
    spec = next(spec for spec in signature.inputs if spec.name == how.whole)
    try:
        found = [number for cell in first for number in numbers(str(path), cell, spec)]
    except UsageError as error:
        raise UsageError(
            f"--calibration: the first line of {path} holds neither names of inputs nor numbers: {', '.join(first)}",
            fix=f"name a column as the input: {how.whole}",
        ) from error
    require_no_index(str(path), dict(enumerate(found)))


def _lines(path: Path) -> Iterator[list[str]]:
    """Give the cells of every line that is not empty."""
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            stream.seek(0)
            separator = max(SEPARATORS, key=first.count)
            yield from (cells for cells in csv.reader(stream, delimiter=separator) if cells)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"--calibration: cannot read {path}: {error}", fix="write it as UTF-8 text") from error


READERS.register(Reader("csv", "a CSV table", recognise, read))
