"""Refining what passed: other tools' ranges where they keep more, and a faster assignment where float is faster."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

from convert.building import Chosen, Tried
from convert.errors import EdgeproofError, RouteError, RunStopped
from convert.faster import LOSS_DB, SIZE_ALLOWANCE, WORTH_SECONDS, Bounds, Hastened, hasten
from convert.precision import QUANTIZERS, Layer, no_layers
from convert.recipe import AVERAGE, MIN_MAX, Recipe
from convert.search import Point as SearchPoint
from convert.search import Score, front
from convert.spec import BATCH, CALIBRATED, FLOAT_IO, INT8, INT8_DYNAMIC, Artifact
from convert.trials import Bench, announced, described, layers_of, score_recipe, sqnr_of, try_recipe
from validators.examine import seen_as_file
from validators.prove import Proof
from validators.report import Attempt, GivenUp, Point
from validators.runtimes import Drag, Subject, blames, drags
from validators.turns import Racer, Share, Turns, take_turns
from validators.verdict import Status

#: The ranges that tools have by default: TFLiteConverter and ONNX Runtime take the ends of all samples,
#: ai-edge-quantizer their average, with which a ViT keeps 26.4 dB instead of 25.4.
DEFAULTS = (MIN_MAX, AVERAGE)

#: What other ranges must gain for another proof to be worth its time; below it, two measurements of one file differ by
#: the order of additions.
GAIN_DB = 0.05

#: The longest that a search for speed takes: it tries at most a handful of recipes.
HASTEN_SECONDS = 120.0

#: The precisions whose kernels are to be faster than float; others are for size, or for accelerators.
FOR_SPEED = (INT8, INT8_DYNAMIC)


def other_defaults(bench: Bench, base: Attempt, tried: list[Tried]) -> list[Tried]:
    """Try what passed with the ranges of other tools' defaults; give the trials that keep more of the signal.

    Each costs one quantization and one run over the rows that quality is judged on; only what gains is proven.
    """
    request, found = bench.run.request, []
    passed = [item for item in tried if item.passed]
    if request.recipe or request.search_seconds <= 0 or not passed:
        return []
    best = max(map(sqnr_of, passed))
    for item in passed:
        recipe, proof = item.attempt.recipe, item.proof
        if recipe is None or proof is None or recipe.precision not in CALIBRATED:
            continue
        quantizer = QUANTIZERS[recipe.quantizer]
        for ranges in DEFAULTS:
            if ranges == recipe.ranges or ranges not in quantizer.ranges:
                continue
            other = dataclasses.replace(recipe, ranges=ranges)
            try:
                score = score_recipe(bench, base, quantizer, other, proof)
            except RouteError as error:
                bench.run.say(f"{recipe.format}: {recipe.precision} with {ranges} ranges: {error.message}")
                continue
            if not score.passed or score.sqnr_db is None or score.sqnr_db < best + GAIN_DB:
                continue
            bench.run.say(f"{recipe.format}: {ranges} ranges keep {score.sqnr_db:.1f} dB, not {best:.1f}")
            proven = try_recipe(bench, base, quantizer, other)
            if proven.passed:
                best = max(best, sqnr_of(proven))
                found.append(proven)
    return found


def hastened(bench: Bench, base: Chosen, chosen: Chosen, tried: list[Tried]) -> Chosen:
    """Search for a faster assignment where what passed is slower than the float artifact; say what became of it.

    An artifact that takes and gives integers may be for hardware without floats, so that none is put into it for speed.
    """
    request = bench.run.request
    if request.io != FLOAT_IO:
        return chosen
    if request.recipe or not request.threads or request.search_seconds <= 0:
        return chosen
    try:
        return _hastened(bench, base, chosen, tried)
    except RunStopped:
        raise
    except EdgeproofError as error:
        return _remarked(chosen, f"whether it could be faster could not be told: {error.message}")


def _hastened(bench: Bench, base: Chosen, chosen: Chosen, tried: list[Tried]) -> Chosen:
    float_one, request, start = base.attempt, bench.run.request, _start(chosen, tried)
    if start is None or float_one is None or float_one.artifact is None or chosen.attempt is None:
        return chosen
    attempt, proof, kept = start.attempt, start.proof, chosen.attempt.artifact
    if attempt.artifact is None or attempt.recipe is None or proof is None or kept is None or chosen.proof is None:
        raise ValueError("what passed was made and proven")
    track = _Track(bench, base)
    share = now = track.share(kept, chosen.proof)
    if not now.slower or now.seconds / now.median < WORTH_SECONDS:
        return chosen
    if attempt.artifact != kept:
        share = track.share(attempt.artifact, proof)
    recipe, label = attempt.recipe, f"{attempt.artifact.format}: {attempt.recipe.precision}"
    bench.run.say(f"{label}: {now.median:.2f} times the float latency, looking for a faster assignment")
    quantizer = QUANTIZERS[recipe.quantizer]
    layers = layers_of(bench, float_one.artifact, quantizer, recipe)
    float_seconds = share.seconds / share.median
    known = Score(
        True,  # noqa: FBT003
        sqnr_of(start),
        attempt.quality.agreement if attempt.quality else None,
        attempt.artifact.file_bytes,
        share.seconds,
    )
    found = hasten(
        layers,
        recipe,
        known,
        track.blamed(attempt.artifact, proof),
        quantizer.keeps[0],
        Bounds(
            attempt.artifact.file_bytes + SIZE_ALLOWANCE * float_one.artifact.file_bytes,
            sqnr_of(Tried(chosen.attempt, chosen.proof)) - LOSS_DB,
            float_seconds * min(now.median, share.median),
        ),
        lambda one: score_recipe(
            bench,
            float_one,
            quantizer,
            one,
            proof,
            lambda artifact: float_seconds * track.share(artifact, proof).median,
        ),
        budget_seconds=min(request.search_seconds, HASTEN_SECONDS),
        clock=time.monotonic,
        progress=announced(bench, label),
    )
    bench.run.workers.require_open()
    return _reported(track, chosen, start, found, layers, float_seconds)


def _start(chosen: Chosen, tried: list[Tried]) -> Tried | None:
    """Choose what to make faster: what is kept, or, where its quantizer leaves no layer out, another that passed."""
    if chosen.report.status is not Status.PASS or chosen.attempt is None or chosen.proof is None:
        return None
    others = sorted((item for item in tried if item.passed), key=sqnr_of, reverse=True)
    for item in (Tried(chosen.attempt, chosen.proof), *others):
        recipe = item.attempt.recipe
        if recipe is None or recipe.precision not in FOR_SPEED:
            return None
        quantizer = QUANTIZERS[recipe.quantizer]
        if quantizer.keeps and quantizer.layers is not no_layers:
            return item
    return None


@dataclass(slots=True)
class _Track:
    """Where reduced artifacts are timed in turns with the float one."""

    bench: Bench
    base: Chosen

    def share(self, artifact: Artifact, proof: Proof) -> Share:
        """Time an artifact in turns with the float one; raises EdgeproofError where it cannot be."""
        float_one, float_proof = self.base.attempt, self.base.proof
        if float_one is None or float_one.artifact is None or float_proof is None or float_proof.binding is None:
            raise ValueError("only what was made of a proven float artifact is timed beside it")
        if proof.binding is None:
            raise ValueError("only what was proven is timed")
        cases, threads = self.bench.baseline.cases, self.bench.run.request.threads[0]
        pairs = ((float_one.artifact, float_proof.binding), (artifact, proof.binding))
        job = Turns(
            proof.runtime.name,
            tuple(Racer(Subject(seen_as_file(file), threads=threads), binding.feeds) for file, binding in pairs),
            cases.path,
            cases.fitting({BATCH: 1, **dict(proof.binding.fixed)})[0],
        )
        stage = f"turns-{Path(artifact.path).parent.name}"
        return self.bench.run.workers.run(stage, take_turns, job, proof.runtime.environment).value.shares[1]

    def blamed(self, artifact: Artifact, proof: Proof) -> tuple[str, ...]:
        """Name what the engine does not compute on its fast path."""
        job = Drag(proof.runtime.name, artifact.path)
        stage = f"blames-{Path(artifact.path).parent.name}"
        return self.bench.run.workers.run(stage, blames, job, proof.runtime.environment).value

    def why(self, artifact: Artifact, proof: Proof) -> str:
        """Say what makes an artifact slow."""
        job = Drag(proof.runtime.name, artifact.path)
        stage = f"drags-{Path(artifact.path).parent.name}"
        return self.bench.run.workers.run(stage, drags, job, proof.runtime.environment).value


def _reported(
    track: _Track, chosen: Chosen, start: Tried, found: Hastened, layers: tuple[Layer, ...], float_seconds: float
) -> Chosen:
    """Prove what a search for speed found, and write down what it tried and what the trade is."""
    float_one, file, recipe = track.base.attempt, start.attempt.artifact, start.attempt.recipe
    if float_one is None or float_one.artifact is None or file is None or recipe is None or start.proof is None:
        raise ValueError("a search for speed begins with what was made")
    whole, scores = float_one.artifact.file_bytes, found.scores
    before = _told(scores[recipe], float_seconds, whole)
    points = (*(dataclasses.replace(one, kept=False) for one in chosen.report.points), *_points(found, recipe))
    chosen = dataclasses.replace(chosen, report=dataclasses.replace(chosen.report, points=points))
    if found.recipe is None:
        words = f"{before}; none of {len(scores) - 1} way(s) to leave layers in float is faster and nearly as small"
        words += ", and there was no time for all (--search-seconds)" if found.unfinished else ""
        passed = [score for score in scores.values() if score.passed]
        best = min(passed, key=lambda score: math.inf if score.latency_seconds is None else score.latency_seconds)
        words += f"; the fastest of them takes {_told(best, float_seconds, whole)}" if best != scores[recipe] else ""
        why = track.why(file, start.proof)
        return _remarked(chosen, f"{words}; {why}" if why else words)
    proven = try_recipe(track.bench, float_one, QUANTIZERS[recipe.quantizer], found.recipe)
    if not proven.passed:
        return _remarked(chosen, f"{before}; a faster assignment is not proven: {proven.attempt.reason}")
    more = found.recipe.kept[len(recipe.kept) :]
    after = _told(scores[found.recipe], float_seconds, whole)
    operators = {layer.name: layer.operator for layer in layers}
    attempts = (*chosen.report.attempts, proven.attempt)
    report = dataclasses.replace(
        chosen.report,
        status=proven.attempt.status,
        reason=proven.attempt.reason,
        artifact=proven.attempt.artifact,
        attempts=attempts,
        kept=len(attempts) - 1,
        given_up=(
            *chosen.report.given_up,
            *(GivenUp(one.layer, operators.get(one.layer, ""), one.precision, None, "latency") for one in more),
        ),
    )
    words = f"with {len(more)} more layer(s) left in float it takes {after}; without, {before}"
    return _remarked(Chosen(report, proven.proof), words)


def _points(found: Hastened, start: Recipe) -> tuple[Point, ...]:
    """Write down all that was tried, with the front of it."""
    points = tuple(
        SearchPoint(
            recipe,
            score.sqnr_db,
            score.agreement,
            score.file_bytes,
            score.latency_seconds,
            score.passed,
            recipe == (found.recipe or start),
            score.reason,
        )
        for recipe, score in found.scores.items()
    )
    return described(points, front(points))


def _told(score: Score, float_seconds: float, float_bytes: int) -> str:
    """Say what one assignment costs."""
    latency = (
        "an unknown time" if score.latency_seconds is None else f"{score.latency_seconds / float_seconds:.2f} times"
    )
    quality = "" if score.sqnr_db is None or math.isinf(score.sqnr_db) else f", SQNR {score.sqnr_db:.1f} dB"
    return f"{latency} the float latency at {score.file_bytes / float_bytes:.0%} of the size{quality}"


def _remarked(chosen: Chosen, words: str) -> Chosen:
    report = dataclasses.replace(chosen.report, remarks=(*chosen.report.remarks, words))
    return dataclasses.replace(chosen, report=report)
