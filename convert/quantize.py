"""Quantizing: a target's proven float artifact made at lower precisions, each gated, and rescued where it lost much."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from convert import calibration
from convert.building import Chosen, Run, Tried, chosen_of
from convert.errors import UsageError
from convert.formats import FORMATS
from convert.precision import QUANTIZERS, Quantizer, candidates
from convert.recipe import Calibration, Recipe, read_recipe
from convert.refine import hastened, other_defaults
from convert.search import Abilities, search
from convert.spec import CALIBRATED, FLOAT_IO, FP32, Request
from convert.trials import Bench, announced, described, layers_of, preferred, score_recipe, sqnr_of, try_recipe
from validators.quality import check_gate
from validators.report import Attempt, GivenUp, Stage
from validators.runtimes import runtime_for
from validators.structure import Inspection, inspect
from validators.verdict import Status


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
    tried += other_defaults(bench, attempt, tried)
    chosen = chosen_of(target, precision, tried, preferred(tried))
    if chosen.report.status is not Status.PASS:
        chosen = rescue(bench, attempt, chosen, tried)
    return hastened(bench, base, chosen, tried)


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
    layers = layers_of(bench, base.artifact, quantizer, recipe)
    found = search(
        Abilities(
            quantizer.ranges if recipe.precision in CALIBRATED else (),
            quantizer.equalises,
            layers,
            quantizer.keeps,
        ),
        recipe,
        lambda one: score_recipe(bench, base, quantizer, one, proof),
        budget_seconds=request.search_seconds,
        clock=time.monotonic,
        progress=announced(bench, label),
    )
    run.workers.require_open()
    points = described(found.points, found.front)
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


def most_hopeful(lossy: list[Tried]) -> Tried:
    """Choose what a search begins with: a quantizer that can leave layers out, then the one that lost least."""

    def hope(item: Tried) -> tuple[bool, float]:
        recipe = item.attempt.recipe
        return recipe is not None and bool(QUANTIZERS[recipe.quantizer].keeps), sqnr_of(item)

    return max(lossy, key=hope)
