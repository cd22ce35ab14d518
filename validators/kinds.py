"""Families of seeded values that models are compared on: what each is drawn from, and which count for what."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.spec import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

#: Seeded cases at the base sizes, by kind of values; 36 in all. Gaussian noise alone hides faults that only show on
#: positive, sparse, smooth, large or extreme values. `pink` has the spectrum of natural images, amplitudes of 1/f.
KINDS = {
    "normal": 8,
    "uniform": 6,
    "pink": 4,
    "smooth": 3,
    "sparse": 3,
    "small": 1,
    "large": 2,
    "zeros": 1,
    "ones": 1,
    "constant": 1,
    "edges": 2,
    "spikes": 2,
    "saturation": 1,
    "denormals": 1,
}

#: Kinds of equal values, and by how much their twins differ: a float32 rounding of the values, normally distributed.
#: What is erred there is no chance sample: sums of equal numbers cancel exactly in one order of adding and not in
#: another, or round every step the same way. The two-dimensional FFT of ones is exact in PyTorch, and 5e-4 off after
#: its layer normalisation one rounding beside, where right artifacts are 1e-3 off on both. An instance normalisation of
#: a blank image errs 3e-4 in TFLite and 1e-6 in PyTorch, on other images equally little.
CONSTANT = ("zeros", "ones", "constant")
NUDGE = 2.0**-23

#: Kinds that real inputs resemble, which quality is judged on where the user gave none.
NATURAL = ("normal", "uniform", "pink", "smooth", "sparse")

#: Kinds beyond anything a model was made for. Each is held against the bound of a single case and has no part in the
#: sums of all: errors grow with the values, and one case of 64 times the range would drown the faults of all others.
EXTREME = ("spikes", "saturation", "denormals")

#: Range of a float input that no real inputs tell: that of pixels scaled as most networks take them.
UNKNOWN_RANGE = (0.0, 1.0)

#: How large spikes are, and which share of the elements: far beyond the 16 that `large` reaches among 10,000 values.
SPIKE, SPIKES_SHARE = 100.0, 0.01

#: By how much saturated inputs exceed their range. Sigmoid and softmax are flat there, and what grows with its input
#: stays below the 65504 of half precision for some layers.
SATURATION = 64.0

#: Magnitude of denormal inputs: a hundredth of float32's smallest normal number, 1.2e-38.
DENORMAL = 1e-40

#: How inputs are called that say which elements count: ones, then zeros; a few cases have arbitrary bits.
MASK, ARBITRARY_MASKS = "mask", 0.2

#: How tokenizers call the input that says which words count.
ATTENTION_MASK = "attention_mask"

#: Masks of PyTorch's attention, which are true where an element does not count.
INVERSE_MASK = "key_padding_mask"

#: Upper end of integer inputs whose range nobody stated.
UNKNOWN_HIGH = 1

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Case:
    """One set of inputs: where it comes from and at which sizes of the free dimensions."""

    name: str
    sizes: tuple[tuple[str, int], ...]
    arrays: Mapping[str, np.ndarray]

    @property
    def kind(self) -> str:
        """The family it is of, by its name."""
        return self.name.partition("-")[0]


def draw(
    name: str, kind: str, signature: Signature, sizes: dict[str, int], seed: int, ranges: Ranges | None = None
) -> Case:
    """Make one seeded case of a kind of `KINDS`, the free dimensions at `sizes`; its values depend on its name.

    `ranges` are those of float inputs, where real ones tell them.
    """
    arrays = {}
    for spec in signature.inputs:
        rng = _random(seed, name, spec.name)
        arrays[spec.name] = _values(kind, spec, spec.sized(sizes), rng, (ranges or {}).get(spec.name, UNKNOWN_RANGE))
    return Case(name, tuple(sizes.items()), arrays)


def twins(cases: list[Case], seed: int) -> list[tuple[str, Case]]:
    """Make, for every case of constant values, one whose floats are a rounding beside them; see `CONSTANT`.

    So for denormal numbers, which are as good as zeros.
    """
    found = []
    for case in cases:
        if case.kind not in (*CONSTANT, "denormals") or not _floats(case):
            continue
        moved = {}
        for name in _floats(case):
            array = case.arrays[name]
            noise = _random(seed, case.name, f"{name}/beside").standard_normal(array.shape)
            moved[name] = (array + NUDGE * max(1.0, float(abs(array).max())) * noise).astype(array.dtype)
        found.append((case.name, Case(f"beside-{case.name}", case.sizes, {**case.arrays, **moved})))
    return found


def flushed(cases: list[Case]) -> list[tuple[str, Case]]:
    """Make, for every case of denormal numbers, one with zeros in their place, as many engines take them for."""
    import numpy as np

    found = []
    for case in cases:
        if case.kind == "denormals" and _floats(case):
            zeros = {name: np.zeros_like(case.arrays[name]) for name in _floats(case)}
            found.append((case.name, Case(f"flushed-{case.name}", case.sizes, {**case.arrays, **zeros})))
    return found


def spread(case: Case, seed: int) -> list[tuple[str, Case]]:
    """Make, for every float input, the case with one element NaN, and with one +infinity; with what is where."""
    import numpy as np

    found = []
    for label, value in (("NaN", np.nan), ("+infinity", np.inf)):
        for name in _floats(case):
            array = case.arrays[name].copy()
            array.flat[_random(seed, label, name).integers(array.size)] = value
            # A slash ends a case's name in the file's keys, and TensorFlow's names of inputs have some.
            title = f"{label.lstrip('+').lower()}-{name.replace('/', '%2F')}"
            found.append((f"{label} in {name}", Case(title, case.sizes, {**case.arrays, name: array})))
    return found


def _floats(case: Case) -> list[str]:
    return [name for name, array in case.arrays.items() if array.dtype.kind == "f"]


def _random(seed: int, case: str, tensor: str) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32(f"{case}/{tensor}".encode())])


def _values(
    kind: str, spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, span: tuple[float, float]
) -> np.ndarray:
    """Draw one array: floats by `kind`, integers over their range, booleans evenly, masks with a valid beginning."""
    import numpy as np

    if is_mask(spec):
        return _mask(spec, shape, rng)
    if spec.dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" in spec.dtype:
        low = spec.low or 0
        high = spec.high if spec.high is not None else low + UNKNOWN_HIGH
        return rng.integers(low, high, size=shape, dtype=spec.dtype, endpoint=True)
    least, most = span
    reach = max(abs(least), abs(most)) or 1.0
    draw: dict[str, Callable[[], np.ndarray]] = {
        "normal": lambda: rng.standard_normal(shape),
        "uniform": lambda: least + (most - least) * rng.random(shape),
        "pink": lambda: least + (most - least) * _pink(shape, rng),
        "smooth": lambda: least + (most - least) * _smooth(shape, rng),
        "sparse": lambda: rng.random(shape) * (rng.random(shape) < 0.1),
        "small": lambda: rng.standard_normal(shape) * 1e-3,
        "large": lambda: rng.standard_normal(shape) * 8,
        "zeros": lambda: np.zeros(shape),
        "ones": lambda: np.ones(shape),
        "constant": lambda: np.full(shape, least + (most - least) * rng.uniform(0.2, 0.8)),
        "edges": lambda: np.where(rng.random(shape) < 0.5, least, most),
        "spikes": lambda: _spiked(rng.standard_normal(shape), rng),
        "saturation": lambda: rng.standard_normal(shape) * SATURATION * reach,
        "denormals": lambda: rng.standard_normal(shape) * DENORMAL,
    }
    return draw[kind]().astype(spec.dtype)


def is_mask(spec: TensorSpec) -> bool:
    """Whether an input says, by zeros and ones, which elements count."""
    high = UNKNOWN_HIGH if spec.high is None else spec.high
    flags = spec.dtype == "bool" or ("int" in spec.dtype and (spec.low or 0, high) == (0, 1))
    return flags and spec.name.lower().endswith(MASK) and len(spec.shape) > 0


def _mask(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw a mask: along the last axis some elements that count, at least one, then those that do not.

    NOTE: Why the first element always counts: what attends to nothing at all, as the first word of a decoder then does,
    has no defined value.
    """
    import numpy as np

    lengths = rng.integers(1, shape[-1], size=(*shape[:-1], 1), endpoint=True)
    valid = np.arange(shape[-1]) < lengths
    if rng.random() < ARBITRARY_MASKS:
        valid = rng.random(shape) < 0.5
    valid[..., 0] = True
    return (valid ^ spec.name.lower().endswith(INVERSE_MASK)).astype(spec.dtype)


def _spiked(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put a few spikes of either sign, at least one, at random places."""
    flat = values.reshape(-1)
    count = max(1, round(flat.size * SPIKES_SHARE))
    flat[rng.choice(flat.size, size=count, replace=False)] = SPIKE * rng.choice((-1.0, 1.0), size=count)
    return values


def _pink(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw noise whose amplitude falls with the spatial frequency f as 1/f, scaled to 0..1.

    Natural images have this spectrum: Field, "Relations between the statistics of natural images and the response
    properties of cortical cells", 1987.
    """
    import numpy as np

    axes = tuple(_spatial(shape))
    values = rng.standard_normal(shape)
    if not axes:
        return _scaled(values)
    squares = np.zeros([1] * len(shape))
    for axis in axes:
        at = [-1 if other == axis else 1 for other in range(len(shape))]
        squares = squares + np.square(np.fft.fftfreq(shape[axis])).reshape(at)
    frequency = np.sqrt(squares)
    # The mean has no frequency; it is left out, since the values are scaled to one range anyway.
    amplitude = np.divide(1.0, frequency, out=np.zeros_like(frequency), where=frequency > 0)
    return _scaled(np.fft.ifftn(np.fft.fftn(values, axes=axes) * amplitude, axes=axes).real)


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw noise that walks from each element to the next, scaled to 0..1: almost no detail, as out of focus."""
    import numpy as np

    values = rng.standard_normal(shape)
    for axis in _spatial(shape):
        values = np.cumsum(values, axis=axis) / np.sqrt(np.arange(1, shape[axis] + 1)).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    return _scaled(values)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale values to 0..1; equal ones become zero."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values * 0


def _spatial(shape: tuple[int, ...]) -> Iterable[int]:
    """Name the axes longer than a few elements, the batch aside: those that may be space or time."""
    return [axis for axis, size in enumerate(shape) if axis > 0 and size > 4]


def span_of(array: np.ndarray) -> tuple[float, float] | None:
    """Give the range of real values; None where they are no floats, or all the same."""
    if array.dtype.kind != "f" or not array.size:
        return None
    low, high = float(array.min()), float(array.max())
    return (low, high) if low < high and math.isfinite(low) and math.isfinite(high) else None
