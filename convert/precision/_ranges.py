"""Ranges of activations: what calibration data makes of many tensors, in constant memory, and what to quantize them to.

An `Observer` is fed one array at a time. Of each tensor it keeps the least and the greatest value and a histogram whose
bins are as wide as 1/128 of what they hold, so that a value a thousand times the rest costs no resolution at the rest,
as it does where 2048 bins of one width are stretched (TensorRT, ONNX Runtime). A bin is the upper half of a float32's
bits: nothing is ever redistributed, and the order of the data does not matter but for the average of samples' ends.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import UsageError
from convert.recipe import AVERAGE, MIN_MAX, RANGES, Calibration
from convert.spec import Artifact

if TYPE_CHECKING:
    import numpy as np

#: The share of values that percentile ranges hold. Wu et al. 2020 (arXiv 2004.09602, table 5) tried 99.9, 99.99, 99.999
#: and 99.9999 % on eleven networks: 99.99 % and 99.999 % lost least, and the smaller clips what min-max cannot.
PERCENTILE = 0.9999

#: Octaves below the greatest value that are told apart; what is smaller counts as zero. With 1000 = 2^10 between an
#: outlier and the rest, 22 are left for the rest, more than the 16 bits of the finest integers.
OCTAVES = 32

#: Bins in one octave: the seven mantissa bits in the upper half of a float32.
BINS = 128

#: Keys of finite magnitudes: the upper half of their bits.
KEYS = 255 * BINS

#: How finely ranges are sought, in parts of an octave: all thresholds of the first, then around the best of them.
COARSE, FINE = 2, (4, 8, 16, 32)

#: Bins per level when two distributions are compared, as 2048 bins over the 128 levels of int8 would have at the
#: upper end of TensorRT's search and 1 at its lower; and what stands for an empty bin, as a share of the mean one.
BINS_PER_LEVEL, NEARLY_EMPTY = 8, 1e-4

#: How many observers a process keeps between the recipes of a search, with the ranges found: that of a float artifact
#: and that of its equalised one. One takes 64 KB per tensor; finding MSE ranges takes 25 ms per tensor.
RECENT = 2

#: The share of each sample in the average of samples' ends: ai-edge-quantizer's default, whose results these ranges
#: give again (its `moving_average_update`, smoothing 0.95).
STEP = 0.05

Ends = tuple[float, float]


@dataclass(slots=True)
class _Tensor:
    """What is known of one tensor: its ends, and how many values lie in each bin, by sign."""

    low: float = math.inf
    high: float = -math.inf
    first: int = 0  # the key of the least bin kept
    counts: np.ndarray | None = None  # int64[2, OCTAVES * BINS]: negative values, positive values
    zeros: int = 0
    odd: int = 0  # values that are no numbers, or infinite
    usual: Ends = (math.inf, -math.inf)  # the least and the greatest value of a sample, averaged as it goes

    def feed(self, array: np.ndarray) -> None:
        import numpy as np

        values = np.ascontiguousarray(array).reshape(-1)
        if values.dtype == np.float64:
            bounds = np.finfo(np.float32)
            values = np.where(np.isfinite(values), np.clip(values, float(bounds.min), float(bounds.max)), values)
        narrow = values.astype(np.float32, copy=False)
        # By sign and key; the last octave's keys are those of infinities and of what is no number.
        seen = np.bincount(narrow.view(np.uint32) >> 16, minlength=1 << 16).reshape(2, -1)[::-1]
        if odd := int(seen[:, KEYS:].sum()):
            self.odd += odd
            narrow = narrow[np.isfinite(narrow)]
        if not narrow.size:
            return
        ends = float(narrow.min()), float(narrow.max())
        before = self.usual if self.low <= self.high else ends
        self.usual = before[0] + (ends[0] - before[0]) * STEP, before[1] + (ends[1] - before[1]) * STEP
        self.low, self.high = min(self.low, ends[0]), max(self.high, ends[1])
        self._make_room(int(np.flatnonzero(seen[:, :KEYS].any(axis=0))[-1]))
        first = max(self.first, 1) if self.counts is not None else KEYS
        self.zeros += int(seen[:, :first].sum())
        if self.counts is not None:
            held = seen[:, first : min(KEYS, self.first + OCTAVES * BINS)]
            start = first - self.first
            self.counts[:, start : start + held.shape[1]] += held

    def _make_room(self, key: int) -> None:
        """Move the window up so that `key` lies in its last octave, or further down."""
        import numpy as np

        if key == 0:
            return
        first = max(0, (key // BINS + 1 - OCTAVES) * BINS)
        if self.counts is None:
            self.counts, self.first = np.zeros((2, OCTAVES * BINS), np.int64), first
        elif first > self.first:
            shift = min(first - self.first, OCTAVES * BINS)
            self.zeros += int(self.counts[:, :shift].sum())
            self.counts = np.pad(self.counts[:, shift:], ((0, 0), (0, shift)))
            self.first = first

    def bins(self, *, folded: bool = False) -> _Bins:
        """Give the bins that hold anything, in ascending order; zeros are left out. `folded`: of the magnitudes."""
        import numpy as np

        if self.counts is None:
            nothing = np.zeros(0)
            return _Bins(nothing, nothing, nothing)
        keys = np.arange(self.first, self.first + OCTAVES * BINS + 1, dtype=np.uint32)
        edges = np.minimum(keys << 16, 0x7F7FFFFF).view(np.float32).astype(np.float64)
        if folded:
            lows, highs, counts = edges[:-1], edges[1:], self.counts.sum(axis=0)
            least, most = 0.0, max(-self.low, self.high)
        else:
            lows = np.concatenate((-edges[1:][::-1], edges[:-1]))
            highs = np.concatenate((-edges[:-1][::-1], edges[1:]))
            counts = np.concatenate((self.counts[0][::-1], self.counts[1]))
            least, most = self.low, self.high
        held = counts > 0
        return _Bins(np.maximum(lows[held], least), np.minimum(highs[held], most), counts[held].astype(np.float64))


@dataclass(frozen=True, slots=True)
class _Bins:
    """A histogram: bins in ascending order with their ends and counts, float64[n] each."""

    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray


@dataclass(slots=True)
class Observer:
    """What calibration data makes of the tensors of a model, by their names."""

    tensors: dict[str, _Tensor] = field(default_factory=dict)
    _found: dict[tuple[str, str, int, bool], Ends] = field(default_factory=dict)

    def feed(self, name: str, array: np.ndarray) -> None:
        """Take in one array, of any shape, float or integer, as one sample's values of a tensor.

        Values that are infinite or no numbers are counted and otherwise left out.
        """
        self.tensors.setdefault(name, _Tensor()).feed(array)
        self._found.clear()

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors seen, in the order they were first fed."""
        return tuple(self.tensors)

    def reach(self, name: str) -> float:
        """Give the largest magnitude a tensor takes, infinity where some of its values are infinite or no numbers."""
        tensor = self.tensors[name]
        return math.inf if tensor.odd else max(-tensor.low, tensor.high)

    def range_of(self, name: str, method: str, bits: int = 8, *, symmetric: bool = False) -> Ends:
        """Find the range to quantize a tensor to, with `bits` bits, by one of `convert.recipe.RANGES`.

        The range always contains zero, which padding and ReLU need exact; a symmetric one is `(-t, t)`. It is `(0, 0)`
        where nothing but zeros was seen. Raises UsageError for an unknown method or tensor.
        """
        if method not in _METHODS:
            raise UsageError(f"there is no way {method!r} to find ranges", fix=f"use one of: {', '.join(RANGES)}")
        tensor = self.tensors.get(name)
        if tensor is None or tensor.high < tensor.low:
            raise UsageError(
                f"calibration gave no finite value of the tensor {name!r}", fix="give other calibration data"
            )
        full = min(tensor.low, 0.0), max(tensor.high, 0.0)
        if symmetric:
            full = _mirrored(full)
        if method == MIN_MAX or tensor.counts is None:
            return full
        key = name, method, bits, symmetric
        if key not in self._found:
            self._found[key] = _METHODS[method](tensor, full, bits, symmetric)
        return self._found[key]

    def save(self, path: Path) -> None:
        """Write everything to an `.npz`, in one step."""
        import numpy as np

        arrays: dict[str, np.ndarray] = {}
        for index, (name, tensor) in enumerate(self.tensors.items()):
            arrays[f"{index}.name"] = np.array(name)
            arrays[f"{index}.ends"] = np.array([tensor.low, tensor.high, *tensor.usual])
            arrays[f"{index}.numbers"] = np.array([tensor.first, tensor.zeros, tensor.odd])
            if tensor.counts is not None:
                arrays[f"{index}.counts"] = tensor.counts
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub has no keywords for arrays
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Observer:
        """Read what `save` wrote."""
        import numpy as np

        found = cls()
        with np.load(path) as file:
            for index in range(sum(key.endswith(".name") for key in file.files)):
                low, high, *usual = map(float, file[f"{index}.ends"])
                first, zeros, odd = map(int, file[f"{index}.numbers"])
                counts = file[f"{index}.counts"] if f"{index}.counts" in file.files else None
                found.tensors[str(file[f"{index}.name"])] = _Tensor(
                    low, high, first, counts, zeros, odd, (usual[0], usual[1])
                )
        return found


_recent: dict[Path, Observer] = {}


def remembered(base: Artifact, calibration: Calibration, observe: Callable[[Observer], None]) -> Observer:
    """Give what calibration data makes of a float artifact's tensors, from an earlier evaluation where there was one.

    Ranges are found anew for every recipe that a search tries, from one pass over the data: `observe` feeds an empty
    observer, and what it saw is kept beside the artifact under the fingerprints of both.
    """
    home = Path(base.path).parent
    path = home / f"ranges-{base.sha256[:16]}-{calibration.sha256[:16]}.npz"
    if path in _recent:
        return _recent[path]
    if path.exists():
        observer = Observer.load(path)
    else:
        observer = Observer()
        observe(observer)
        observer.save(path)
    while len(_recent) >= RECENT:
        _recent.pop(next(iter(_recent)))
    _recent[path] = observer
    return observer


def _mirrored(ends: Ends) -> Ends:
    most = max(abs(ends[0]), abs(ends[1]))
    return -most, most


def _average(tensor: _Tensor, full: Ends, _bits: int, symmetric: bool) -> Ends:  # noqa: FBT001
    """Hold what a sample's values usually lie between; what is rarely reached is clipped."""
    usual = max(full[0], min(tensor.usual[0], 0.0)), min(full[1], max(tensor.usual[1], 0.0))
    return _mirrored(usual) if symmetric else usual


def _percentile(tensor: _Tensor, full: Ends, _bits: int, symmetric: bool) -> Ends:  # noqa: FBT001
    """Hold `PERCENTILE` of the values: of the magnitudes, or with half of the rest cut at either end.

    As ONNX Runtime's HistogramCollector.compute_percentile divides it.
    """
    if symmetric:
        most = _quantile(tensor.bins(folded=True), tensor.zeros, PERCENTILE)
        return -most, most
    bins, cut = tensor.bins(), (1 - PERCENTILE) / 2
    total = tensor.zeros + bins.counts.sum()
    negative = _Bins(-bins.highs[::-1], -bins.lows[::-1], bins.counts[::-1])
    # Both ends by the same rule: the share of all values that lie beyond.
    low, high = -_quantile(negative, 0, 1 - cut, total), _quantile(bins, 0, 1 - cut, total)
    return max(min(low, 0.0), full[0]), min(max(high, 0.0), full[1])


def _quantile(bins: _Bins, below: float, share: float, total: float | None = None) -> float:
    """Find the value that `share` of all values do not exceed; values within a bin are spread evenly."""
    import numpy as np

    total = below + float(bins.counts.sum()) if total is None else total
    beyond = np.cumsum(bins.counts[::-1])[::-1]  # values in this bin and above
    allowed = (1 - share) * total
    inside = np.flatnonzero(beyond > allowed)
    if not inside.size:
        return 0.0
    index = int(inside[-1])
    part = (beyond[index] - allowed) / bins.counts[index]
    return float(bins.lows[index] + min(1.0, part) * (bins.highs[index] - bins.lows[index]))


def _mse(tensor: _Tensor, full: Ends, bits: int, symmetric: bool) -> Ends:  # noqa: FBT001
    """Minimise the mean squared error of rounding to the levels and clipping to the range.

    A lone outlier is clipped only as far as that costs less than coarser levels cost all others: one of a thousand
    deviations is clipped to 160 among four million Gaussian values, and not at all among fewer than a million.
    """
    bins = tensor.bins()
    steps = _steps(bits, symmetric)
    return _sought(full, symmetric, lambda ends: quantization_error(bins, ends, steps))


def _steps(bits: int, symmetric: bool) -> int:  # noqa: FBT001
    """Count the steps between the levels: -127..127 where the range is symmetric, else all of -128..127."""
    return (1 << bits) - (2 if symmetric else 1)


def quantization_error(bins: _Bins, ends: Ends, steps: int) -> float:
    """Sum the squared errors of quantizing a histogram to a range cut into `steps` steps.

    Within a bin from a to b, values are taken to be spread evenly, so that with q the width of a step the error is
    q^2 (F(b/q) - F(a/q)) / (b/q - a/q), where F(x) = round(x)/12 + (x - round(x))^3/3 is the integral of
    (x - round(x))^2; beyond an end e it is (c - e)^2 + (b - a)^2/12 around the middle c, and zero itself has none.
    """
    import numpy as np

    low, high = ends
    width = (high - low) / steps
    if width <= 0:
        return math.inf
    middles = (bins.lows + bins.highs) / 2
    sizes = np.maximum(bins.highs - bins.lows, 1e-9 * np.abs(middles))
    a, b = (middles - sizes / 2) / width, (middles + sizes / 2) / width
    inside = width * width * (_integral(b) - _integral(a)) / (b - a)
    beyond = np.maximum(low - middles, middles - high)
    error = np.where(beyond > 0, beyond * beyond + sizes * sizes / 12, inside)
    return float(np.dot(error, bins.counts))


def _integral(x: np.ndarray) -> np.ndarray:
    import numpy as np

    nearest = np.floor(x + 0.5)
    return nearest / 12 + (x - nearest) ** 3 / 3


def _entropy(tensor: _Tensor, full: Ends, bits: int, symmetric: bool) -> Ends:  # noqa: FBT001
    """Minimise the Kullback-Leibler divergence of the quantized from the original distribution.

    After Migacz, "8-bit inference with TensorRT" (GTC 2017): what lies beyond a threshold is added to the last bins of
    the original but not to the quantized one; each level's mass is spread over those of its bins that hold anything.
    Unlike there, the bins are fractions of the threshold tried, not of the greatest value, and zeros, which every
    range has exactly, are left out. With 16 bits the levels are finer than the histogram, and the full range is best.
    """
    if bits > 8:
        return full
    bins = tensor.bins(folded=symmetric)
    levels = (1 << bits) // 2 if symmetric else 1 << bits

    def divergence(ends: Ends) -> float:
        return _divergence(bins, (0.0, ends[1]) if symmetric else ends, levels)

    return _sought(full, symmetric, divergence)


def _divergence(bins: _Bins, ends: Ends, levels: int) -> float:
    import numpy as np

    if ends[1] <= ends[0]:
        return math.inf
    edges = np.linspace(ends[0], ends[1], levels * BINS_PER_LEVEL + 1)
    held = _spread(bins, edges)
    total = float(bins.counts.sum())
    original = held.copy()
    original[0] += float(bins.counts[bins.highs <= ends[0]].sum())
    original[-1] += max(0.0, total - float(original.sum()))
    filled = held.reshape(levels, BINS_PER_LEVEL) > 0
    masses = held.reshape(levels, BINS_PER_LEVEL).sum(axis=1) / np.maximum(filled.sum(axis=1), 1)
    quantized = np.where(filled, masses[:, None], 0.0).reshape(-1)
    if quantized.sum() <= 0:
        return math.inf
    p, q = original / original.sum(), quantized / quantized.sum()
    present = p > 0
    q = np.maximum(q, NEARLY_EMPTY / q.size)
    return float(np.sum(p[present] * np.log(p[present] / q[present])))


def _spread(bins: _Bins, edges: np.ndarray) -> np.ndarray:
    """Spread a histogram's counts over other bins, as if values were even within its own."""
    import numpy as np

    # Neighbouring bins share an edge, and a bin of one value has no width; what is interpolated must ascend.
    highs = np.maximum(bins.highs, np.nextafter(bins.lows, np.inf))
    points = np.maximum.accumulate(np.stack((bins.lows, highs), axis=1).reshape(-1))
    sums = np.cumsum(bins.counts)
    totals = np.stack((sums - bins.counts, sums), axis=1).reshape(-1)
    return np.diff(np.interp(edges, points, totals, left=0.0))


def _sought(full: Ends, symmetric: bool, cost: Callable[[Ends], float]) -> Ends:  # noqa: FBT001
    """Find the range of least `cost` within the full one: first one threshold for both ends, then each end finer.

    The full range is the first that is tried, and only a better one replaces it.
    """
    most = max(-full[0], full[1])
    best, least = full, cost(full)

    def offer(tried: Iterable[Ends]) -> bool:
        nonlocal best, least
        before = best
        for ends in tried:
            value = cost(ends)
            if value < least:
                best, least = ends, value
        return best != before

    offer(_capped(full, most * 2 ** (-step / COARSE)) for step in range(1, OCTAVES * COARSE // 2))
    for part in FINE:
        factors = (2 ** (-1 / part), 2 ** (1 / part))
        while offer(_moved(best, full, factors, symmetric=symmetric)):
            pass
    return best


def _capped(full: Ends, threshold: float) -> Ends:
    return max(full[0], -threshold), min(full[1], threshold)


def _moved(ends: Ends, full: Ends, factors: tuple[float, float], *, symmetric: bool) -> list[Ends]:
    """List the neighbours of a range: either end, or in a symmetric one both, moved by a factor."""
    low, high = ends
    tried = [(max(full[0], low * factor), min(full[1], high * factor)) for factor in factors]
    if not symmetric and low < 0 < high:
        tried = [(max(full[0], low * factor), high) for factor in factors]
        tried += [(low, min(full[1], high * factor)) for factor in factors]
    return [one for one in tried if one != ends]


_METHODS: dict[str, Callable[[_Tensor, Ends, int, bool], Ends]] = {
    MIN_MAX: lambda _tensor, full, _bits, _symmetric: full,
    AVERAGE: _average,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
