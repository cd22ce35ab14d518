"""The inputs every model is compared on: seeded, named by kind, at several sizes, and the user's own."""

from __future__ import annotations

import dataclasses
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from convert.errors import UsageError
from convert.spec import BATCH, Signature, TensorSpec
from validators.kinds import (
    EXTREME,
    KINDS,
    NATURAL,
    UNKNOWN_HIGH,
    Case,
    Ranges,
    draw,
    flushed,
    span_of,
    spread,
    twins,
)

if TYPE_CHECKING:
    import numpy as np

GENERATED = "generated inputs"
USER_FILE = "the inputs file"

#: Sizes of a free batch beside 1.
BATCH_SIZES = (2, 3, 5)

#: Sizes of every other free dimension: the base, one more, and a prime that no stride divides: halving rounds there,
#: and what was traced at a multiple of 8 shows.
OTHER_SIZES = (16, 24, 17)

#: The batch whose rows are also run one by one.
ROWS = 3

#: Rows of the user's own file that are run one by one; the report says when there were more.
USER_ROWS = 256

#: The same where there are right answers to them: of a metric that changes on 1 % of rows, so many show a loss of 1 %
#: at 95 % confidence, which 256 do not.
LABELLED_ROWS = 1024

#: Rows of the user's batch case, where the batch is free.
USER_BATCH = 8
USER_BATCH_CASE = "user-batch"


@dataclass(frozen=True, slots=True)
class CaseSet:
    """The cases of one run, on disk, and what there is to say of them.

    Only the source runs `twins` and `flushed`; `spread` are run beside the others and decide nothing.
    """

    path: str
    sizes: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # of each case, by name and in order
    probes: tuple[tuple[str, str], ...] = ()  # input and the case in which only that input differs from the first case
    notes: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()  # cases that quality is judged on: the user's rows, else generated natural ones
    data: str = GENERATED  # where those come from, for people
    rows: int = 0  # cases that the user's file has in all, used or not
    twins: tuple[tuple[str, str], ...] = ()  # constant cases, and the case a rounding beside
    flushed: tuple[tuple[str, str], ...] = ()  # denormal cases, and the case with zeros in their place
    extremes: tuple[str, ...] = ()  # cases that count one by one only
    optional: tuple[str, ...] = ()  # cases at sizes that a source need not run
    batches: tuple[tuple[str, tuple[str, ...]], ...] = ()  # cases of several rows, and the cases of each row alone
    spread: tuple[tuple[str, str], ...] = ()  # cases with one NaN or infinity, and what it is and in which input
    steps: bool = False  # whether the cases are steps of one sequence, since the source has a state
    seed: int = 0  # of what was generated

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all cases."""
        return tuple(name for name, _ in self.sizes)

    @property
    def for_source(self) -> tuple[str, ...]:
        """Names of all cases that the source runs, to be compared or to know it better."""
        return (*self.names, *(name for _, name in (*self.twins, *self.flushed)))

    def without(self, dropped: Iterable[str], notes: Iterable[str]) -> CaseSet:
        """Give this set without some generated cases, and with `notes` that say why."""
        gone = set(dropped)
        return dataclasses.replace(
            self,
            sizes=tuple(item for item in self.sizes if item[0] not in gone),
            evaluation=tuple(name for name in self.evaluation if name not in gone),
            batches=tuple(item for item in self.batches if item[0] not in gone and not gone & set(item[1])),
            notes=(*self.notes, *notes),
        )

    def sequence(self) -> CaseSet:
        """Give the steps of a source with a state: the cases at the first one's sizes, in order, and nothing beside.

        Extremes are left out, since what comes after them would follow from them.
        """
        steps = tuple(item for item in self.sizes if item[1] == self.sizes[0][1])
        beside = {*dict(self.probes).values(), *self.extremes}
        steps = tuple(item for item in steps if item[0] not in beside)
        names = {name for name, _ in steps}
        evaluation = tuple(name for name in self.evaluation if name in names)
        return CaseSet(
            self.path,
            steps,
            notes=self.notes,
            evaluation=evaluation,
            data=self.data,
            rows=self.rows,
            steps=True,
            seed=self.seed,
        )

    def fitting(self, fixed: Mapping[str, int]) -> tuple[str, ...]:
        """Name the cases that a model with some free dimensions fixed can run."""
        return tuple(
            name for name, sizes in self.sizes if all(fixed.get(dimension, size) == size for dimension, size in sizes)
        )


def generate(signature: Signature, seed: int, ranges: Ranges | None = None) -> list[Case]:
    """Make the seeded cases: those of `KINDS` at the base sizes, then one for every other size of a free dimension.

    Every array depends on the seed, its case's name and its input's name only, so cases can be made again one by one;
    but for one batch, which repeats the rows of the first cases. `ranges` are those of float inputs, where real ones
    tell them.
    """
    base = base_sizes(signature)
    known = ranges or {}
    cases = [
        draw(f"{kind}-{i}", kind, signature, base, seed, known) for kind, count in KINDS.items() for i in range(count)
    ]
    resized = [(name, size) for name in signature.free for size in (BATCH_SIZES if name == BATCH else OTHER_SIZES[1:])]
    cases += [
        draw(f"{name}-{size}", "normal", signature, base | {name: size}, seed, known)
        if (name, size) != (BATCH, ROWS)
        else stacked(f"{name}-{size}", signature, cases[:size])
        for name, size in resized
    ]
    if BATCH in signature.free and not all(BATCH in spec.free for spec in signature.inputs):
        cases += _alike(signature, cases[:ROWS])
    return cases


def optional_cases(signature: Signature) -> tuple[str, ...]:
    """Name the cases at sizes that a source need not run."""
    return tuple(f"{name}-{size}" for name in signature.free if name != BATCH for size in OTHER_SIZES[2:])


def stacked(name: str, signature: Signature, rows: list[Case]) -> Case:
    """Put cases of one row each together to a batch; inputs without one are those of the first."""
    import numpy as np

    arrays = {
        spec.name: np.concatenate([row.arrays[spec.name] for row in rows], axis=spec.shape.index(BATCH))
        if BATCH in spec.free
        else rows[0].arrays[spec.name]
        for spec in signature.inputs
    }
    sizes = tuple((dim, len(rows) if dim == BATCH else size) for dim, size in rows[0].sizes)
    return Case(name, sizes, arrays)


def _alike(signature: Signature, rows: list[Case]) -> list[Case]:
    """Give the rows of a batch as cases of their own that share the inputs without one; the first is as it is."""
    shared = {spec.name: rows[0].arrays[spec.name] for spec in signature.inputs if BATCH not in spec.free}
    return [Case(f"row-{i}", row.sizes, {**row.arrays, **shared}) for i, row in enumerate(rows) if i]


def batches_of(cases: list[Case]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name the batches whose rows are cases of their own, and those cases in their order."""
    names = {case.name for case in cases}
    first = [case.name for case in cases[:ROWS]]
    rows = tuple(f"row-{i}" if f"row-{i}" in names else name for i, name in enumerate(first))
    found = [(f"{BATCH}-{ROWS}", rows)] if f"{BATCH}-{ROWS}" in names else []
    found += [
        (case.name, tuple(f"user-{i}" for i in range(dict(case.sizes).get(BATCH, 0))))
        for case in cases
        if case.name == USER_BATCH_CASE
    ]
    return tuple((batch, rows) for batch, rows in found if rows and names.issuperset(rows))


def require_room(signature: Signature, free_bytes: int) -> None:
    """Raise UsageError where the seeded cases at the base sizes alone take more than `free_bytes` of memory."""
    import numpy as np

    base = base_sizes(signature)
    one = sum(math.prod(spec.sized(base)) * np.dtype(spec.dtype).itemsize for spec in signature.inputs)
    needed = one * sum(KINDS.values())
    if needed > free_bytes:
        raise UsageError(
            f"the inputs to compare on would take {needed / 2**30:,.0f} GiB, and {free_bytes / 2**30:,.1f} GiB of "
            f"memory are free: {', '.join(map(str, signature.inputs))}",
            fix="give smaller sizes with --fix or --input",
        )


def base_sizes(signature: Signature) -> dict[str, int]:
    """Give every free dimension the size at which most cases have it."""
    return {name: 1 if name == BATCH else OTHER_SIZES[0] for name in signature.free}


def probes(signature: Signature, cases: list[Case]) -> list[tuple[str, Case]]:
    """Make, for every input, a case that differs from the first one in that input alone.

    An input of which all cases hold the same values, such as an integer of one allowed value, has none.
    """
    import numpy as np

    first = cases[0]
    found = []
    for spec in signature.inputs:
        name = spec.name
        others = (case.arrays[name] for case in cases[1:] if case.sizes == first.sizes)
        other = next((array for array in others if not np.array_equal(array, first.arrays[name])), None)
        if other is not None:
            # A slash ends a case's name in the file's keys, and TensorFlow's names of inputs have some.
            found.append((name, Case(f"probe-{name.replace('/', '%2F')}", first.sizes, {**first.arrays, name: other})))
    return found


def collect(
    signature: Signature,
    seed: int,
    user: Mapping[str, np.ndarray] | None,
    path: Path,
    data: str = USER_FILE,
    most: int = USER_ROWS,
) -> CaseSet:
    """Make all cases of a run and write them to `path`, an `.npz` with keys <case>/<input>.

    `data` names the user's inputs, of which at most so many rows are used: `LABELLED_ROWS` where their right answers
    are known.

    Raises UsageError where the user's arrays do not fit the signature, or all cases do not fit into memory.
    """
    import numpy as np

    notes: list[str] = []
    require_room(signature, int(psutil.virtual_memory().available))
    spans = {name: span for name, array in (user or {}).items() if (span := span_of(array)) is not None}
    cases = generate(signature, seed, spans)
    optional = optional_cases(signature)
    probing = probes(signature, cases)
    spreading = spread(cases[0], seed)
    cases += [case for _, case in probing]
    evaluation = [f"{kind}-{i}" for kind in NATURAL for i in range(KINDS[kind])]
    extremes = [case.name for case in cases if case.kind in EXTREME]
    if user is not None:
        own, note = user_cases(signature, user, most)
        cases += own
        notes += note
        evaluation = [case.name for case in own if case.name != USER_BATCH_CASE]
    else:
        notes.append(f"the verdict rests on {GENERATED} alone; what only real ones show needs --inputs")
    for spec in signature.inputs:
        if "int" in spec.dtype and spec.high is None:
            notes.append(
                f"{spec.name} has no stated range, so only 0..{UNKNOWN_HIGH} was tried; state it with "
                f"--input '{spec}=0..N'"
            )
    beside, zeroed = twins(cases, seed), flushed(cases)
    stored = (*cases, *(case for _, case in (*beside, *zeroed, *spreading)))
    np.savez(path, **{f"{case.name}/{name}": array for case in stored for name, array in case.arrays.items()})  # type: ignore[arg-type]
    return CaseSet(
        str(path),
        tuple((case.name, case.sizes) for case in cases),
        tuple((name, case.name) for name, case in probing),
        tuple(notes),
        tuple(evaluation),
        GENERATED if user is None else data,
        0 if user is None else max(_row_counts(signature, user).values(), default=1),
        tuple((name, case.name) for name, case in beside),
        tuple((name, case.name) for name, case in zeroed),
        tuple(extremes),
        optional,
        batches_of(cases),
        tuple((case.name, what) for what, case in spreading),
        seed=seed,
    )


def read_user_file(path: Path) -> dict[str, np.ndarray]:
    """Read the user's `.npz` of named arrays.

    Raises UsageError where it is missing, no `.npz`, empty, or holds objects.
    """
    import numpy as np

    form = "write it with numpy.savez(path, <input name>=array, ...)"
    if not path.is_file():
        raise UsageError(f"there is no inputs file {path}", fix=form)
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is no .npz file", fix=form)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UsageError(f"cannot read {path} as an .npz of arrays: {error}", fix=form) from error
    if not arrays:
        raise UsageError(f"{path} holds no arrays", fix=form)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise UsageError(f"{name!r} in {path} is no array of numbers", fix=form)
    return arrays


def specs_of(arrays: Mapping[str, np.ndarray]) -> tuple[TensorSpec, ...]:
    """Derive input specs from example arrays: a leading axis they all share becomes the free batch.

    Integer inputs get the range of their values.
    """
    leading = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    shared = len(leading) == 1 and leading != {0}
    specs = []
    for name, array in arrays.items():
        shape = (BATCH, *array.shape[1:]) if shared else array.shape
        bounds = (int(array.min()), int(array.max())) if array.dtype.kind in "iu" and array.size else (None, None)
        specs.append(TensorSpec(name, str(array.dtype), shape, *bounds))
    return tuple(specs)


def user_cases(
    signature: Signature, arrays: Mapping[str, np.ndarray], most: int = USER_ROWS
) -> tuple[list[Case], list[str]]:
    """Cut the user's arrays into cases: single rows and one batch where the batch is free, else pieces that fit.

    Raises UsageError, naming the input, where names, dtypes, shapes or row counts do not fit.
    """
    import numpy as np

    counts = _row_counts(signature, arrays)
    total = max(counts.values(), default=1)
    notes = [] if total <= most else [f"{most} of the inputs file's {total} rows were used"]
    pieces = [(f"user-{i}", i, i + 1) for i in range(min(total, most))]
    if total > 1 and all(spec.shape[:1] == (BATCH,) for spec in signature.inputs if spec.shape):
        pieces.append((USER_BATCH_CASE, 0, min(total, USER_BATCH)))
    cases = []
    for label, start, stop in pieces:
        cut = {}
        for name, array in arrays.items():
            step = array.shape[0] // counts[name] if name in counts else 0
            cut[name] = np.ascontiguousarray(array[start * step : stop * step]) if step else array
        cases.append(Case(label, _sizes(signature, cut), cut))
    return cases, notes


def _row_counts(signature: Signature, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Say how many cases each of the user's arrays holds; those that all cases share are left out."""
    takes = f"the model takes: {', '.join(map(str, signature.inputs))}"
    expected = {spec.name: spec for spec in signature.inputs}
    for name in [*(set(arrays) - set(expected)), *(set(expected) - set(arrays))]:
        known = "has an array" if name in arrays else "has no array"
        raise UsageError(f"the inputs file {known} {name!r}", fix=takes)
    counts: dict[str, int] = {}
    for name, spec in expected.items():
        reason, count = _fit(spec, arrays[name])
        if not reason and count is not None and counts and count not in counts.values():
            other, cases_of_other = next(iter(counts.items()))
            reason = f" and {other} have different numbers of rows, for {count} and {cases_of_other} case(s)"
        if reason:
            raise UsageError(f"{name} in the inputs file{reason}", fix=takes)
        if count is not None:
            counts[name] = count
    return counts


def _fit(spec: TensorSpec, array: np.ndarray) -> tuple[str, int | None]:
    """Say why an array cannot be cut into cases of `spec`, or into how many it can; None where all cases share it."""
    import numpy as np

    if not array.size:
        return " is empty", None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return " holds NaN or infinity", None
    if not array.ndim:
        wrong = spec.mismatch(array)
        return f": {wrong}" if wrong else "", None
    # Rows are cut along the batch, free or fixed; an axis of another free dimension belongs to one case as a whole.
    leading = spec.shape[0] if spec.shape else 1
    step = leading if isinstance(leading, int) else 1 if leading == BATCH else array.shape[0]
    wrong = spec.mismatch(array[:step])
    reason = f": {wrong}" if wrong else ""
    if not reason and array.shape[0] % step:
        reason = f" has {array.shape[0]} rows, which {step} does not divide"
    if not reason and array.dtype.kind in "iu" and spec.low is not None and spec.high is not None:
        low, high = int(array.min()), int(array.max())
        if low < spec.low or high > spec.high:
            reason = f" holds values from {low} to {high}, outside {spec.low}..{spec.high}"
    return reason, array.shape[0] // step


def _sizes(signature: Signature, arrays: Mapping[str, np.ndarray]) -> tuple[tuple[str, int], ...]:
    sizes: dict[str, int] = {}
    for spec in signature.inputs:
        for dimension, size in zip(spec.shape, arrays[spec.name].shape, strict=True):
            if isinstance(dimension, str) and sizes.setdefault(dimension, size) != size:
                raise UsageError(
                    f"the inputs file gives {dimension} two sizes, {sizes[dimension]} and {size}",
                    fix="dimensions of one name are one size",
                )
    return tuple(sizes.items())
