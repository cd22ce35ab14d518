"""The flow: identify, load, plan, convert, prove, time, choose, report. The only module that knows every stage."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from convert import folder, layout, plan
from convert.building import Chosen, Run, Say, build, choose, finish, parallel
from convert.errors import EdgeproofError, UsageError
from convert.formats import FORMATS
from convert.plan import Wish
from convert.quantize import check_precisions, check_source, prepare, quantize
from convert.recipe import Calibration, write_recipe
from convert.sources import SOURCES, Loading, describe, identify, require_meaning
from convert.spec import FP32, KEEP, Request
from convert.trials import Bench, artifact_name
from convert.worker import Workers, limits_of
from validators import golden
from validators.beside import set_beside
from validators.enforcement import enforce, read_enforced, require_known_outputs
from validators.inputs import USER_FILE, read_user_file, specs_of
from validators.on_device import check_timing
from validators.prove import Baseline, Proof, load_source, prove, timing_environment
from validators.regression import applies, check_baseline, regress
from validators.report import Report, TargetReport, assemble, held_against, label_of
from validators.reports import RENDERINGS
from validators.runtimes import Drag, drags, runtime_for
from validators.self_test import self_test
from validators.verdict import Status
from validators.weighing import count_instructions, profile_kept, weigh

if TYPE_CHECKING:
    import numpy as np


def run(request: Request, say: Say) -> Report:
    """Run every stage of a request and give the report, which is also written beside the artifacts.

    Raises UsageError or LoadError where the request cannot be honoured at all; what goes wrong later is in the report.
    """
    started = time.monotonic()
    source = identify(Path(request.model))
    require_meaning(source, request.options)
    wish = Wish(source.kind, request.allow)
    targets = plan.targets(request.targets, wish)
    check_request(request, wish, targets)
    enforced = read_enforced(request.policy)
    user = read_user_file(Path(request.inputs_file)) if request.inputs_file else None
    options = dataclasses.replace(request.options, examples=specs_of(user)) if user else request.options
    with (
        folder.opened(request.folder) as stages,
        Workers(stages, limits_of(request.timeout_seconds, request.memory_bytes)) as workers,
    ):
        say(f"loading {source.path}: {source.detail}")
        warm(workers, request, wish, targets, Loading(source, options))
        facts, load_stage = load_source(workers, source, options)
        layout.require_image(facts.signature, request.layout)
        require_known_outputs(enforced, (spec.name for spec in facts.signature.outputs))
        current = Run(request, source, options, facts, workers, say)
        check_source(current)
        calibration = prepare(current)
        user, data = evaluation(user, calibration)
        baseline, built = build(current, targets, user, data)
        chosen = [choose(current, item, baseline) for item in built]
        bench = Bench(current, baseline, calibration)
        made = [(base, quantize(bench, base)) for base in chosen]
        made = [(weighed(bench, base), [weighed(bench, item) for item in reduced]) for base, reduced in made]
        warmed = () if request.race or request.device else request.threads[:1]
        workers.retire_all(keep=[timing_environment(runtime_for(target), n) for target in targets for n in warmed])
        finished = [report for base, reduced in made for report in timed(bench, base, reduced)]
        proofs = {item.report.label: item.proof for base, reduced in made for item in (base, *reduced)}
        finished = [profiled(current, baseline, proofs[item.label], item) for item in finished]
        finished = [executed(current, baseline, proofs[item.label], item) for item in finished]
        tested = [test(current, baseline, proofs[item.label], item) for item in finished]
        held = [enforce(enforced, compare(current, user, item)) for item in tested]
        placed = [keep_golden(request, baseline, proofs[item.label], place(request, item)) for item in held]
        report = assemble(
            command=request.command,
            started=started,
            source=source,
            model=facts,
            reference=dataclasses.replace(baseline.report, stages=(load_stage, *baseline.report.stages)),
            targets=tuple(placed),
            path=str(request.folder / "report.json"),
            calibration=calibration,
            policy=enforced.path,
        )
        folder.write_text(Path(report.path), RENDERINGS["json"].render(report))
    return report


def check_request(request: Request, wish: Wish, targets: tuple[str, ...]) -> None:
    """Raise UsageError for what can be told to be impossible before anything is loaded."""
    check_precisions(request, wish.kind, targets)
    check_baseline(request.baseline, request.max_regression, targets)
    if request.device is not None:
        check_timing(request.device, targets, request.threads, baseline=request.baseline, race=request.race)
    for target in targets:
        plan.require_candidates(wish, target, request.via)
        for precision in request.precisions:
            keep_source(request, target, artifact_name(request, target, precision))
    if request.layout != KEEP and not any(FORMATS[target].layouts for target in targets):
        able = ", ".join(form.name for form in FORMATS if form.layouts)
        raise UsageError(
            f"--layout {request.layout} has no meaning for {', '.join(targets)}, which keep the source's layout",
            fix=f"leave it out; it is for {able}",
        )
    for target, precision in itertools.product(targets if request.golden else (), request.precisions):
        golden.check_place(golden_place(request, label_of(target, precision)))
    if request.race and not request.threads:
        raise UsageError("--race needs latencies, and no number of threads to time at is given", fix="add --threads 1")


def keep_source(request: Request, target: str, name: str) -> None:
    """Raise UsageError where an artifact of that name would take the place of the model it is made from."""
    if name in (folder.STAGES, folder.UNPROVEN):
        raise UsageError(
            f"the {target} artifact would be called {name}, as a folder of every run is", fix="rename the model"
        )
    model = Path(request.model).resolve()
    fix = "choose another folder with --out"
    for place in (request.folder / name, request.folder / folder.UNPROVEN / name):
        if model.is_relative_to(place.resolve()):
            raise UsageError(f"the {target} artifact would replace the model {request.model}", fix=fix)
        if place.exists() and not FORMATS[target].replaces(place):
            raise UsageError(f"the {target} artifact would replace {place}, which is no {target} artifact", fix=fix)
    if model.is_dir() and request.folder.resolve().is_relative_to(model):
        raise UsageError(f"the output folder {request.folder} is inside the model {request.model}", fix=fix)


def warm(workers: Workers, request: Request, wish: Wish, targets: tuple[str, ...], job: Loading) -> None:
    """Start the first candidates' workers, as many as run at once, so that frameworks import while the source loads.

    Those that convert the loaded model load it too meanwhile, where there are a core and memory for it.
    """
    own = SOURCES[wish.kind].environment
    workers.warm(own)
    loading = {own.name}
    for target in targets[: parallel(len(targets))]:
        route = plan.require_candidates(wish, target, request.via)[0].routes[0]
        environment = route.environment
        workers.warm(environment)
        if environment.name not in loading and not route.reads_file and parallel(len(loading) + 1) > len(loading):
            loading.add(environment.name)
            workers.ahead(f"load-{environment.name}", describe, job, environment)


def evaluation(
    user: dict[str, np.ndarray] | None, calibration: Calibration | None
) -> tuple[dict[str, np.ndarray] | None, str]:
    """Give the real inputs to judge on and whose they are: the user's, else rows held out of the calibration data."""
    if user is None and calibration is not None and calibration.held_out:
        return read_user_file(Path(calibration.held_out)), f"rows held out of {calibration.origin}"
    return user, USER_FILE


def timed(bench: Bench, base: Chosen, reduced: list[Chosen]) -> list[TargetReport]:
    """Time what was made of one target, and say what each reduced precision gains over the float artifact."""
    run, baseline = bench.run, bench.baseline
    asked = FP32 in run.request.precisions
    if not asked and not any(item.report.status is Status.PASS for item in reduced):
        return [finish(run, item, baseline) for item in reduced]
    full = finish(run, base, baseline)
    found = [set_beside(finish(run, item, baseline), full, functools.partial(slow, bench, item)) for item in reduced]
    return [full, *found] if asked else found


def weighed(bench: Bench, chosen: Chosen) -> Chosen:
    """Count the costs of what is kept of a target that do not vary."""
    report = weigh(bench.run.workers, bench.baseline, chosen.report, chosen.proof)
    return dataclasses.replace(chosen, report=report)


def profiled(run: Run, baseline: Baseline, proof: Proof | None, target: TargetReport) -> TargetReport:
    """Time every operator where that is asked for."""
    return profile_kept(run.workers, baseline, target, proof, run.say) if run.request.profile else target


def executed(run: Run, baseline: Baseline, proof: Proof | None, target: TargetReport) -> TargetReport:
    """Count the instructions of an inference where that is asked for."""
    return count_instructions(run.workers, baseline, target, proof, run.say) if run.request.instructions else target


def slow(bench: Bench, chosen: Chosen) -> str:
    """Say what makes an artifact slow on its engine, where that can be told."""
    if chosen.proof is None or chosen.report.artifact is None:
        return ""
    runtime = chosen.proof.runtime
    stage = f"drags-{chosen.report.label}"
    job = Drag(runtime.name, chosen.report.artifact.path)
    try:
        return bench.run.workers.run(stage, drags, job, runtime.environment).value
    except EdgeproofError as error:
        return f"why is not known: {error.message}"


def place(request: Request, target: TargetReport) -> TargetReport:
    """Put a proven artifact into the output folder; one that is not proven goes beside it and replaces nothing."""
    artifact = target.artifact
    if artifact is None or target.kept is None:
        return target
    proven = target.attempts[target.kept].status is Status.PASS
    beside = (target.regression, target.policy, *target.budgets)
    if any(held is not None and held.status is not Status.PASS for held in beside):
        proven = False  # what was released is not replaced by what may be slower, or cost too much
    home = request.folder if proven else request.folder / folder.UNPROVEN
    path = folder.place(Path(artifact.path), home, map(Path, artifact.companions))
    companions = tuple(str(home / Path(companion).name) for companion in artifact.companions)
    placed = dataclasses.replace(target, artifact=dataclasses.replace(artifact, path=str(path), companions=companions))
    recipe = target.attempts[target.kept].recipe
    if recipe is None or not proven:
        return placed
    recipe_path = path.with_name(f"{path.name}.recipe.json")
    write_recipe(recipe_path, recipe)
    return dataclasses.replace(placed, recipe_path=str(recipe_path))


def test(run: Run, baseline: Baseline, proof: Proof | None, target: TargetReport) -> TargetReport:
    """Plant faults in a proven artifact and have them judged, where that is asked for."""
    if not run.request.self_test or target.status is not Status.PASS or target.artifact is None or proof is None:
        return target
    judge = functools.partial(
        prove, run.workers, baseline, allow=run.request.allow, base=proof.base, gate=run.request.gate
    )
    found = self_test(run.workers, target.artifact, proof, judge, target.label, run.request.seed, run.say)
    return dataclasses.replace(target, self_test=found)


def compare(run: Run, user: dict[str, np.ndarray] | None, target: TargetReport) -> TargetReport:
    """Hold a proven artifact against the one released before, where that is asked for and there is one like it."""
    request = run.request
    if not request.baseline or target.artifact is None or target.status is not Status.PASS:
        return target
    if not applies(Path(request.baseline), target.target):
        return target
    run.say(f"{target.label}: comparing with {request.baseline}")
    found = regress(
        run.workers,
        request.baseline,
        target.artifact,
        request.max_regression,
        target.label,
        seed=request.seed,
        user=user,
        made=request.precisions,
        say=lambda line: run.say(f"{target.label}: {line}"),
    )
    return target if found is None else held_against(target, found)


def golden_place(request: Request, label: str) -> Path:
    """Name the folder that a target's golden vectors go to."""
    return Path(request.golden) / label


def keep_golden(request: Request, baseline: Baseline, proof: Proof | None, target: TargetReport) -> TargetReport:
    """Write the golden vectors of a proven artifact where they are asked for."""
    if not request.golden or target.status is not Status.PASS or target.artifact is None or proof is None:
        return target
    index = golden.write(golden_place(request, target.label), baseline, target.artifact, proof)
    return dataclasses.replace(target, golden=str(index))
