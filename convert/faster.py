"""The search for an assignment that is faster: a quantized file slower than the float one is no bargain.

Pure logic: what a recipe is worth, `evaluate` says. Leaving layers in float is what makes a quantized file faster where
the engine has no integer kernel for them, or computes so little in them that converting numbers to integers and back
takes longer. Two things tell which layers those are: the engine names what it runs outside its fast path, and layers
with few weights are those whose float costs next to nothing in size.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from convert.errors import RouteError
from convert.precision import Layer
from convert.recipe import Kept, Recipe
from convert.search import Progress, Score

#: The shares of all weights that are left in float, the lightest layers first. On a MobileNetV3 in ONNX the lightest
#: 40 of 54 layers hold a tenth of the weights; in float they make of 1.5 times the float latency 0.9 times.
SHARES = (0.0, 0.02, 0.05, 0.1, 0.15)

#: How much of the float file's size a faster file may be larger by: the size is what quantizing was for.
SIZE_ALLOWANCE = 0.12

#: How much of the signal, in dB, a faster file may lose. Layers in float gain some, so that it is for noise only.
LOSS_DB = 0.1

#: Where the float file is faster than this nothing is searched for: what an engine does around the operators, 1
#: (LiteRT) to 7 microseconds (ONNX Runtime) for an addition of one number on the machine this was written on, no
#: assignment changes. That it is slower is reported still.
WORTH_SECONDS = 20e-6

#: Latencies that differ by less are the same; see `validators.turns.SAME`.
SAME = 0.05


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a faster file must be: its size in bytes at most, its signal to noise at least, and the latency to beat."""

    file_bytes: float
    sqnr_db: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Hastened:
    """What a search for speed ended with: the best recipe, or None where none is faster, and all scores in order."""

    recipe: Recipe | None
    scores: dict[Recipe, Score]
    unfinished: bool = False


def hasten(
    layers: Sequence[Layer],
    start: Recipe,
    known: Score,
    blamed: Iterable[str],
    keep: str,
    bounds: Bounds,
    evaluate: Callable[[Recipe], Score],
    *,
    budget_seconds: float,
    clock: Callable[[], float],
    progress: Progress,
) -> Hastened:
    """Find the fastest recipe within the bounds that leaves more layers in the precision `keep` than `start` does.

    `known` is the score of `start`; `blamed` are layers that the engine does not run on its fast path. `evaluate` may
    raise RouteError. No evaluation begins that, judged by the longest so far, would end after `budget_seconds`.
    """
    scores = {start: known}
    until, longest = clock() + budget_seconds, 0.0
    tries = list(assignments(layers, start, frozenset(blamed), keep))
    unfinished = False
    for done, recipe in enumerate(tries):
        began = clock()
        if began + longest > until:
            unfinished = True
            break
        progress(done, len(tries), "looking for what makes it slow")
        try:
            scores[recipe] = evaluate(recipe)
        except RouteError as error:
            scores[recipe] = Score(False, None, None, 0, None, error.message)  # noqa: FBT003
        longest = max(longest, clock() - began)
    return Hastened(fastest(scores, bounds), scores, unfinished)


def assignments(layers: Sequence[Layer], start: Recipe, blamed: frozenset[str], keep: str) -> tuple[Recipe, ...]:
    """List what is tried: the blamed layers in float, then the lightest ones too, more and more of them.

    Layers without weights go with the last one before them that has some: between two float layers integers only cost.
    At least one layer with weights stays quantized.
    """
    kept = {item.layer for item in start.kept}
    stretches = _stretches(layers)
    total = sum(weight for weight, _ in stretches) or 1
    order = sorted(stretches, key=lambda stretch: stretch[0])
    sums = list(itertools.accumulate(weight for weight, _ in order))
    found: dict[Recipe, None] = {}
    for share in SHARES:
        count = sum(so_far <= share * total for so_far in sums) if share else 0
        light = {name for _, names in order[: min(count, len(order) - 1)] for name in names}
        chosen = (light | blamed) - kept
        more = tuple(Kept(layer.name, keep) for layer in layers if layer.name in chosen)
        if more:
            found[dataclasses.replace(start, kept=(*start.kept, *more))] = None
    return tuple(found)


def _stretches(layers: Sequence[Layer]) -> list[tuple[int, list[str]]]:
    """Cut the network before every layer with weights: the weights in bytes of each part, and its layers."""
    found: list[tuple[int, list[str]]] = []
    for layer in layers:
        if layer.weight_bytes or not found:
            found.append((layer.weight_bytes, []))
        found[-1][1].append(layer.name)
    return found


def fastest(scores: dict[Recipe, Score], bounds: Bounds) -> Recipe | None:
    """Choose the fastest that passes within the bounds, the smallest of equals; None where none is faster."""

    def seconds(recipe: Recipe) -> float:
        found = scores[recipe].latency_seconds
        return math.inf if found is None else found

    able = [
        recipe
        for recipe, score in scores.items()
        if score.passed
        and score.file_bytes <= bounds.file_bytes
        and (score.sqnr_db is not None and score.sqnr_db >= bounds.sqnr_db)
        and seconds(recipe) < (1 - SAME) * bounds.seconds
    ]
    if not able:
        return None
    least = min(map(seconds, able))
    return min(
        (recipe for recipe in able if seconds(recipe) <= (1 + SAME) * least),
        key=lambda recipe: (scores[recipe].file_bytes, seconds(recipe)),
    )
