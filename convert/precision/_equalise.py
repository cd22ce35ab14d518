"""Weight equalisation: the channels between two layers scaled to like ranges, which changes no output.

After Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721):
what lies between two layers is positively homogeneous, f(s x) = s f(x) for s > 0, so that a channel divided by s where
it is made and multiplied by s where it is taken gives the same. With r1 and r2 the greatest weights of a channel on
either side, s = sqrt(r1 / r2) makes them equal. Here s is rounded to a power of two: they differ by at most a factor of
two then, and floats are scaled without any rounding.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import RouteError
from convert.formats import FORMATS
from convert.precision import Reduction
from convert.spec import fingerprint

if TYPE_CHECKING:
    import numpy as np

#: Passes over all pairs; a layer in the middle of a chain belongs to two of them. Nagel et al. go on until nothing
#: changes; with powers of two that takes less than ten on networks of fifty layers.
PASSES = 50

#: Where a tensor has its channels: after the batch, or last.
FIRST, LAST = "first", "last"

#: Transposes that move the channels of an image, and where from and to.
MOVES: dict[tuple[int, ...], tuple[str, str]] = {(0, 3, 1, 2): (LAST, FIRST), (0, 2, 3, 1): (FIRST, LAST)}


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
    flattens: bool = False  # whether all axes but the batch become one


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
                flattened = along if step.flattens else flattened
                along, tensor = step.becomes or along, step.gives
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


def on_equalised(task: Reduction, write: Callable[[Path, Path], int]) -> Reduction:
    """Put the equalised float file in the place of a task's base, where its recipe asks for that.

    `write` writes a file with equalised weights and gives how many arrays changed. What it wrote serves the other
    recipes of a search. Raises RouteError where there is nothing to equalise.
    """
    if not task.recipe.equalised:
        return task
    path = equalised_path(Path(task.base.path))
    if not path.exists():
        # A folder of its own, in one step: a large ONNX file has its data in a second file that it names.
        partial = path.parent.with_name(f".{path.parent.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if not write(Path(task.base.path), partial / path.name):
            shutil.rmtree(partial)
            raise RouteError(
                "no two layers of this file have only between them what lets a scale per channel pass",
                fix="take a recipe without equalised weights",
            )
        partial.rename(path.parent)
    companions = FORMATS[task.base.format].companions(path)
    digest, size = fingerprint(path, companions)
    base = replace(task.base, path=str(path), sha256=digest, file_bytes=size, companions=tuple(map(str, companions)))
    return replace(task, base=base)


def equalised_path(base: Path) -> Path:
    """Name the equalised file of a float file, which lies in a folder beside it."""
    return base.parent / "equalised" / base.name
