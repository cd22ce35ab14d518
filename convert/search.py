"""The search for a recipe that passes: better ranges, equalised weights, then the fewest layers in a higher precision.

Pure logic: what a recipe is worth, `evaluate` says. The order is that of what each step costs the user: other ranges
cost nothing, equalised weights nothing, a layer left in float costs size and often speed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from convert.errors import RouteError
from convert.precision import Layer
from convert.recipe import Kept, Recipe
from convert.spec import FP32

#: Groups of neighbouring layers that a network is first measured in; one of sixteen layers or fewer is measured layer
#: by layer, and one bad layer of 200 is found with 16 + 2 log2(200 / 16) = 24 evaluations instead of 200.
GROUPS = 16

#: The groups there are at least, however slow an evaluation is. Where there is no time for all, the network is cut in
#: fewer, larger ones: a search that ends while it measures has nothing but measurements to answer with, in which almost
#: all layers are in float (a MobileNetV2 at 7 s per evaluation passed with 50 of its 53 layers so).
FEWEST_GROUPS = 4

#: The share of the noise that must be pinned on single layers before the rest is left in groups.
RESOLVED = 0.9

#: The share of the time left that finding the sensitive layers may take; the rest is for trying sets of them.
SENSITIVITY_SHARE = 0.5

#: The share of the noise whose layers are the first set that is tried.
KNEE = 0.9

#: Latencies that differ by less count as equal: the same file against itself on a busy machine differed by 30 %.
SAME_LATENCY = 1.3

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Score:
    """What one recipe's artifact is worth: whether the gate passes it, its quality and what it costs."""

    passed: bool
    sqnr_db: float | None  # None where it could not be measured
    agreement: float | None
    file_bytes: int
    latency_seconds: float | None = None  # None where it was not timed
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One recipe that was tried, for the report."""

    recipe: Recipe
    sqnr_db: float | None
    agreement: float | None
    file_bytes: int
    latency_seconds: float | None
    passed: bool
    kept: bool = False  # whether the search ended with it
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """One layer that is not quantized as the rest.

    `alone_sqnr_db` is what the network keeps where this layer alone is quantized: the lower, the more it costs. None
    where there was no time to measure it.
    """

    layer: str
    operator: str
    precision: str
    alone_sqnr_db: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search ended with: the best point, all points in the order they were measured, and their front.

    `front` are the points that no other beats in size, latency and quality at once. `unfinished` says what the search
    would still have tried where the time was over; empty where it came to its end.
    """

    point: Point
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    given_up: tuple[GivenUp, ...] = ()
    unfinished: str = ""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a quantizer can do about lost quality; see `convert.precision.Quantizer`."""

    ranges: tuple[str, ...] = ()
    equalises: bool = False
    layers: tuple[Layer, ...] = ()
    keeps: tuple[str, ...] = (FP32,)  # the first is that in which layers are left while others are measured


class _OutOfTime(Exception):
    """The next evaluation would not end within the budget."""


def search(
    abilities: Abilities,
    start: Recipe,
    evaluate: Callable[[Recipe], Score],
    *,
    budget_seconds: float,
    clock: Callable[[], float],
    progress: Progress,
    known: Score | None = None,
) -> Found:
    """Find the cheapest recipe that passes, or the best there is time for.

    `evaluate` makes and judges a recipe's artifact; it may raise RouteError where the recipe cannot be carried out.
    `known` is the score of `start` where it was judged before. No evaluation begins that, judged by the longest so
    far, would end after `budget_seconds`. Equal scores give equal results; time only ends the search.
    """
    run = _Run(abilities, start, evaluate, clock() + budget_seconds, clock, progress)
    if known is not None:
        run.scores[start] = known
    unfinished = ""
    try:
        _improve(run)
    except _OutOfTime:
        unfinished = run.doing
    return run.result(unfinished)


@dataclass(slots=True)
class _Run:
    """What is known so far."""

    abilities: Abilities
    start: Recipe
    evaluate: Callable[[Recipe], Score]
    deadline: float
    clock: Callable[[], float]
    progress: Progress
    scores: dict[Recipe, Score] = field(default_factory=dict)
    noises: dict[tuple[int, ...], float] = field(default_factory=dict)  # of groups of layers quantized alone
    shares: dict[int, float] = field(default_factory=dict)  # of the noise, by layer
    probes: set[Recipe] = field(default_factory=set)  # that measure groups of layers
    longest: float = 0.0  # seconds of one evaluation
    expected: int = 0  # evaluations in all, as far as can be told
    doing: str = ""

    def score(self, recipe: Recipe) -> Score:
        """Give a recipe's score, measuring it the first time; raises _OutOfTime where there is no time for that."""
        self.probes.discard(recipe)
        if recipe in self.scores:
            return self.scores[recipe]
        began = self.clock()
        if began + self.longest > self.deadline:
            raise _OutOfTime
        self.progress(len(self.scores), max(self.expected, len(self.scores) + 1), self.doing)
        try:
            score = self.evaluate(recipe)
        except RouteError as error:
            score = Score(False, None, None, 0, None, error.message)  # noqa: FBT003
        self.longest = max(self.longest, self.clock() - began)
        self.scores[recipe] = score
        return score

    def expect(self, more: int, doing: str) -> None:
        """Say what comes next and how many evaluations it takes at most."""
        self.doing, self.expected = doing, len(self.scores) + more

    def cost(self, recipe: Recipe) -> float:
        """Size plus latency, both relative to the start's; size alone where not both were timed."""
        score, first = self.scores[recipe], self.scores[self.start]
        size = score.file_bytes / max(1, first.file_bytes)
        if score.latency_seconds is None or not first.latency_seconds:
            return size
        slower = score.latency_seconds / first.latency_seconds
        return size + (slower if not 1 / SAME_LATENCY < slower < SAME_LATENCY else 1.0)

    def best(self) -> Recipe:
        """Choose the cheapest answer that passed, else that of the best quality; then the earlier.

        What only measures some layers, with all others in float, is an answer where no other passes.
        """
        answers = [recipe for recipe in self.scores if recipe not in self.probes]
        for some in (answers, list(self.scores)):
            passed = [recipe for recipe in some if self.scores[recipe].passed]
            if passed:
                return min(passed, key=lambda recipe: (self.cost(recipe), -_quality(self.scores[recipe])))
        return max(answers, key=lambda recipe: _quality(self.scores[recipe]))

    def result(self, unfinished: str) -> Found:
        """Put together what there is to report."""
        if not self.scores:
            self.scores[self.start] = Score(False, None, None, 0, None, "there was no time to judge it")  # noqa: FBT003
        best = self.best()
        points = tuple(
            Point(
                recipe,
                score.sqnr_db,
                score.agreement,
                score.file_bytes,
                score.latency_seconds,
                score.passed,
                recipe == best,
                score.reason,
            )
            for recipe, score in self.scores.items()
        )
        point = next(point for point in points if point.kept)
        return Found(point, points, front(points), self.given_up(best), unfinished)

    def given_up(self, recipe: Recipe) -> tuple[GivenUp, ...]:
        """List the layers that a recipe leaves in other precisions, the most sensitive first."""
        places = {layer.name: index for index, layer in enumerate(self.abilities.layers)}
        found = []
        for kept in recipe.kept:
            index = places[kept.layer]
            noise = self.noises.get((index,))
            alone = None if noise is None else _decibels(noise)
            found.append(GivenUp(kept.layer, self.abilities.layers[index].operator, kept.precision, alone))
        return tuple(sorted(found, key=lambda item: math.inf if item.alone_sqnr_db is None else item.alone_sqnr_db))


def front(points: Iterable[Point]) -> tuple[Point, ...]:
    """Choose the points that no other beats: smaller or faster or better in quality, and in nothing worse."""
    judged = [point for point in points if point.sqnr_db is not None]

    def values(point: Point) -> tuple[float, float, float]:
        return point.file_bytes, point.latency_seconds or 0.0, -(point.sqnr_db or 0.0)

    def beaten(point: Point) -> bool:
        mine = values(point)
        return any(
            values(other) != mine and all(a <= b for a, b in zip(values(other), mine, strict=True)) for other in judged
        )

    return tuple(point for point in judged if not beaten(point))


def _improve(run: _Run) -> None:
    """Take the steps in order until one passes."""
    ranges = run.abilities.ranges
    run.expect(len(ranges) + run.abilities.equalises, "judging it as it is")
    if run.score(run.start).passed:
        return
    base = _other_ranges(run, run.start)
    if not run.scores[base].passed:
        base = _equalised(run, base)
    if run.scores[base].passed or not run.abilities.layers or not run.abilities.keeps:
        return
    _sensitivity(run, base)
    chosen = _enough(run, base)
    if chosen is not None:
        chosen = _lighter(run, chosen)
        _give_back(run, chosen)
        _name_the_price(run, base)


def _other_ranges(run: _Run, recipe: Recipe) -> Recipe:
    """Try the other ways to find ranges; give the best by quality, the given one first among equals."""
    tried = [recipe]
    others = [method for method in run.abilities.ranges if method != recipe.ranges]
    for left, method in enumerate(others):
        run.expect(len(others) - left + run.abilities.equalises, f"trying {method} ranges")
        tried.append(replace(recipe, ranges=method))
        run.score(tried[-1])
    return max(tried, key=lambda one: _worth(run.scores[one]))


def _equalised(run: _Run, recipe: Recipe) -> Recipe:
    """Try equalised weights with the best ranges so far, and with those of the start, which they may suit better."""
    if not run.abilities.equalises or recipe.equalised:
        return recipe
    methods = dict.fromkeys((recipe.ranges, run.start.ranges))
    tried = [recipe]
    for method in methods:
        run.expect(len(methods), "equalising weights")
        tried.append(replace(recipe, ranges=method, equalised=True))
        run.score(tried[-1])
    return max(tried, key=lambda one: _worth(run.scores[one]))


def _sensitivity(run: _Run, base: Recipe) -> None:
    """Measure what groups of layers cost when they alone are quantized, the worst split until single layers are left.

    NOTE: Why alone: noise adds up, so that a second bad layer hides what leaving a first one in float would gain, and
    a tensor with an outlier spoils the layer that makes it and the layer that takes it; measured alone, both show.
    Layers of groups that there is no time or no reason to split share the noise of their group.
    """
    count = len(run.abilities.layers)
    until = run.clock() + SENSITIVITY_SHARE * (run.deadline - run.clock())
    affordable = int((until - run.clock()) / run.longest) if run.longest else GROUPS
    units = _parts(tuple(range(count)), min(count, GROUPS, max(FEWEST_GROUPS, affordable)))
    for left, unit in enumerate(units):
        groups = "" if len(units) == count else f" in {len(units)} groups"
        run.expect(2 * len(units) - left, f"measuring what {count} layers{groups} cost")
        _measure(run, base, unit)
    while run.clock() + run.longest < until:
        total = sum(run.noises[unit] for unit in units)
        several = [unit for unit in units if len(unit) > 1]
        if sum(run.noises[unit] for unit in several) <= (1 - RESOLVED) * total:
            break
        worst = max(several, key=lambda unit: run.noises[unit])
        halves = _parts(worst, 2)
        run.expect(2 * len(several), f"looking for the sensitive of {count} layers")
        for half in halves:
            _measure(run, base, half)
        place = units.index(worst)
        units[place : place + 1] = halves
    run.shares = {index: run.noises[unit] / len(unit) for unit in units for index in unit}


def _parts(unit: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Cut a group into `count` parts of neighbours, as equal as can be."""
    ends = [len(unit) * part // count for part in range(count + 1)]
    return [unit[low:high] for low, high in itertools.pairwise(ends)]


def _measure(run: _Run, base: Recipe, unit: tuple[int, ...]) -> float:
    """Measure the noise power, relative to the signal's, of the network with a group of layers alone quantized."""
    if unit not in run.noises:
        others = [index for index in range(len(run.abilities.layers)) if index not in set(unit)]
        probe = _keeping(run, base, others)
        answer = probe in run.scores and probe not in run.probes
        run.noises[unit] = _noise(run.score(probe))
        if not answer:
            run.probes.add(probe)
    return run.noises[unit]


def _keeping(run: _Run, base: Recipe, layers: Iterable[int]) -> Recipe:
    """Give the recipe with these layers left in the first of the higher precisions, in the order of the network."""
    kept = tuple(Kept(run.abilities.layers[index].name, run.abilities.keeps[0]) for index in sorted(layers))
    return replace(base, kept=kept)


def _enough(run: _Run, base: Recipe) -> Recipe | None:
    """Find the fewest of the worst layers that pass when kept, assuming that more pass where fewer do; None if none.

    Begins with those that make most of the noise, where it also looks again which ranges are best: beside one very
    bad layer nothing could be told about the others. One layer is always quantized; else nothing would be.
    """
    order = sorted(run.shares, key=lambda index: -run.shares[index])
    most = len(order) - 1
    if not most:
        return None
    first = min(most, _knee([run.shares[index] for index in order]))
    run.expect(2 + len(run.abilities.ranges) + 2 * len(order).bit_length(), "leaving the worst layers in float")
    if not run.score(_keeping(run, base, order[:first])).passed:
        base = replace(_other_ranges(run, _keeping(run, base, order[:first])), kept=())
    low, high, step = 0, first, 1
    while not run.score(_keeping(run, base, order[:high])).passed:
        if high == most:
            return None
        low, high, step = high, min(most, high + step), 2 * step
        run.doing = f"leaving {high} of {len(order)} layers in float"
    return _fewest(run, base, order, low, high)


def _knee(noises: Sequence[float]) -> int:
    """Count the worst layers that together make most of the noise."""
    sums = list(itertools.accumulate(noises))
    return 1 + sum(so_far < KNEE * sums[-1] for so_far in sums[:-1])


def _lighter(run: _Run, recipe: Recipe) -> Recipe:
    """Try the layers that weigh least for their noise, as many as weigh less together than those of what passes now."""
    layers = run.abilities.layers
    weights = {layer.name: layer.weight_bytes for layer in layers}
    now = sum(weights[kept.layer] for kept in recipe.kept)
    order = sorted(run.shares, key=lambda index: -run.shares[index] / (1 + layers[index].weight_bytes))
    sums = itertools.accumulate(layers[index].weight_bytes for index in order)
    most = min(sum(so_far < now for so_far in sums), len(order) - 1)
    run.expect(1 + len(recipe.kept) + 2 * len(order).bit_length(), "trying lighter layers")
    if not most or not run.score(_keeping(run, recipe, order[:most])).passed:
        return recipe
    return _fewest(run, recipe, order, 0, most)


def _fewest(run: _Run, base: Recipe, order: Sequence[int], low: int, high: int) -> Recipe:
    """Halve the distance between a count of layers that fails and one that passes until they are neighbours."""
    while high - low > 1:
        middle = (low + high) // 2
        run.doing = f"leaving {middle} of {len(order)} layers in float"
        low, high = (low, middle) if run.score(_keeping(run, base, order[:middle])).passed else (middle, high)
    return _keeping(run, base, order[:high])


def _give_back(run: _Run, recipe: Recipe) -> Recipe:
    """Quantize layers again, or leave them in a cheaper precision, wherever it still passes and costs no more.

    The heaviest for their noise go first; what cost latency when it was quantized stays as it is.
    """
    for layer in _heaviest_first(run, recipe):
        others = tuple(kept for kept in recipe.kept if kept.layer != layer)
        run.expect(len(recipe.kept), "quantizing kept layers again where it still passes")
        cheaper = [replace(recipe, kept=others)]
        cheaper += [
            replace(recipe, kept=tuple(Kept(layer, precision) if k.layer == layer else k for k in recipe.kept))
            for precision in run.abilities.keeps[1:]
        ]
        for tried in cheaper:
            if run.score(tried).passed and run.cost(tried) <= run.cost(recipe):
                recipe = tried
                break
    return recipe


def _heaviest_first(run: _Run, recipe: Recipe) -> list[str]:
    """Order the kept layers by bytes per noise."""
    layers = run.abilities.layers
    names = {kept.layer for kept in recipe.kept}

    def least_noise_for_its_weight(index: int) -> tuple[float, int]:
        return run.shares[index] / (1 + layers[index].weight_bytes), -layers[index].weight_bytes

    kept = [index for index, layer in enumerate(layers) if layer.name in names]
    return [layers[index].name for index in sorted(kept, key=least_noise_for_its_weight)]


def _name_the_price(run: _Run, base: Recipe) -> None:
    """Measure the layers that were given up with their groups, so that each has a number of its own."""
    kept = {item.layer for item in run.best().kept}
    units = [(index,) for index, layer in enumerate(run.abilities.layers) if layer.name in kept]
    missing = [unit for unit in units if unit not in run.noises]
    for left, unit in enumerate(missing):
        run.expect(len(missing) - left, "measuring what each layer costs")
        _measure(run, base, unit)


def _worth(score: Score) -> tuple[bool, float]:
    return score.passed, _quality(score)


def _quality(score: Score) -> float:
    """Order scores by SQNR; what could not be measured comes last."""
    return -math.inf if score.sqnr_db is None or math.isnan(score.sqnr_db) else score.sqnr_db


def _noise(score: Score) -> float:
    """Give the noise power over the signal's; a network that could not be measured counts as lost, at 0 dB."""
    quality = _quality(score)
    return 1.0 if quality == -math.inf else 10 ** (-quality / 10)


def _decibels(noise: float) -> float:
    return math.inf if noise <= 0 else -10 * math.log10(noise)
