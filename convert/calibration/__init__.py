"""Calibration data: where it comes from, read into samples that quantizers take one after another.

A kind of data is one file of this folder that registers a `Reader`; modules whose name starts with an underscore are
shared by several of them. `prepare` runs in a worker, since the data may be the user's own code.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.calibration._choice import Choice, choose
from convert.calibration._fitting import Fitting
from convert.calibration._storing import stack, write_arrays
from convert.errors import UsageError
from convert.recipe import Calibration, Range, sample_path
from convert.registry import Registry
from convert.spec import Signature
from convert.worker import Environment

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ENVIRONMENT", "MOST", "READERS", "Preparation", "Reader", "Row", "Rows", "prepare", "require_readable"]

#: Samples that are used at most. TensorFlow's guide asks for 100 to 500; ranges hardly move after those, and every
#: further sample costs an inference of the float model with all its tensors looked at.
MOST = 512

#: Fewer samples than this are refused: the ranges of so few inputs say more of those than of the task.
FEWEST = 8

#: Fewer than this are used with a word of warning: the lower end of what TensorFlow's guide asks for.
ADVISED = 100

#: The worker that reads calibration data: no framework of ours, though the user's callable may bring one.
ENVIRONMENT = Environment("calibration", ("numpy",))

FORMS = (
    "an .npz of arrays named as the inputs, an .npy, a folder of .npz, .npy or image files, a .csv or .parquet of "
    "token ids, package.module:callable that yields dictionaries, or `random`"
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """Calibration data to be made ready for a run; travels to a worker.

    With `hold_out` some rows are set aside to judge by, because the user gave none. `evaluation` is the `.npz` that is
    judged on, to see whether it has rows of the calibration data; empty for none.
    """

    origin: str  # what `--calibration` named
    signature: Signature  # of the source
    folder: str  # where the samples go; what is there is removed
    preprocess: str = ""
    seed: int = 0
    hold_out: bool = False
    evaluation: str = ""
    limit: int = 0  # samples to use at most; 0: `MOST`


#: One row: words for where it is from, and an array for every input of the model, with a batch of 1 where that is free.
Row = tuple[str, "dict[str, np.ndarray]"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Calibration data that was opened: how many rows it has, and how to read some, the numbers ascending.

    `count` is None where only reading tells; then the first rows are used. `real` says that it is data of the task.
    """

    count: int | None
    read: Callable[[Sequence[int]], Iterator[Row]]
    notes: tuple[str, ...] = ()
    real: bool = True


@dataclass(frozen=True, slots=True)
class Reader:
    """One kind of calibration data.

    `recognise` looks at what the user named, which need not be a path. `open` raises UsageError where it cannot be
    used; it reads no row yet. `preprocesses` says whether `--preprocess` means something for it.
    """

    name: str
    title: str
    recognise: Callable[[str], bool]
    open: Callable[[Preparation], Rows]
    preprocesses: bool = False


READERS: Registry[Reader] = Registry("calibration reader", "convert.calibration")


def reader_for(origin: str) -> Reader:
    """Find the reader of what `--calibration` named; raises UsageError where there is none or no such file."""
    for reader in READERS:
        if reader.recognise(origin):
            return reader
    path = Path(origin)
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
        holds = f"holds {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}" if files else "is empty"
        raise UsageError(f"--calibration: the folder {origin} {holds}, and no samples", fix=f"give {FORMS}")
    if path.exists():
        raise UsageError(f"--calibration: {origin} is no calibration data edgeproof reads", fix=f"give {FORMS}")
    raise UsageError(f"--calibration: there is no file {origin}", fix=f"give {FORMS}")


def require_readable(origin: str, preprocess: str = "") -> Reader:
    """Find the reader of what the user named, before anything is made; runs nobody's code.

    Raises UsageError where there is none, no such file, or `--preprocess` means nothing for it.
    """
    reader = reader_for(origin)
    if preprocess and not reader.preprocesses:
        raise UsageError(
            f"--preprocess has no meaning for {origin}, which is {reader.title}",
            fix="leave it out; it is for folders of images",
        )
    return reader


def prepare(job: Preparation) -> Calibration:
    """Read calibration data, check every row that is used, and write the samples; runs in a worker.

    One row at a time is in memory. Raises UsageError, naming the row and the input, where the data cannot be used.
    """
    reader = require_readable(job.origin, job.preprocess)
    folder = Path(job.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    limit = job.limit or MOST
    opened = reader.open(job)
    notes = list(opened.notes)
    if opened.count is None:
        opened = _spooled(opened, job, folder / "spool", limit, notes)
    choice = choose(opened.count or 0, limit, job.seed, hold_out=job.hold_out and opened.real)
    _require_enough(choice, job.origin)
    fitting = Fitting(job.signature)
    held = _write(opened, choice, fitting, folder)
    if len(fitting.digests) > 1 and len(set(fitting.digests)) == 1:
        raise UsageError(
            f"--calibration: all {len(fitting.digests)} samples of {job.origin} are equal, which shows no ranges",
            fix="give samples of real inputs that differ",
        )
    held_out = folder / "held_out.npz"
    stacked = stack(held, job.signature, held_out)
    for spent in ("spool", "held"):
        shutil.rmtree(folder / spent, ignore_errors=True)
    overlap = _overlap(job, fitting)
    notes += [*choice.notes(), *fitting.notes(), *stacked.notes]
    if overlap:
        where = f"are in {job.evaluation} too" if job.evaluation else "equal rows that were set aside"
        notes.append(
            f"{overlap} of the {len(fitting.digests)} calibration samples {where}: quality measured on what was "
            "calibrated with looks better than it is"
        )
    return Calibration(
        folder=str(folder),
        count=len(fitting.digests),
        sha256=hashlib.sha256("".join(fitting.digests).encode()).hexdigest(),
        origin=job.origin,
        ranges=tuple(Range(name, low, high) for name, (low, high) in fitting.ranges.items()),
        held_out=str(held_out) if stacked.count else "",
        release=opened.real,
        notes=tuple(notes),
        overlap=overlap,
    )


def _write(opened: Rows, choice: Choice, fitting: Fitting, folder: Path) -> list[Path]:
    """Write every chosen row where it belongs; gives the files of those that were set aside."""
    held_rows, held = set(choice.held), []
    count = 0
    wanted = sorted((*choice.used, *choice.held))
    for index, (where, arrays) in zip(wanted, opened.read(wanted), strict=True):
        if index in held_rows:
            target = folder / "held" / f"{index:06d}.npz"
            held.append(target)
            write_arrays(target, fitting.set_aside(where, arrays))
        else:
            write_arrays(sample_path(folder, count), fitting.add(where, arrays))
            count += 1
    return held


def _spooled(opened: Rows, job: Preparation, spool: Path, limit: int, notes: list[str]) -> Rows:
    """Write down the first rows of data whose length nobody knows, so that some of them can be chosen."""
    import numpy as np

    most = limit * 5 // 4 if job.hold_out and opened.real else limit
    names = []
    for index, (where, arrays) in enumerate(opened.read(range(most))):
        write_arrays(spool / f"{index:06d}.npz", arrays)
        names.append(where)
    if len(names) == most:
        notes.append(f"the first {most} samples of {job.origin} were read")

    def read(wanted: Sequence[int]) -> Iterator[Row]:
        for index in wanted:
            with np.load(spool / f"{index:06d}.npz") as file:
                yield names[index], {name: file[name] for name in file.files}

    return Rows(len(names), read, (), opened.real)


def _require_enough(choice: Choice, origin: str) -> None:
    if len(choice.used) >= FEWEST:
        return
    aside = f", of which {choice.total - len(choice.used)} are set aside to judge by" if choice.held else ""
    fix = f"give at least {FEWEST}, better {ADVISED} to {MOST}"
    if choice.held:
        fix += "; or give inputs to judge by with --inputs, so that none are set aside"
    raise UsageError(f"--calibration: {origin} has {choice.total} sample(s){aside}, too few to measure ranges", fix=fix)


def _overlap(job: Preparation, fitting: Fitting) -> int:
    """Count the samples that are rows of what is judged on too."""
    judged = set(fitting.held_digests)
    if job.evaluation:
        rows = READERS["npz"].open(Preparation(job.evaluation, job.signature, job.folder))
        reading = Fitting(job.signature)
        for where, arrays in rows.read(range(rows.count or 0)):
            reading.set_aside(where, arrays)
        judged |= set(reading.held_digests)
    return sum(digest in judged for digest in fitting.digests)
