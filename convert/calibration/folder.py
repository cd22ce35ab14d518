"""Calibration data in a folder of `.npz` or `.npy` files, each of one sample or of several rows."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from convert.calibration import READERS, Preparation, Reader, Row, Rows, npy, npz
from convert.calibration._columns import Table
from convert.calibration._files import ARRAYS, IMAGES, files_in, left_out, of_kind
from convert.errors import UsageError
from convert.spec import Signature


def recognise(origin: str) -> bool:
    """Whether it is a folder that holds arrays."""
    return Path(origin).is_dir() and bool(of_kind(files_in(Path(origin)), ARRAYS))


def read(job: Preparation) -> Rows:
    """Open a folder: the header of every file is read, to know how many rows there are."""
    files = files_in(Path(job.origin))
    arrays, images = of_kind(files, ARRAYS), of_kind(files, IMAGES)
    if images:
        raise UsageError(
            f"--calibration: {job.origin} holds arrays ({arrays[0].name}) and images ({images[0].name})",
            fix="name a folder that holds only the one",
        )
    # NOTE: Why files are opened again to be read: thousands of them open at once are more than a process may have.
    starts = [0, *itertools.accumulate(_open(path, job.signature).count for path in arrays)]

    def rows(wanted: Sequence[int]) -> Iterator[Row]:
        by_file = itertools.groupby(wanted, lambda row: bisect.bisect_right(starts, row) - 1)
        for file, numbers in by_file:
            yield from _open(arrays[file], job.signature).read([row - starts[file] for row in numbers])

    return Rows(starts[-1], rows, left_out(job.origin, files, arrays))


def _open(path: Path, signature: Signature) -> Table:
    if path.suffix.lower() == ".npz":
        return npz.rows_of(path, signature)
    return npy.rows_of(path, signature)


READERS.register(Reader("folder", "a folder of arrays", recognise, read))
