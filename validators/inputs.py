"""The inputs every model is compared on: seeded, named by kind, at several sizes, and the user's own."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from convert.errors import UsageError
from convert.spec import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

#: Seeded cases at the base sizes, by kind of values; 32 in all. Gaussian noise alone hides faults that only show on
#: positive, sparse, smooth or large values.
KINDS = {"normal": 8, "uniform": 8, "smooth": 6, "sparse": 4, "small": 2, "large": 2, "zeros": 1, "ones": 1}

#: Kinds of equal values, and by how much their twins differ: a float32 rounding of one, normally distributed. What is
#: erred there is no chance sample: sums of equal numbers cancel exactly in one order of adding and not in another, or
#: round every step the same way. The two-dimensional FFT of ones is exact in PyTorch, and 5e-4 off after its layer
#: normalisation one rounding beside, where right artifacts are 1e-3 off on both. An instance normalisation of a blank
#: image errs 3e-4 in TFLite and 1e-6 in PyTorch, on other images equally little.
CONSTANT = ("zeros", "ones")
NUDGE = 2.0**-23

#: Kinds that real inputs resemble, which quality is judged on where the user gave none.
NATURAL = ("normal", "uniform", "smooth", "sparse")
GENERATED = "generated inputs"
USER_FILE = "the inputs file"

#: Sizes of a free batch beside 1.
BATCH_SIZES = (2, 3, 5)

#: Sizes of every other free dimension: the base, and one more.
OTHER_SIZES = (16, 24)

#: Rows of the user's own file that are run one by one; the report says when there were more.
USER_ROWS = 256

#: The same where there are right answers to them: of a metric that changes on 1 % of rows, so many show a loss of 1 %
#: at 95 % confidence, which 256 do not.
LABELLED_ROWS = 1024

#: Rows of the user's batch case, where the batch is free.
USER_BATCH = 8
USER_BATCH_CASE = "user-batch"

#: How tokenizers call the input that says which words count.
ATTENTION_MASK = "attention_mask"

#: Upper end of integer inputs whose range nobody stated.
UNKNOWN_HIGH = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One set of inputs: where it comes from and at which sizes of the free dimensions."""

    name: str
    sizes: tuple[tuple[str, int], ...]
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class CaseSet:
    """The cases of one run, on disk, and what there is to say of them."""

    path: str
    sizes: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # of each case, by name and in order
    probes: tuple[tuple[str, str], ...] = ()  # input and the case in which only that input differs from the first case
    notes: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()  # cases that quality is judged on: the user's rows, else generated natural ones
    data: str = GENERATED  # where those come from, for people
    rows: int = 0  # cases that the user's file has in all, used or not
    twins: tuple[tuple[str, str], ...] = ()  # constant cases, and the case a rounding beside that only the source runs

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all cases."""
        return tuple(name for name, _ in self.sizes)

    def fitting(self, fixed: Mapping[str, int]) -> tuple[str, ...]:
        """Name the cases that a model with some free dimensions fixed can run."""
        return tuple(
            name for name, sizes in self.sizes if all(fixed.get(dimension, size) == size for dimension, size in sizes)
        )


def generate(signature: Signature, seed: int) -> list[Case]:
    """Make the seeded cases: 32 at the base sizes, then one for every other size of every free dimension.

    Every array depends on the seed, its case's name and its input's name only, so cases can be made again one by one.
    """
    base = base_sizes(signature)
    cases = [draw(f"{kind}-{i}", kind, signature, base, seed) for kind, count in KINDS.items() for i in range(count)]
    resized = [(name, size) for name in signature.free for size in (BATCH_SIZES if name == BATCH else OTHER_SIZES[1:])]
    cases += [draw(f"{name}-{size}", "normal", signature, base | {name: size}, seed) for name, size in resized]
    return cases


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


def twins(cases: list[Case], seed: int) -> list[tuple[str, Case]]:
    """Make, for every case of constant values, one whose floats are a rounding beside them; see `CONSTANT`."""
    import numpy as np

    found = []
    for case in cases:
        floats = [name for name, array in case.arrays.items() if array.dtype.kind == "f"]
        if case.name.partition("-")[0] not in CONSTANT or not floats:
            continue
        moved = {}
        for name in floats:
            rng = np.random.default_rng([seed, zlib.crc32(f"{case.name}/{name}/beside".encode())])
            array = case.arrays[name]
            moved[name] = (array + NUDGE * rng.standard_normal(array.shape)).astype(array.dtype)
        found.append((case.name, Case(f"beside-{case.name}", case.sizes, {**case.arrays, **moved})))
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
    cases = generate(signature, seed)
    probing = probes(signature, cases)
    beside = twins(cases, seed)
    cases += [case for _, case in probing]
    evaluation = [f"{kind}-{i}" for kind in NATURAL for i in range(KINDS[kind])]
    if user is not None:
        own, note = user_cases(signature, user, most)
        cases += own
        notes += note
        evaluation = [case.name for case in own if case.name != USER_BATCH_CASE]
    for spec in signature.inputs:
        if "int" in spec.dtype and spec.high is None:
            notes.append(
                f"{spec.name} has no stated range, so only 0..{UNKNOWN_HIGH} was tried; state it with "
                f"--input '{spec}=0..N'"
            )
    stored = (*cases, *(case for _, case in beside))
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


def draw(name: str, kind: str, signature: Signature, sizes: dict[str, int], seed: int) -> Case:
    """Make one seeded case of a kind of `KINDS`, the free dimensions at `sizes`; its values depend on its name."""
    import numpy as np

    arrays = {}
    for spec in signature.inputs:
        rng = np.random.default_rng([seed, zlib.crc32(f"{name}/{spec.name}".encode())])
        arrays[spec.name] = _values(kind, spec, spec.sized(sizes), rng)
        if spec.name.endswith(ATTENTION_MASK) and spec.shape and "int" in spec.dtype:
            # NOTE: Why: what attends to nothing at all, as the first word of a decoder then does, has no defined value.
            arrays[spec.name][..., 0] = 1
    return Case(name, tuple(sizes.items()), arrays)


def _values(kind: str, spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw one array: floats by `kind`, integers over their range, booleans evenly."""
    import numpy as np

    if spec.dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" in spec.dtype:
        low = spec.low or 0
        high = spec.high if spec.high is not None else low + UNKNOWN_HIGH
        return rng.integers(low, high, size=shape, dtype=spec.dtype, endpoint=True)
    draw: dict[str, Callable[[], np.ndarray]] = {
        "normal": lambda: rng.standard_normal(shape),
        "uniform": lambda: rng.random(shape),
        "smooth": lambda: _smooth(shape, rng),
        "sparse": lambda: rng.random(shape) * (rng.random(shape) < 0.1),
        "small": lambda: rng.standard_normal(shape) * 1e-3,
        "large": lambda: rng.standard_normal(shape) * 8,
        "zeros": lambda: np.zeros(shape),
        "ones": lambda: np.ones(shape),
    }
    return draw[kind]().astype(spec.dtype)


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw noise whose neighbours resemble each other, scaled to 0..1, as pixels of natural images do."""
    import numpy as np

    values = rng.standard_normal(shape)
    for axis in _spatial(shape):
        values = np.cumsum(values, axis=axis) / np.sqrt(np.arange(1, shape[axis] + 1)).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros(shape)


def _spatial(shape: tuple[int, ...]) -> Iterable[int]:
    """Name the axes longer than a few elements, the batch aside: those that may be space or time."""
    return [axis for axis, size in enumerate(shape) if axis > 0 and size > 4]
