"""Trials: one way of quantizing after another, made of a proven float artifact, and proven or only scored."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convert.building import Run, Tried
from convert.errors import EdgeproofError, RouteError, RunStopped, UsageError
from convert.formats import FORMATS
from convert.precision import Layer, Listing, Quantizer, Reduction, list_layers, perform
from convert.precision._equalise import equalised_path
from convert.recipe import Calibration, Recipe
from convert.search import Point as SearchPoint
from convert.search import Progress, Score
from convert.spec import FP32, Artifact, Request
from convert.worker import repeat_command
from validators.prove import Baseline, Proof, prove, score
from validators.quality import Quality
from validators.report import Attempt, Point, Stage, StageRun
from validators.verdict import Status


@dataclass(frozen=True, slots=True)
class Bench:
    """What quantizing needs of a run: its source's answers and the data that ranges come from."""

    run: Run
    baseline: Baseline
    calibration: Calibration | None
    _count: Iterator[int] = field(default_factory=itertools.count)

    def label(self, base: Artifact, recipe: Recipe) -> str:
        """Name the stages of one trial; every trial has its own."""
        return f"{base.format}-{recipe.precision}-{recipe.quantizer}-{next(self._count)}"


def try_recipe(bench: Bench, base: Attempt, quantizer: Quantizer, recipe: Recipe) -> Tried:
    """Quantize by a recipe and prove the result; whatever fails becomes the attempt's reason."""
    if base.artifact is None:
        raise ValueError("only what was made is quantized")
    label = bench.label(base.artifact, recipe)
    name, title = f"{base.plan}+{quantizer.name}", f"{base.title}, then {quantizer.title}"
    stages = list(base.stages)
    try:
        _require_same(bench, base, recipe)
        artifact = _reduce(bench, base.artifact, quantizer, recipe, label, stages)
    except EdgeproofError as error:
        reason = Attempt(name, title, Stage.CONVERT, error.message, error.fix, stages=tuple(stages), recipe=recipe)
        return Tried(reason, None)
    request = bench.run.request
    proof = prove(
        bench.run.workers,
        bench.baseline,
        artifact,
        label,
        allow=request.allow,
        base=str(equalised_path(Path(base.artifact.path)) if recipe.equalised else base.artifact.path),
        gate=request.gate,
    )
    judged = proof.attempt(name, title, artifact)
    return Tried(dataclasses.replace(judged, stages=(*stages, *judged.stages), recipe=recipe), proof)


def _require_same(bench: Bench, base: Attempt, recipe: Recipe) -> None:
    """Raise UsageError where a recipe was made for another float artifact or other data: it would not repeat."""
    if recipe.base and recipe.base != base.plan:
        raise UsageError(
            f"the recipe is for the artifact that {recipe.base} makes, and {base.plan}'s was kept",
            fix=f"add --via {recipe.base}",
        )
    here = bench.calibration.sha256 if bench.calibration else ""
    if recipe.calibration_sha256 and recipe.calibration_sha256 != here:
        raise UsageError(
            "the recipe was made with other calibration data, whose ranges differ",
            fix="give the same --calibration, --preprocess, --inputs and --seed, or search anew without --recipe",
        )


def _reduce(
    bench: Bench, base: Artifact, quantizer: Quantizer, recipe: Recipe, label: str, stages: list[StageRun]
) -> Artifact:
    """Run a quantizer in its worker."""
    run = bench.run
    stage = f"quantize-{label}"
    home = run.workers.folder / stage
    if home.exists():
        shutil.rmtree(home)
    task = Reduction(
        recipe=recipe,
        module=quantizer.quantize.__module__,
        base=base,
        source=run.source,
        options=run.options,
        out=str(home / artifact_name(run.request, base.format, recipe.precision)),
        calibration=bench.calibration,
        layout=run.request.layout if FORMATS[base.format].layouts else "keep",
    )
    try:
        done = run.workers.run(stage, perform, task, quantizer.environment)
    except EdgeproofError as error:
        error.fix = error.fix or f"repeat it with: {repeat_command(run.workers.folder / f'{stage}.json')}"
        raise
    stages.append(StageRun(stage, done.seconds, done.command))
    return done.value


def score_recipe(
    bench: Bench,
    base: Attempt,
    quantizer: Quantizer,
    recipe: Recipe,
    like: Proof,
    seconds: Callable[[Artifact], float] | None = None,
) -> Score:
    """Make and judge one of the artifacts that a search tries; it is not kept.

    `seconds` times it where a rough time will not do.

    Raises RouteError where the recipe cannot be carried out, or what it makes does not run.
    """
    run = bench.run
    if base.artifact is None:
        raise ValueError("only what was made is quantized")
    label = bench.label(base.artifact, recipe)
    run.workers.require_open()
    artifact = None
    try:
        artifact = _reduce(bench, base.artifact, quantizer, recipe, label, [])
        quality, median = score(run.workers, bench.baseline, artifact, like, label, run.request.gate)
        median = seconds(artifact) if seconds and quality.status is Status.PASS else median
    except RunStopped:
        raise
    except EdgeproofError as error:
        raise RouteError(error.message) from error
    finally:
        if artifact is not None:
            shutil.rmtree(Path(artifact.path).parent)  # a search makes as many files as the model has layers
    passed = quality.status is Status.PASS
    return Score(passed, signal_db(quality), quality.agreement, artifact.file_bytes, median, quality.reason)


def layers_of(bench: Bench, base: Artifact, quantizer: Quantizer, recipe: Recipe) -> tuple[Layer, ...]:
    """List the layers of a float artifact that a quantizer can leave in other precisions."""
    listing = Listing(quantizer.name, quantizer.quantize.__module__, base.path)
    stage = f"layers-{bench.label(base, recipe)}"
    return bench.run.workers.run(stage, list_layers, listing, quantizer.environment).value.found


def announced(bench: Bench, label: str) -> Progress:
    """Give what says how far a search is, once for each of its steps."""
    said = ""

    def progress(done: int, total: int, words: str) -> None:
        nonlocal said
        if words != said:
            bench.run.say(f"{label}: {words} ({done} of about {total} tries)")
        said = words

    return progress


def described(points: Sequence[SearchPoint], front: Sequence[SearchPoint]) -> tuple[Point, ...]:
    """Write the points of a search as the report has them."""
    return tuple(
        Point(
            recipe=point.recipe,
            passed=point.passed,
            sqnr_db=point.sqnr_db,
            agreement=point.agreement,
            file_bytes=point.file_bytes,
            latency_seconds=point.latency_seconds,
            kept=point.kept,
            front=point in front,
            reason=point.reason,
        )
        for point in points
    )


def artifact_name(request: Request, form: str, precision: str) -> str:
    """Give the file's name of an artifact: the model's, with the precision where it is reduced."""
    middle = "" if precision == FP32 else f".{precision}"
    return f"{request.name}{middle}{FORMATS[form].suffix}"


def preferred(tried: list[Tried]) -> int | None:
    """Choose the artifact that loses least among those that passed; None where none did."""
    passed = [index for index, item in enumerate(tried) if item.passed]
    return max(passed, key=lambda index: (sqnr_of(tried[index]), -index), default=None)


def sqnr_of(item: Tried) -> float:
    """Give the signal to noise that a trial kept, in dB."""
    return signal_db(item.attempt.quality)


def signal_db(quality: Quality | None) -> float:
    """Give the signal to noise that was kept, in dB: without end where nothing was lost, least where it is unknown."""
    if quality is None or not quality.outputs:
        return -math.inf
    return math.inf if quality.sqnr_db is None else quality.sqnr_db
