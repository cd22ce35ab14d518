"""Where error enters: the tensors of two runs matched to each other, and the first operator that errs far more.

An artifact's run and its source's are two series of tensors in the order of execution. Each tensor of the artifact is
matched with one of the source: by what it says of the layers it belongs to, else by its values. Layouts may differ, so
axes are permuted as the values tell, and never as the shape alone does. Error is held against what is usual there: the
source's own rounding where the artifact computes in fp32, the error of the operator's own inputs where it is reduced.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from validators import tolerance
from validators.placing import PRODUCTS, chain_of, next_products

if TYPE_CHECKING:
    import numpy as np

#: Tensors whose values agree within this share of their rms are one and the same without a name that says so.
#: Unrelated activations of one shape differ by 1 and more; what int8 loses in a layer stays under a third of the signal
#: wherever the artifact is of any use.
SAME_FP32, SAME_REDUCED = 0.02, 0.35

#: How far the sums that a tensor is recognised by may be apart, as a share of its rms, before it is compared in full.
ALIKE = 4.0

#: A tensor without a name and with other values is still taken for the next one of the source where it follows it so
#: far. A tensor with two channels swapped keeps 0.7 of its correlation, unrelated ones have less than 0.3.
FOLLOWS = 0.5

#: By how much an operator of a reduced precision may make the error of its inputs and its own rounding greater. Those
#: of a right int8 MobileNet measured at most 1.1; with a weight's scale 1.3 times another, 6 and more.
GROWTH = 3.0

#: The relative error that one operator adds by rounding alone, by precision.
OWN_SHARE = {
    "fp16": 1e-3,
    "int8-dynamic": 0.02,
    "int8": 0.02,
    "int16x8": 0.01,
    "int8-weights": 0.01,
    "int4-weights": 0.1,
}

#: What is usual for one operator by itself, given the artifact's own numbers: as rmse over the distance of two numbers
#: that its output can hold, or, where that is a float, over the rms. Right int8 TFLite files measured at most 0.20
#: steps (a BERT's RSQRT; a MobileNetV3's hard-swish 0.17, products 0.02), floats of int8-dynamic and fp16 files 3e-4.
#: Where a weight's scale is 1.3 times another it was 5 steps and more, and 1.05 times 0.5 to 1.4.
STEP_SHARE, FLOAT_SHARE = 0.2, 5e-3

#: An error is gone where that of all that is computed from it is so many times smaller. A ReLU leaves at least half.
GONE = 4.0

#: By how much a kernel may exceed the bound that holds for a model's outputs: those of single layers have few elements.
SLACK = 4.0

MOST_RATIO = 1e9  # that a bound is made of; NaN and infinity aside, an output errs less

MOST_TRIED = 24  # tensors of one layer that are compared in full, nearest sums first

#: Operators that hand on every error of what they take.
LINEAR = frozenset(
    {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL", "ADD", "SUB"}
    | {"Conv", "Gemm", "MatMul", "Add", "Sub", "FusedConv", "FusedMatMul", "FusedGemm"}
    | {"aten::convolution", "aten::_convolution", "aten::addmm", "aten::mm", "aten::bmm", "aten::linear"}
    | {"aten::add", "aten::sub"}
)

MOST_AXES = 5  # of tensors whose axes are permuted; 120 orders


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor that a run computed.

    `layers` are the layers it says it belongs to, the one whose output it is first; `moves` says that its operator only
    moves or converts numbers, whose name then tells of its neighbours; `partial` that it is on the way to a layer's
    output, and is none.
    """

    name: str
    operator: str
    inputs: tuple[int, ...] = ()  # positions of the tensors that were computed before and it is computed from
    layers: tuple[str, ...] = ()
    line: str = ""  # of the source code, where it is known
    moves: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """The tensors of one run in the order of execution, with their arrays over the same cases; None where unknown."""

    values: tuple[Value, ...]
    arrays: Sequence[Sequence[np.ndarray] | None]
    outputs: tuple[tuple[str, int], ...] = ()  # names of the model's outputs and where they are


@dataclass(frozen=True, slots=True)
class Point:
    """A tensor of the artifact and the one of the source it stands for.

    `error` is rmse over the source's rms; `alone`, where it is known, what the operator errs by itself, given the
    artifact's own numbers; `usual` what that, or else the error, would be where nothing is wrong.
    """

    position: int
    reference: int
    error: float
    usual: float
    axes: tuple[int, ...] = ()
    by: str = "values"  # how it was matched: outputs, names, values or order
    alone: float | None = None

    @property
    def ratio(self) -> float:
        """How many times the usual error it errs."""
        judged = self.error if self.alone is None else self.alone
        return judged / self.usual if self.usual else (math.inf if judged else 0.0)


@dataclass(frozen=True, slots=True)
class Blame:
    """The first operator that introduces error, or None where none does.

    `through` are operators before it that nothing is known of, which may be guilty in its place. `between` are the
    source's tensors that lie between what goes into it and what comes out.
    """

    guilty: Point | None
    before: float  # the largest error of what goes in
    bound: float  # of the ratio, from which on a tensor counts as wrong
    points: tuple[Point, ...]
    through: tuple[int, ...] = ()
    between: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Alone:
    """What the operators of a reduced artifact should make of the artifact's own numbers, by the artifact's positions.

    `answers` are rounded as the artifact stores them; `steps` how far apart the numbers are that each tensor can hold,
    0 for floats.
    """

    answers: Mapping[int, Sequence[np.ndarray]]
    steps: Mapping[int, float]


@dataclass(slots=True)
class _Sketch:
    """Arrays of one tensor over all cases with axes of size 1 left out, and the sums that tell it from others."""

    arrays: list[np.ndarray]
    rms: float = 0.0
    sums: tuple[float, ...] = field(default=())

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> _Sketch | None:
        """Sketch a tensor of floating numbers; None for what cannot be compared."""
        import numpy as np

        if any(array.dtype.kind != "f" or array.size < 2 or not np.isfinite(array).all() for array in arrays):
            return None
        found = [np.squeeze(array) for array in arrays]
        total = sum(array.size for array in found)
        sums = [0.0, 0.0, 0.0]
        for array in found:
            wide = array.astype(np.float64, copy=False)
            sums = [sums[0] + float(wide.sum()), sums[1] + float(np.abs(wide).sum()), sums[2] + float((wide**2).sum())]
        rms = math.sqrt(sums[2] / total)
        return cls(found, rms, (sums[0] / total, sums[1] / total, rms)) if rms else None

    def fits(self, other: _Sketch) -> bool:
        """Whether both have the same numbers of elements in the same sizes of axes, or flattened."""
        return len(self.arrays) == len(other.arrays) and all(
            mine.size == theirs.size for mine, theirs in zip(self.arrays, other.arrays, strict=True)
        )

    def apart(self, other: _Sketch) -> float:
        """How far the sums of both are apart, as a share of the other's rms."""
        return max(abs(mine - theirs) for mine, theirs in zip(self.sums, other.sums, strict=True)) / other.rms

    def alike(self, other: _Sketch, same: float) -> bool:
        """Whether the sums allow that both are the same but for an error of the share `same`."""
        return self.apart(other) <= ALIKE * same


def arrange(actual: np.ndarray, expected: np.ndarray) -> Iterator[tuple[int, ...] | None]:
    """Yield the orders of axes in which one array has the other's shape; None stands for a reshape."""
    axes = tuple(range(actual.ndim))
    found = False
    if actual.ndim == expected.ndim and actual.ndim <= MOST_AXES:
        for order in itertools.permutations(axes):
            if tuple(actual.shape[axis] for axis in order) == expected.shape:
                found = True
                yield order
    elif actual.shape == expected.shape:
        found = True
        yield axes
    if not found and actual.size == expected.size:
        yield None


def arranged(array: np.ndarray, axes: tuple[int, ...] | None, expected: np.ndarray) -> np.ndarray:
    """Give an array in the other's shape."""
    return array.reshape(expected.shape) if axes is None else array.transpose(axes)


def error_of(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], axes: tuple[int, ...] | None) -> float:
    """Give the rmse over the expected rms, over all cases."""
    import numpy as np

    error = signal = 0.0
    for mine, theirs in zip(actual, expected, strict=True):
        wide = theirs.astype(np.float64, copy=False)
        error += float(np.sum((arranged(mine, axes, theirs).astype(np.float64) - wide) ** 2))
        signal += float(np.sum(wide**2))
    return math.sqrt(error / signal) if signal else (math.inf if error else 0.0)


def _nearest(actual: _Sketch, expected: _Sketch) -> tuple[float, tuple[int, ...] | None]:
    """Find the order of axes in which two tensors differ least, by their first case, and the error over all."""
    best: tuple[float, tuple[int, ...] | None] = (math.inf, None)
    for axes in arrange(actual.arrays[0], expected.arrays[0]):
        found = error_of(actual.arrays[:1], expected.arrays[:1], axes)
        if found < best[0]:
            best = (found, axes)
            if found < tolerance.FLOOR:
                break
    if math.isinf(best[0]):
        return best
    try:
        return error_of(actual.arrays, expected.arrays, best[1]), best[1]
    except ValueError:  # another case has its sizes elsewhere: it is another tensor
        return math.inf, None


def _correlation(actual: _Sketch, expected: _Sketch, axes: tuple[int, ...] | None) -> float:
    import numpy as np

    mine, theirs = arranged(actual.arrays[0], axes, expected.arrays[0]).ravel(), expected.arrays[0].ravel()
    mine, theirs = mine - mine.mean(), theirs - theirs.mean()
    scale = float(np.sqrt((mine**2).sum() * (theirs**2).sum()))
    return float((mine * theirs).sum()) / scale if scale else 0.0


def _apart_in_spread(actual: _Sketch, expected: _Sketch) -> float:
    """Give the rms difference of both tensors' values in the order of their size, wherever each of them stands."""
    import numpy as np

    mine, theirs = np.sort(actual.arrays[0], axis=None), np.sort(expected.arrays[0], axis=None)
    return float(np.sqrt(np.mean((mine - theirs) ** 2)))


def _error_but_for(actual: _Sketch, expected: _Sketch, axes: tuple[int, ...] | None, axis: int) -> float:
    """Give the error that is left where a constant for each place along an axis is taken off, the same in all cases."""
    import numpy as np

    differences = [
        np.moveaxis(arranged(mine, axes, theirs) - theirs, axis, 0).reshape(theirs.shape[axis], -1)
        for mine, theirs in zip(actual.arrays, expected.arrays, strict=True)
        if mine.ndim == len(axes or ()) or axes is None
    ]
    if len({difference.shape[0] for difference in differences}) != 1:
        return math.inf
    together = np.concatenate(differences, axis=1)
    together = together - together.mean(axis=1, keepdims=True)
    return math.sqrt(float((together**2).mean())) / expected.rms


def words_of(layer: str) -> tuple[str, ...]:
    """Split a layer's path, written with slashes or dots.

    >>> words_of("model/blocks.1/act")
    ('model', 'blocks', '1', 'act')
    """
    return tuple(word for word in re.split(r"[/.]", layer) if word)


def belongs(layer: str, path: str) -> int:
    """Say how many words of a source's layer path are found, together and in order, in what an artifact calls a layer.

    An artifact may leave out containers that are never called: then all its words but the outermost must be found in
    the path, in order and up to its end. 0 where neither is so.
    """
    said, sought = words_of(layer), words_of(path)
    if any(said[at : at + len(sought)] == sought for at in range(len(said) - len(sought) + 1)):
        return len(sought)
    rest = iter(sought)
    if len(said) > 1 and sought and said[-1] == sought[-1] and all(word in rest for word in said[1:]):
        return len(said) - 1
    return 0


class _Matcher:
    """Matches the tensors of an artifact with those of its source."""

    def __init__(self, artifact: Series, reference: Series, same: float) -> None:
        self._artifact, self._reference, self._same = artifact, reference, same
        sketched = [None if arrays is None else _Sketch.of(arrays) for arrays in reference.arrays]
        self._references = {at: sketch for at, sketch in enumerate(sketched) if sketch is not None}
        self._layers: dict[str, list[int]] = {}
        for at in self._references:
            for layer in reference.values[at].layers[:1]:
                self._layers.setdefault(layer, []).append(at)
        self.found: dict[int, Point] = {}

    def run(self) -> dict[int, Point]:
        """Match every tensor that can be, in order."""
        ends = {position: name for name, position in self._artifact.outputs}
        places = dict(self._reference.outputs)
        for position, arrays in enumerate(self._artifact.arrays):
            sketch = None if arrays is None else _Sketch.of(arrays)
            if sketch is None:
                continue
            value = self._artifact.values[position]
            if position in ends and places.get(ends[position]) in self._references:
                self._take(position, sketch, [places[ends[position]]], "outputs", math.inf)
                continue
            if self._by_name(position, sketch):
                continue
            if not self._take(position, sketch, self._alike(sketch), "values", self._same) and not (
                value.moves or value.partial
            ):
                self._follow(position, sketch)
        return self.found

    def _by_name(self, position: int, sketch: _Sketch) -> bool:
        """Match a tensor with one of the layer whose output it says it is, its name's first.

        Where it is far nearer to one of a later layer of its name, it is that one: converters fold a layer's last step
        into the next one and name that after both. It is never an earlier one: an activation may be missing.
        """
        value = self._artifact.values[position]
        if value.moves or value.partial or not value.operator:
            return False
        named = [fitting for layer in value.layers if (fitting := self._fitting(layer, sketch))]
        if not named:
            return False
        right = [self.found[at] for at in _known_before(self._artifact, self.found, position)]
        after = max((point.reference for point in right if point.error < self._same), default=-1)
        first = self._nearest_of(sketch, [at for at in named[0] if at > after] or named[0])
        every = self._nearest_of(sketch, sorted({at for fitting in named for at in fitting}))
        later = every.error * GONE < first.error and every.reference > first.reference
        best = every if later else first
        if best.error > self._same:
            # NOTE: Why: Keras numbers the scopes of a model that is called again anew, so that a file's conv2d_1 may be
            # the source's conv2d, and there may be a conv2d_1 too.
            others = set(self._alike(sketch)) - {at for fitting in named for at in fitting}
            if others and self._take(position, sketch, sorted(others), "values", SAME_FP32):
                return True
        self.found[position] = _at(best, position, "names")
        return True

    def _fitting(self, layer: str, sketch: _Sketch) -> list[int]:
        """List the source's tensors of a layer that have a tensor's sizes; numbers at names' ends may be others."""
        plain = "/".join(re.sub(r"_\d+$", "", word) for word in words_of(layer))
        scores = {path: max(belongs(layer, path), belongs(plain, path)) for path in self._layers}
        best = max(scores.values(), default=0)
        paths = [path for path, score in scores.items() if score == best] if best else []
        return [at for path in paths for at in self._layers[path] if sketch.fits(self._references[at])]

    def _alike(self, sketch: _Sketch) -> list[int]:
        return [at for at, other in self._references.items() if sketch.fits(other) and sketch.alike(other, self._same)]

    def _nearest_of(self, sketch: _Sketch, candidates: list[int]) -> Point:
        """Find the nearest of some tensors, the earliest of equals; of many, those whose sums are nearest are tried."""
        if len(candidates) > MOST_TRIED:
            apart = {at: sketch.apart(self._references[at]) for at in candidates}
            candidates = sorted(sorted(candidates, key=apart.__getitem__)[:MOST_TRIED])
        best = Point(-1, candidates[0], math.inf, 0.0)
        for at in candidates:
            error, axes = _nearest(sketch, self._references[at])
            if error < best.error:
                best = Point(-1, at, error, 0.0, axes or ())
        return best

    def _take(self, position: int, sketch: _Sketch, candidates: list[int], by: str, most: float) -> bool:
        """Match a tensor with the nearest of some, if one is near enough."""
        best = self._nearest_of(sketch, candidates) if candidates else None
        if best is None or math.isinf(best.error) or best.error > most:
            return False
        self.found[position] = _at(best, position, by)
        return True

    def but_for_a_constant(self, position: int) -> Point | None:
        """Match a tensor on the way to a layer's output with that, leaving out what differs by channel alone.

        So a product is compared before its bias is added. None where it does not say which layer it is of.
        """
        value, arrays = self._artifact.values[position], self._artifact.arrays[position]
        sketch = _Sketch.of(arrays) if arrays is not None and value.partial else None
        if sketch is None:
            return None
        best: Point | None = None
        for at in (at for layer in value.layers for at in self._fitting(layer, sketch)):
            other = self._references[at]
            for axes in arrange(sketch.arrays[0], other.arrays[0]):
                for axis in range(other.arrays[0].ndim):
                    error = _error_but_for(sketch, other, axes, axis)
                    if best is None or error < best.error:
                        best = Point(position, at, error, 0.0, axes or (), "names")
        return best

    def placed(self, position: int, wrong: set[int]) -> Point | None:
        """Match a product whose values resemble nothing with the next one of the source after what it is computed from.

        None for another operator, and where the source has no such product of its size that is not found right
        elsewhere. Of the steps that may be fused into it, it is the one whose values are spread the most alike.
        """
        value, arrays = self._artifact.values[position], self._artifact.arrays[position]
        sketch = _Sketch.of(arrays) if arrays is not None and value.operator in PRODUCTS else None
        if sketch is None:
            return None
        known = _known_before(self._artifact, self.found, position)
        right = {point.reference for at, point in self.found.items() if at not in wrong}
        starts = {self.found[at].reference for at in known if at not in wrong}
        for at in next_products(self._reference.values, starts):
            chain = chain_of(self._reference.values, at)
            fitting = [one for one in chain if one in self._references and sketch.fits(self._references[one])]
            if at in fitting and not right & set(fitting):
                best = min(fitting, key=lambda one: _apart_in_spread(sketch, self._references[one]))
                error, axes = _nearest(sketch, self._references[best])
                return Point(position, best, error, 0.0, axes or (), "order")
        return None

    def _follow(self, position: int, sketch: _Sketch) -> None:
        """Match a tensor of other values with the one after its inputs that it resembles most."""
        known = [self.found[at].reference for at in _known_before(self._artifact, self.found, position)]
        after = max(known, default=-1)
        best: tuple[float, int, tuple[int, ...] | None] | None = None
        for at, other in self._references.items():
            if at > after and sketch.fits(other):
                _, axes = _nearest(sketch, other)
                alike = _correlation(sketch, other, axes)
                if alike > FOLLOWS and (best is None or alike > best[0] + 1e-3):
                    best = (alike, at, axes)
        if best is not None:
            error = error_of(sketch.arrays, self._references[best[1]].arrays, best[2])
            self.found[position] = Point(position, best[1], error, 0.0, best[2] or (), "order")


def _at(point: Point, position: int, by: str) -> Point:
    return Point(position, point.reference, point.error, point.usual, point.axes, by)


def _known_before(series: Series, found: dict[int, Point], position: int) -> list[int]:
    """List the nearest matched tensors that a tensor is computed from."""
    seen: set[int] = set()
    pending = list(series.values[position].inputs)
    known = []
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        if at in found:
            known.append(at)
        else:
            pending += series.values[at].inputs
    return sorted(known)


def match(artifact: Series, reference: Series, precision: str = "fp32") -> dict[int, Point]:
    """Match the tensors of an artifact with those of its source, by the artifact's positions; errors are measured."""
    return _Matcher(artifact, reference, SAME_FP32 if precision == "fp32" else SAME_REDUCED).run()


def blame(artifact: Series, reference: Series, native: Series | None = None, precision: str = "fp32") -> Blame:
    """Find the first operator of an artifact that introduces error.

    `reference` are the source's tensors in float64, or at its own precision where it has no other; `native` the same
    tensors at its own precision, whose error is what is usual in fp32.
    """
    matcher = _Matcher(artifact, reference, SAME_REDUCED if precision != "fp32" else SAME_FP32)
    found = matcher.run()
    points = {at: _weighed(point, found, artifact, reference, native, precision) for at, point in sorted(found.items())}
    reduced = precision != "fp32"
    least = GROWTH if reduced else tolerance.RATIO_BOUNDS["fp32"] * SLACK
    wrong = {at for at, point in points.items() if point.ratio > least and artifact.values[at].operator}
    clear = _cleared(artifact, points, wrong)
    points = {at: point for at, point in points.items() if at not in wrong or at not in clear}
    # NOTE: Why not the bound alone: one kernel that rounds a little more than the source's must not be taken for what
    # made the outputs wrong a thousand times over.
    ends = [points[at].ratio for _, at in artifact.outputs if at in points]
    bound = max(least, math.sqrt(least * min(max(ends, default=least), MOST_RATIO)))
    suspects = [at for at in sorted(wrong) if at not in clear]
    guilty = next((points[at] for at in suspects if points[at].ratio > bound), None)
    if guilty is None:
        guilty = next((points[at] for at in suspects), None)
    if guilty is None:
        return Blame(None, 0.0, bound, tuple(points.values()))
    hidden = []
    for at in _unknown_before(artifact, points, guilty.position):
        if at in clear or not artifact.values[at].operator or not artifact.values[at].inputs:
            continue
        point = matcher.but_for_a_constant(at) or matcher.placed(at, wrong)
        if point is None:
            hidden.append(at)
            continue
        point = _weighed(point, found, artifact, reference, native, precision)
        if point.ratio > bound:
            guilty, points[at] = point, point
            break
    known = _known_before(artifact, points, guilty.position)
    before = max((points[at].error for at in known), default=0.0)
    through = tuple(at for at in hidden if at in _unknown_before(artifact, points, guilty.position))
    between = _between(reference, {points[at].reference for at in known}, guilty.reference)
    return Blame(guilty, before, bound, tuple(points[at] for at in sorted(points)), through, between)


def blame_alone(artifact: Series, reference: Series, alone: Alone, precision: str) -> Blame:
    """Find the first operator of a reduced artifact that errs by itself, given the artifact's own numbers.

    Rounding that adds up along a deep network hides what one layer adds to it, but not what that layer makes of its
    inputs. `reference` are the source's tensors, which say what layer it is.
    """
    matcher = _Matcher(artifact, reference, SAME_REDUCED if precision != "fp32" else SAME_FP32)
    found = matcher.run()
    points: dict[int, Point] = {}
    for at, point in sorted(found.items()):
        points[at] = _weighed(point, found, artifact, reference, None, precision)
    for at, answers in sorted(alone.answers.items()):
        share, usual = _share_alone(artifact.arrays[at], answers, alone.steps[at])
        nearest = found.get(at) or _next_known(artifact, found, at)
        if share is not None and nearest is not None:
            points[at] = Point(at, nearest.reference, nearest.error, usual, nearest.axes, nearest.by, share)
    judged = [points[at] for at in sorted(points) if points[at].alone is not None and artifact.values[at].operator]
    worst = max((point.ratio for point in judged), default=0.0)
    bound = max(GROWTH, math.sqrt(GROWTH * min(worst, MOST_RATIO)))
    guilty = next((point for point in judged if point.ratio > bound), None)
    curve = tuple(points[at] for at in sorted(found))
    if guilty is None:
        return Blame(None, 0.0, bound, curve)
    if guilty.position not in found:
        unlike = {at for at, point in found.items() if point.error > SAME_REDUCED}
        own = matcher.placed(guilty.position, unlike)
        if own is not None:
            guilty = Point(own.position, own.reference, own.error, guilty.usual, own.axes, own.by, guilty.alone)
    known = _known_before(artifact, found, guilty.position)
    before = max((found[at].error for at in known), default=0.0)
    hidden = _unknown_before(artifact, points, guilty.position)
    through = tuple(at for at in hidden if artifact.values[at].operator and artifact.values[at].inputs)
    between = _between(reference, {found[at].reference for at in known}, guilty.reference)
    return Blame(guilty, before, bound, curve, through, between)


def _share_alone(
    actual: Sequence[np.ndarray] | None, answers: Sequence[np.ndarray], step: float
) -> tuple[float | None, float]:
    """Give what an operator errs by itself, over the rms of its answers, and what is usual; None: not comparable."""
    import numpy as np

    if actual is None or [a.shape for a in actual] != [a.shape for a in answers] or not answers[0].size:
        return None, 0.0
    if not all(np.isfinite(array).all() for array in (*actual, *answers)):
        return None, 0.0
    elements = sum(array.size for array in answers)
    rms = math.sqrt(sum(float(np.sum(array.astype(np.float64) ** 2)) for array in answers) / elements)
    if not rms:
        return (0.0 if not any(array.any() for array in actual) else math.inf), 0.0
    usual = STEP_SHARE * step / rms if step else FLOAT_SHARE
    return error_of(actual, answers, tuple(range(answers[0].ndim))), usual


def _next_known(artifact: Series, found: dict[int, Point], position: int) -> Point | None:
    """Find the first matched tensor that is computed from another one."""
    reached = {position}
    for at in range(position + 1, len(artifact.values)):
        if reached & set(artifact.values[at].inputs):
            if at in found:
                return found[at]
            reached.add(at)
    return None


def _weighed(
    point: Point,
    found: dict[int, Point],
    artifact: Series,
    reference: Series,
    native: Series | None,
    precision: str,
) -> Point:
    """Give a point with the error that is usual at it."""
    if precision != "fp32":
        own = OWN_SHARE.get(precision, 0.02)
        errors = [found[at].error for at in _known_before(artifact, found, point.position)]
        return _with_usual(point, math.hypot(max(errors, default=0.0), own))
    noise = 0.0
    exact = reference.arrays[point.reference]
    rounded = native.arrays[point.reference] if native is not None else None
    if exact is not None and rounded is not None:
        noise = error_of(rounded, exact, tuple(range(exact[0].ndim)))
    return _with_usual(point, max(noise, tolerance.FLOOR))


def _with_usual(point: Point, usual: float) -> Point:
    return Point(point.position, point.reference, point.error, usual, point.axes, point.by)


def _cleared(artifact: Series, points: dict[int, Point], wrong: set[int]) -> set[int]:
    """Name the tensors that cannot have introduced the error: those that are right, and what only those come from.

    A wrong tensor whose error is gone in all that is computed from it was matched with a neighbour of what it stands
    for, as a product is before its bias is added, or does not matter; so was one whose error is gone in a single
    product or sum, which no error leaves unharmed.
    """
    consumers: dict[int, list[int]] = {}
    for at, value in enumerate(artifact.values):
        for source in value.inputs:
            consumers.setdefault(source, []).append(at)
    ends = {position for _, position in artifact.outputs}
    clear: set[int] = set()
    known: dict[int, set[int]] = {}  # the matched tensors next after each, or itself
    for at in reversed(range(len(artifact.values))):
        taking = consumers.get(at, [])
        after = set().union(*(known[user] for user in taking))
        known[at] = {at} if at in points else after
        if at in wrong:
            gone = {user for user in after if user in clear and (user in wrong or _is_gone(points, at, user))}
            linear = any(artifact.values[user].operator in LINEAR for user in gone - wrong)
            if after and at not in ends and (linear or gone == after):
                clear.add(at)
        elif at in points or not artifact.values[at].operator or any(user in clear for user in taking):
            clear.add(at)
    return clear


def _is_gone(points: dict[int, Point], at: int, user: int) -> bool:
    return points[user].error * GONE < points[at].error


def _unknown_before(series: Series, found: dict[int, Point], position: int) -> list[int]:
    """List the unmatched tensors between a tensor and the matched ones it is computed from, in order."""
    seen: set[int] = set()
    pending = list(series.values[position].inputs)
    while pending:
        at = pending.pop()
        if at not in seen and at not in found:
            seen.add(at)
            pending += series.values[at].inputs
    return sorted(seen)


def _between(reference: Series, known: set[int], last: int) -> tuple[int, ...]:
    """List the source's tensors after the latest of the known ones up to the last, along the graph."""
    seen: set[int] = set()
    pending = [last]
    while pending:
        at = pending.pop()
        if at not in seen and at not in known and reference.values[at].operator:
            seen.add(at)
            pending += reference.values[at].inputs
    return tuple(at for at in sorted(seen) if at > max(known)) if known else (last,)
