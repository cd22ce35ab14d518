"""Weight equalisation: the channels between two layers scaled to like ranges, which changes no output.

After Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721):
what lies between two layers is positively homogeneous, f(s x) = s f(x) for s > 0, so that a channel divided by s where
it is made and multiplied by s where it is taken gives the same. With r1 and r2 the greatest weights of a channel on
either side, s = sqrt(r1 / r2) makes them equal. Here s is rounded to a power of two: they differ by at most a factor of
two then, and floats are scaled without any rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Passes over all pairs; a layer in the middle of a chain belongs to two of them. Nagel et al. go on until nothing
#: changes; with powers of two that takes less than ten on networks of fifty layers.
PASSES = 50

#: Where a tensor has its channels: after the batch, or last.
FIRST, LAST = "first", "last"


@dataclass(frozen=True, slots=True)
class Linear:
    """One layer that multiplies with constant weights; an axis is None where its channels cannot be scaled.

    What is fused into it must be positively homogeneous where `out_axis` is given.
    """

    takes: str
    gives: str
    weights: Hashable
    in_axis: int | None
    out_axis: int | None
    biases: tuple[Hashable, ...] = ()
    along: str = LAST  # where what it takes and gives has its channels


@dataclass(frozen=True, slots=True)
class Passing:
    """One operator that works on each channel alone and is positively homogeneous."""

    takes: str
    gives: str
    along: str = ""  # where channels must be; either place where it is empty
    becomes: str = ""  # where they are afterwards; as they were where it is empty


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers with nothing between them that a scale per channel does not pass through."""

    first: Linear
    second: Linear
    flattened: str = ""  # where the channels were when other axes were merged with theirs

    @property
    def keys(self) -> set[Hashable]:
        """What may be scaled."""
        return {self.first.weights, *self.first.biases, self.second.weights}


def pairs(
    linears: Sequence[Linear], passing: Sequence[Passing], uses: Mapping[str, int], outputs: Sequence[str]
) -> Iterator[Pair]:
    """Find the pairs of a graph; `uses` counts how many operators read each tensor, `outputs` are the graph's own."""
    layers = {linear.takes: linear for linear in linears}
    passes = {one.takes: one for one in passing}
    for first in linears:
        if first.out_axis is None:
            continue
        tensor, along, flattened = first.gives, first.along, ""
        while uses.get(tensor, 0) == 1 and tensor not in outputs:
            if tensor in passes and passes[tensor].along in ("", along):
                step = passes[tensor]
                if step.becomes:
                    along, flattened = step.becomes, along
                tensor = step.gives
                continue
            second = layers.get(tensor)
            if second is not None and second.in_axis is not None and second.along == along:
                yield Pair(first, second, flattened)
            break


def equalise(arrays: Mapping[Hashable, np.ndarray], found: Sequence[Pair]) -> dict[Hashable, np.ndarray]:
    """Scale the weights and biases of all pairs until nothing changes; give those that changed, float32 as before.

    Weights that several layers share stay as they are.
    """
    import numpy as np

    shared = _shared(found)
    fit = [pair for pair in found if not pair.keys & shared and _matches(arrays, pair)]
    now = {key: np.array(arrays[key]) for pair in fit for key in pair.keys}
    changed: set[Hashable] = set()
    for _ in range(PASSES):
        if not sum(_scale(now, pair, changed) for pair in fit):
            break
    return {key: now[key] for key in now if key in changed}


def _shared(found: Sequence[Pair]) -> set[Hashable]:
    layers = {id(layer): layer for pair in found for layer in (pair.first, pair.second)}.values()
    counts: Counter[Hashable] = Counter(key for layer in layers for key in (layer.weights, *layer.biases))
    return {key for key, count in counts.items() if count > 1}


def _matches(arrays: Mapping[Hashable, np.ndarray], pair: Pair) -> bool:
    """Whether the second layer takes a whole number of inputs per channel of the first, and all is finite float32."""
    import numpy as np

    if not all(arrays[key].dtype == np.float32 and np.isfinite(arrays[key]).all() for key in pair.keys):
        return False
    made = arrays[pair.first.weights].shape[pair.first.out_axis or 0]
    taken = arrays[pair.second.weights].shape[pair.second.in_axis or 0]
    return made == taken or (bool(pair.flattened) and taken % made == 0)


def _scale(now: dict[Hashable, np.ndarray], pair: Pair, changed: set[Hashable]) -> int:
    """Equalise one pair in place; gives how many channels it changed."""
    import numpy as np

    first, second = now[pair.first.weights], now[pair.second.weights]
    out_axis, in_axis = pair.first.out_axis or 0, pair.second.in_axis or 0
    made = _greatest(first, out_axis)
    taken = _greatest(second, in_axis)
    share = taken.size // made.size
    # A channel's values are neighbours where channels came first, and lie a channel count apart where they came last.
    taken = (taken.reshape(-1, share).T if pair.flattened == FIRST else taken.reshape(share, -1)).max(axis=0)
    scales = np.ones_like(made)
    both = (made > 0) & (taken > 0)
    scales[both] = np.exp2(np.round(np.log2(made[both] / taken[both]) / 2))
    count = int((scales != 1).sum())
    if count:
        spread = np.repeat(scales, share) if pair.flattened == FIRST else np.tile(scales, share)
        now[pair.first.weights] = _times(first, 1 / scales, out_axis)
        now[pair.second.weights] = _times(second, spread, in_axis)
        for key in pair.first.biases:
            bias = now[key]
            now[key] = (bias.reshape(-1) / scales).reshape(bias.shape).astype(np.float32)
        changed |= pair.keys
    return count


def _greatest(weights: np.ndarray, axis: int) -> np.ndarray:
    import numpy as np

    others = tuple(index for index in range(weights.ndim) if index != axis)
    return np.asarray(np.abs(weights).max(axis=others), np.float64)


def _times(weights: np.ndarray, scales: np.ndarray, axis: int) -> np.ndarray:
    import numpy as np

    shape = [1] * weights.ndim
    shape[axis] = -1
    return np.asarray(weights * scales.reshape(shape), np.float32)


def equalised_beside(out: Path) -> Path:
    """Name the equalised float file of an artifact, which its ideal is built from; it lies beside the artifact."""
    return out.with_name(f"equalised-{out.name}")
