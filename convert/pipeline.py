"""The flow: identify, load, plan, convert, prove, time, report. The only module that knows every stage."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from convert import folder, plan
from convert.errors import EdgeproofError, UsageError
from convert.formats import FORMATS
from convert.plan import Plan
from convert.routes import Task, perform
from convert.sources import SOURCES, identify
from convert.spec import Artifact, LoadOptions, ModelFacts, Request, SourceFile, sha256_of
from convert.worker import Workers, limits_of
from validators.inputs import read_user_file, specs_of
from validators.prove import Baseline, Proof, load_source, prove, run_source, time_target, timing_environment
from validators.report import Attempt, Report, Stage, StageRun, TargetReport, assemble
from validators.reports import RENDERINGS
from validators.runtimes import runtime_for
from validators.structure import Binding
from validators.verdict import Status

if TYPE_CHECKING:
    import numpy as np

Say = Callable[[str], None]

#: Resident memory one conversion may need; litert-torch peaks at 1.1 GB on the zoo, TFLiteConverter at 2.1.
CONVERSION_BYTES = 3 << 30

PRECISION = "fp32"


@dataclass(frozen=True, slots=True)
class Run:
    """What the stages of one run share."""

    request: Request
    source: SourceFile
    options: LoadOptions
    facts: ModelFacts
    workers: Workers
    say: Say


@dataclass(frozen=True, slots=True)
class Built:
    """One target before timing: its report, and how the kept artifact's tensors correspond to the source's."""

    report: TargetReport
    binding: Binding | None


def run(request: Request, say: Say) -> Report:
    """Run every stage of a request and give the report, which is also written beside the artifacts.

    Raises UsageError or LoadError where the request cannot be honoured at all; what goes wrong later is in the report.
    """
    started = time.monotonic()
    source = identify(Path(request.model))
    targets = plan.targets(request.targets, source.kind)
    user = read_user_file(Path(request.inputs_file)) if request.inputs_file else None
    options = dataclasses.replace(request.options, examples=specs_of(user)) if user else request.options
    for target in targets:
        plan.require_candidates(source.kind, target, None)
        keep_source(request, target)
    with (
        folder.opened(request.folder) as stages,
        Workers(stages, limits_of(request.timeout_seconds, request.memory_bytes)) as workers,
    ):
        say(f"loading {source.path}: {source.detail}")
        warm(workers, source, targets)
        facts, load_stage = load_source(workers, source, options)
        current = Run(request, source, options, facts, workers, say)
        baseline, built = build(current, targets, user)
        workers.retire_all(keep=[timing_environment(target, n) for target in targets for n in request.threads[:1]])
        timed = [time_target(workers, baseline, item.report, item.binding, request.threads, say) for item in built]
        report = assemble(
            command=request.command,
            started=started,
            source=source,
            model=facts,
            reference=dataclasses.replace(baseline.report, stages=(load_stage, *baseline.report.stages)),
            targets=tuple(timed),
            path=str(request.folder / "report.json"),
        )
        folder.write_text(Path(report.path), RENDERINGS["json"].render(report))
    return report


def keep_source(request: Request, target: str) -> None:
    """Raise UsageError where the artifact of a format would take the place of the model it is made from."""
    name = f"{request.name}{FORMATS[target].suffix}"
    places = (request.folder / name, request.folder / folder.UNPROVEN / name)
    if Path(request.model).resolve() in [place.resolve() for place in places]:
        raise UsageError(
            f"the {target} artifact would replace the model {request.model}", fix="choose another folder with --out"
        )


def warm(workers: Workers, source: SourceFile, targets: tuple[str, ...]) -> None:
    """Start the first candidates' workers, as many as run at once, so that frameworks import while the source loads."""
    workers.warm(SOURCES[source.kind].environment)
    for target in targets[: parallel(len(targets))]:
        workers.warm(plan.candidates(source.kind, target, None)[0].routes[0].environment)


def parallel(count: int) -> int:
    """Say how many of `count` targets to build side by side: as many as cores and free memory allow."""
    free = int(psutil.virtual_memory().available) // CONVERSION_BYTES
    return max(1, min(count, os.cpu_count() or 1, free))


def build(
    current: Run, targets: tuple[str, ...], user: Mapping[str, np.ndarray] | None
) -> tuple[Baseline, list[Built]]:
    """Run the source and build every target, side by side; each target's candidates one after another."""
    with ThreadPoolExecutor(parallel(len(targets)) + 1) as threads:
        try:
            baseline = threads.submit(
                run_source,
                current.workers,
                current.source,
                current.options,
                current.facts.signature,
                seed=current.request.seed,
                user=user,
            )
            pending = [threads.submit(build_target, current, target, baseline) for target in targets]
            return baseline.result(), [future.result() for future in pending]
        except BaseException:
            # Stop the processes first: the threads wait for them.
            current.workers.close()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def build_target(current: Run, target: str, baseline: Future[Baseline]) -> Built:
    """Try the candidates for one format in order until one passes; keep the best there is."""
    tried: list[tuple[Attempt, Proof | None]] = []
    # Both will be needed; their engines start while the converter works.
    current.workers.warm(runtime_for(target).environment)
    for threads in current.request.threads[:1]:
        current.workers.warm(timing_environment(target, threads))
    for candidate in plan.require_candidates(current.source.kind, target, current.facts.signature):
        current.say(f"{target}: converting with {candidate.name}")
        attempt, proof = try_candidate(current, candidate, target, baseline)
        current.workers.require_open()
        tried.append((attempt, proof))
        current.say(f"{target}: {candidate.name}: {attempt.status.value}, {attempt.reason.splitlines()[0]}")
        # A verdict that could not be given for the source's own sake (its outputs do not vary, it fails itself) will
        # not be given for another candidate's artifact either.
        undecidable = attempt.reached is Stage.PARITY and attempt.status is Status.NOT_RUN
        if attempt.status is Status.PASS or undecidable:
            break
    attempts = tuple(attempt for attempt, _ in tried)
    kept = best(attempts)
    if kept is None:
        reason = f"no candidate could convert: {attempts[0].reason}"
        return Built(TargetReport(target, PRECISION, Status.FAIL, reason, None, attempts), None)
    attempt, proof = tried[kept]
    artifact = place(current, attempt)
    report = TargetReport(target, PRECISION, attempt.status, attempt.reason, artifact, attempts, kept)
    return Built(report, proof.binding if proof else None)


def try_candidate(
    current: Run, candidate: Plan, target: str, baseline: Future[Baseline]
) -> tuple[Attempt, Proof | None]:
    """Convert along one candidate's routes and prove the result; whatever fails becomes the attempt's reason."""
    label = f"{target}-{candidate.name}"
    title = ", then ".join(route.title for route in candidate.routes)
    stages: list[StageRun] = []
    try:
        artifact = convert(current, candidate, label, stages)
    except EdgeproofError as error:
        failed = Attempt(candidate.name, title, Stage.CONVERT, error.message, error.fix, stages=tuple(stages))
        return failed, None
    proof = prove(current.workers, baseline.result(), artifact, label)
    judged = proof.attempt(candidate.name, title, artifact)
    attempt = dataclasses.replace(judged, stages=(*stages, *judged.stages))
    return attempt, proof


def convert(current: Run, candidate: Plan, label: str, stages: list[StageRun]) -> Artifact:
    """Run the routes of a candidate one after another; raises EdgeproofError where one fails."""
    made = None
    for step, route in enumerate(candidate.routes):
        stage = f"convert-{label}" if len(candidate.routes) == 1 else f"convert-{label}-{step + 1}"
        out = current.workers.folder / stage / f"{current.request.name}{FORMATS[route.gives].suffix}"
        out.unlink(missing_ok=True)
        task = Task(
            route=route.name,
            module=route.convert.__module__,
            source=current.source,
            options=current.options,
            signature=made.signature if made else current.facts.signature,
            out=str(out),
            made=made.path if made else "",
        )
        done = current.workers.run(stage, perform, task, route.environment)
        stages.append(StageRun(stage, done.seconds, done.command))
        made = dataclasses.replace(done.value, notes=(*(made.notes if made else ()), *done.value.notes))
    if made is None:
        raise ValueError("a plan has at least one route")
    return made


def best(attempts: tuple[Attempt, ...]) -> int | None:
    """Choose the attempt to keep: the one that passed, else one that could not be judged, else one that failed."""
    for status in (Status.PASS, Status.NOT_RUN, Status.FAIL):
        for index, attempt in enumerate(attempts):
            if attempt.artifact is not None and attempt.status is status:
                return index
    return None


def place(current: Run, attempt: Attempt) -> Artifact:
    """Put a proven artifact into the output folder; one that is not proven goes beside it and replaces nothing."""
    artifact = attempt.artifact
    if artifact is None:
        raise ValueError("the attempt made no artifact")
    proven = attempt.status is Status.PASS
    home = current.request.folder if proven else current.request.folder / folder.UNPROVEN
    path = folder.place(Path(artifact.path), home)
    return dataclasses.replace(artifact, path=str(path), sha256=sha256_of(path))
