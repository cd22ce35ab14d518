"""Quantizing: a target's proven float artifact made at lower precisions, each gated, and rescued where it lost much."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convert import calibration
from convert.building import Chosen, Run, Tried, chosen_of
from convert.errors import EdgeproofError, RouteError, RunStopped, UsageError
from convert.formats import FORMATS
from convert.precision import QUANTIZERS, Listing, Quantizer, Reduction, candidates, list_layers, perform
from convert.precision._equalise import equalised_path
from convert.recipe import Calibration, Recipe, read_recipe
from convert.search import Abilities, Score, search
from convert.spec import CALIBRATED, FLOAT_IO, FP32, Artifact, Request
from convert.worker import repeat_command
from validators.prove import Baseline, Proof, prove, score
from validators.quality import Quality, check_gate
from validators.report import Attempt, GivenUp, Point, Stage, StageRun
from validators.runtimes import runtime_for
from validators.structure import Inspection, inspect
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


def check_precisions(request: Request, kind: str, targets: tuple[str, ...]) -> None:
    """Raise UsageError for precisions that cannot be had, or options that have no meaning with those asked for."""
    reduced = [precision for precision in request.precisions if precision != FP32]
    for precision in reduced:
        for target in targets:
            candidates(target, precision, kind, request.io)
        if precision in CALIBRATED and not request.calibration:
            raise UsageError(
                f"{precision} takes the ranges of activations from data, and none is given",
                fix="add --calibration FILE with some hundred real inputs (.npz, .npy, a folder, a table, "
                "package.module:callable); --calibration random tries it out, not for release",
            )
    gate = request.gate
    if reduced:
        _check_recipe(request, targets)
        check_gate(gate, inputs=bool(request.inputs_file))
        if request.calibration:
            calibration.require_readable(request.calibration, request.preprocess)
        elif request.preprocess:
            raise UsageError(
                "--preprocess is for images to calibrate with, and none are given", fix="add --calibration"
            )
        return
    said = {
        "--calibration": bool(request.calibration),
        "--preprocess": bool(request.preprocess),
        "--io": request.io != FLOAT_IO,
        "--recipe": bool(request.recipe),
        "--labels": bool(gate.labels),
        "--metric": bool(gate.metric),
        "--min-agreement": gate.min_agreement is not None,
        "--max-accuracy-drop": gate.max_accuracy_drop is not None,
        "--min-sqnr-db": gate.min_sqnr_db is not None,
    }
    for option, stated in said.items():
        if stated:
            raise UsageError(
                f"{option} has no meaning for fp32 alone", fix="add --precision int8 or another, or leave it out"
            )


def _check_recipe(request: Request, targets: tuple[str, ...]) -> None:
    if not request.recipe:
        return
    recipe = read_recipe(Path(request.recipe))
    if recipe.format not in targets or recipe.precision not in request.precisions:
        raise UsageError(
            f"{request.recipe} is for {recipe.format} at {recipe.precision}, which is not asked for",
            fix=f"add --to {recipe.format} --precision {recipe.precision}",
        )
    if recipe.io != request.io:
        raise UsageError(f"{request.recipe} was made with --io {recipe.io}", fix=f"add --io {recipe.io}")


def check_source(run: Run) -> None:
    """Raise UsageError for a source that is quantized itself: what it lost cannot be told from what would be lost."""
    kind, reduced = run.source.kind, [name for name in run.request.precisions if name != FP32]
    if not reduced or kind not in FORMATS.names():
        return
    runtime = runtime_for(kind)
    job = Inspection(kind, run.source.path, run.facts.signature)
    facts = run.workers.run("inspect-source", inspect, job, runtime.environment).value
    if facts.precision != FP32:
        raise UsageError(
            f"{run.source.path} is {facts.precision} already, and is not quantized again to {', '.join(reduced)}",
            fix="give the float model it was made from",
        )


def prepare(run: Run) -> Calibration | None:
    """Read the calibration data into samples; None where none was given. Raises UsageError where it does not fit."""
    request = run.request
    if not request.calibration:
        return None
    run.say(f"reading calibration data from {request.calibration}")
    task = calibration.Preparation(
        origin=request.calibration,
        preprocess=request.preprocess,
        signature=run.facts.signature,
        folder=str(run.workers.folder / "calibration"),
        seed=request.seed,
        hold_out=not request.inputs_file,
        evaluation=request.inputs_file,
    )
    return run.workers.run("calibration", calibration.prepare, task, calibration.ENVIRONMENT).value


def quantize(bench: Bench, base: Chosen) -> list[Chosen]:
    """Make a target at every reduced precision asked for, from the float artifact that was chosen."""
    return [_at(bench, base, precision) for precision in bench.run.request.precisions if precision != FP32]


def _at(bench: Bench, base: Chosen, precision: str) -> Chosen:
    target = base.report.target
    attempt = base.attempt
    if attempt is None or attempt.artifact is None or attempt.status is not Status.PASS:
        reason = f"there is no proven float artifact to quantize: {base.report.reason}"
        report = dataclasses.replace(
            base.report, precision=precision, status=Status.FAIL, reason=reason, artifact=None, kept=None
        )
        return Chosen(report, None)
    tried = []
    for quantizer, recipe in _recipes(bench, base, precision):
        bench.run.say(f"{target}: quantizing to {precision} with {quantizer.name}")
        outcome = try_recipe(bench, attempt, quantizer, recipe)
        bench.run.workers.require_open()
        first = outcome.attempt.reason.splitlines()[0]
        bench.run.say(f"{target}: {precision} with {quantizer.name}: {outcome.attempt.status.value}, {first}")
        tried.append(outcome)
    chosen = chosen_of(target, precision, tried, preferred(tried))
    return chosen if chosen.report.status is Status.PASS else rescue(bench, attempt, chosen, tried)


def rescue(bench: Bench, base: Attempt, chosen: Chosen, tried: list[Tried]) -> Chosen:
    """Search for a recipe that passes where what was made is right and lost too much; else leave things as they are."""
    request = bench.run.request
    lossy = [item for item in tried if item.attempt.reached is Stage.QUALITY and item.attempt.recipe is not None]
    if request.recipe or not lossy or request.search_seconds <= 0:
        return chosen
    start = most_hopeful(lossy)
    recipe, proof = start.attempt.recipe, start.proof
    if recipe is None or proof is None or base.artifact is None:
        raise ValueError("what reached the quality gate was quantized and proven")
    quantizer = QUANTIZERS[recipe.quantizer]
    run, label = bench.run, f"{recipe.format}: {recipe.precision}"
    run.say(f"{label}: searching for what passes, {request.search_seconds:g} s at most")
    said = ""

    def progress(done: int, total: int, words: str) -> None:
        nonlocal said
        if words != said:
            run.say(f"{label}: {words} ({done} of about {total} tries)")
        said = words

    listing = Listing(quantizer.name, quantizer.quantize.__module__, base.artifact.path)
    layers = run.workers.run(
        f"layers-{bench.label(base.artifact, recipe)}", list_layers, listing, quantizer.environment
    )
    found = search(
        Abilities(
            quantizer.ranges if recipe.precision in CALIBRATED else (),
            quantizer.equalises,
            layers.value.found,
            quantizer.keeps,
        ),
        recipe,
        lambda one: _score(bench, base, quantizer, one, proof),
        budget_seconds=request.search_seconds,
        clock=time.monotonic,
        progress=progress,
    )
    run.workers.require_open()
    points = tuple(
        Point(
            recipe=point.recipe,
            passed=point.passed,
            sqnr_db=point.sqnr_db,
            agreement=point.agreement,
            file_bytes=point.file_bytes,
            latency_seconds=point.latency_seconds,
            kept=point.kept,
            front=point in found.front,
            reason=point.reason,
        )
        for point in found.points
    )
    given_up = tuple(GivenUp(item.layer, item.operator, item.precision, item.alone_sqnr_db) for item in found.given_up)
    if found.point.recipe != recipe:
        tried = [*tried, try_recipe(bench, base, quantizer, found.point.recipe)]
        kept = preferred(tried)
        chosen = chosen_of(chosen.report.target, recipe.precision, tried, len(tried) - 1 if kept is None else kept)
    remarks = (f"the search ended before {found.unfinished}: give it more with --search-seconds",) * bool(
        found.unfinished
    )
    report = dataclasses.replace(chosen.report, points=points, given_up=given_up, remarks=remarks)
    return dataclasses.replace(chosen, report=report)


def _score(bench: Bench, base: Attempt, quantizer: Quantizer, recipe: Recipe, like: Proof) -> Score:
    """Make and judge one of the artifacts that a search tries; it is not kept.

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
    except RunStopped:
        raise
    except EdgeproofError as error:
        raise RouteError(error.message) from error
    finally:
        if artifact is not None:
            shutil.rmtree(Path(artifact.path).parent)  # a search makes as many files as the model has layers
    passed = quality.status is Status.PASS
    return Score(passed, signal_db(quality), quality.agreement, artifact.file_bytes, median, quality.reason)


def _recipes(bench: Bench, base: Chosen, precision: str) -> list[tuple[Quantizer, Recipe]]:
    """List how to quantize: as the recipe file says, else every quantizer with its defaults."""
    request, target = bench.run.request, base.report.target
    able = candidates(target, precision, bench.run.source.kind, request.io)
    digest = bench.calibration.sha256 if bench.calibration and precision in CALIBRATED else ""
    plan = base.attempt.plan if base.attempt else ""
    if request.recipe:
        recipe = read_recipe(Path(request.recipe))
        if (recipe.format, recipe.precision) == (target, precision):
            named = [quantizer for quantizer in able if quantizer.name == recipe.quantizer]
            return [(quantizer, recipe) for quantizer in named]
    return [
        (quantizer, Recipe(target, precision, quantizer.name, plan, request.io, calibration_sha256=digest))
        for quantizer in able
    ]


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


def artifact_name(request: Request, form: str, precision: str) -> str:
    """Give the file's name of an artifact: the model's, with the precision where it is reduced."""
    middle = "" if precision == FP32 else f".{precision}"
    return f"{request.name}{middle}{FORMATS[form].suffix}"


def preferred(tried: list[Tried]) -> int | None:
    """Choose the artifact that loses least among those that passed; None where none did."""
    passed = [index for index, item in enumerate(tried) if item.passed]
    return max(passed, key=lambda index: (_sqnr(tried[index]), -index), default=None)


def most_hopeful(lossy: list[Tried]) -> Tried:
    """Choose what a search begins with: a quantizer that can leave layers out, then the one that lost least."""

    def hope(item: Tried) -> tuple[bool, float]:
        recipe = item.attempt.recipe
        return recipe is not None and bool(QUANTIZERS[recipe.quantizer].keeps), _sqnr(item)

    return max(lossy, key=hope)


def _sqnr(item: Tried) -> float:
    return signal_db(item.attempt.quality)


def signal_db(quality: Quality | None) -> float:
    """Give the signal to noise that was kept, in dB: without end where nothing was lost, least where it is unknown."""
    if quality is None or not quality.outputs:
        return -math.inf
    return math.inf if quality.sqnr_db is None else quality.sqnr_db
