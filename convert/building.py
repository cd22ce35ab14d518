"""Building: every target's candidates, side by side, each converted and proven until one passes."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from convert import plan, race
from convert.errors import EdgeproofError
from convert.formats import FORMATS
from convert.once import Once
from convert.plan import Plan, Wish
from convert.routes import Route, Task, perform
from convert.spec import FP32, KEEP, Artifact, LoadOptions, ModelFacts, Request, SourceFile
from convert.toolchains import prepared
from convert.worker import Workers, cores, repeat_command
from validators.examine import examine
from validators.inputs import CaseSet
from validators.protocol import protocol_of
from validators.prove import (
    Baseline,
    Proof,
    first_cases,
    prove,
    run_source,
    time_artifact,
    time_proven,
    timing_environment,
)
from validators.report import Attempt, Stage, StageRun, TargetReport
from validators.runtimes import runtime_for
from validators.verdict import Status

if TYPE_CHECKING:
    import numpy as np

Say = Callable[[str], None]

#: Resident memory one conversion may need; litert-torch peaks at 1.1 GB on the zoo, TFLiteConverter at 2.1.
CONVERSION_BYTES = 3 << 30


@dataclass(frozen=True, slots=True)
class Run:
    """What the stages of one run share."""

    request: Request
    source: SourceFile
    options: LoadOptions
    facts: ModelFacts
    workers: Workers
    say: Say
    begun: Once[tuple[Artifact, StageRun]] = field(default_factory=Once)  # first conversions, by route

    @property
    def wish(self) -> Wish:
        """What candidates are sought for."""
        return Wish(self.source.kind, self.request.allow, self.facts)


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate's outcome; `proof` is None where it could not convert."""

    attempt: Attempt
    proof: Proof | None

    @property
    def passed(self) -> bool:
        """Whether its artifact is proven."""
        return self.attempt.status is Status.PASS


@dataclass(frozen=True, slots=True)
class Built:
    """One target before timing: all candidates that were tried for it."""

    target: str
    tried: tuple[Tried, ...]


def parallel(count: int) -> int:
    """Say how many of `count` targets to build side by side: as many as cores and free memory allow."""
    free = int(psutil.virtual_memory().available) // CONVERSION_BYTES
    return max(1, min(count, cores(), free))


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be kept of one target, before it is timed; `proof` is None where nothing could be made."""

    report: TargetReport
    proof: Proof | None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that is kept."""
        return None if self.report.kept is None else self.report.attempts[self.report.kept]


def build(
    current: Run, targets: tuple[str, ...], user: Mapping[str, np.ndarray] | None, data: str
) -> tuple[Baseline, list[Built]]:
    """Run the source and build every target, side by side; each target's candidates one after another.

    `data` says whose the `user`'s rows are.
    """
    request, signature = current.request, current.facts.signature
    cases = first_cases(current.workers, signature, seed=request.seed, user=user, data=data, gate=request.gate)
    with ThreadPoolExecutor(parallel(len(targets)) + 1) as threads:
        try:
            baseline = threads.submit(
                run_source, current.workers, current.source, current.options, signature, cases, gate=request.gate
            )
            pending = [threads.submit(build_target, current, target, cases, baseline) for target in targets]
            return baseline.result(), [future.result() for future in pending]
        except BaseException:
            # Stop the processes first: the threads wait for them.
            current.workers.close()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def build_target(current: Run, target: str, cases: CaseSet, baseline: Future[Baseline]) -> Built:
    """Try the candidates for one format in order until one passes, or all of them in a race."""
    tried: list[Tried] = []
    # Both will be needed; their engines start while the converter works.
    current.workers.warm(runtime_for(target).environment)
    for threads in () if current.request.race else current.request.threads[:1]:
        current.workers.warm(timing_environment(runtime_for(target), threads))
    for candidate in plan.require_candidates(current.wish, target, current.request.via):
        current.say(f"{target}: converting with {candidate.name}")
        outcome = try_candidate(current, candidate, target, cases, baseline)
        attempt = outcome.attempt
        current.workers.require_open()
        tried.append(outcome)
        current.say(f"{target}: {candidate.name}: {attempt.status.value}, {attempt.reason.splitlines()[0]}")
        if outcome.passed and not current.request.race:
            break
        # A verdict that could not be given for the source's own sake (its outputs do not vary, it fails itself) will
        # not be given for another candidate's artifact either.
        if outcome.proof is not None and outcome.proof.undecidable:
            break
    return Built(target, tuple(tried))


def try_candidate(current: Run, candidate: Plan, target: str, cases: CaseSet, baseline: Future[Baseline]) -> Tried:
    """Convert along one candidate's routes and prove the result; whatever fails becomes the attempt's reason.

    While the source still runs, the artifact is run on the `cases` already.
    """
    label = f"{target}-{candidate.name}"
    stages: list[StageRun] = []
    try:
        artifact = convert(current, candidate, label, stages)
    except EdgeproofError as error:
        failed = Attempt(candidate.name, candidate.title, Stage.CONVERT, error.message, error.fix, stages=tuple(stages))
        return Tried(failed, None)
    workers, allow = current.workers, current.request.allow
    if baseline.done():
        proof = prove(workers, baseline.result(), artifact, label, allow=allow)
    else:
        examined = examine(workers, current.facts.signature, cases, artifact, label, allow=allow, ahead=True)
        proof = prove(workers, baseline.result(), artifact, label, examined=examined)
    judged = proof.attempt(candidate.name, candidate.title, artifact)
    return Tried(dataclasses.replace(judged, stages=(*stages, *judged.stages)), proof)


def convert(current: Run, candidate: Plan, label: str, stages: list[StageRun]) -> Artifact:
    """Run the routes of a candidate one after another; raises EdgeproofError where one fails.

    What a first route made, or how it failed, serves every candidate that begins with it.
    """
    first, *rest = candidate.routes
    made, stage = current.begun.once(
        first.name, lambda: convert_step(current, first, f"convert-{first.gives}-{first.name}", None)
    )
    stages.append(stage)
    for step, route in enumerate(rest, 2):
        done, stage = convert_step(current, route, f"convert-{label}-{step}", made)
        stages.append(stage)
        made = dataclasses.replace(done, notes=(*made.notes, *done.notes), rescues=(*made.rescues, *done.rescues))
    return made


def convert_step(current: Run, route: Route, stage: str, made: Artifact | None) -> tuple[Artifact, StageRun]:
    """Run one route, on the source or on what an earlier route `made`; raises EdgeproofError where it fails."""
    home = current.workers.folder / stage
    if home.exists():
        shutil.rmtree(home)  # what an earlier run left must not be taken for this one's
    if route.toolchain:
        prepared(route.toolchain, current.workers, current.say, f"prepare-{stage}")
    task = Task(
        route=route.name,
        module=route.convert.__module__,
        source=current.source,
        options=current.options,
        signature=made.signature if made else current.facts.signature,
        out=str(home / f"{current.request.name}{FORMATS[route.gives].suffix}"),
        made=made.path if made else "",
        layout=current.request.layout if FORMATS[route.gives].layouts else KEEP,
        allow=current.request.allow,
    )
    try:
        done = current.workers.run(stage, perform, task, route.environment)
    except EdgeproofError as error:
        error.fix = error.fix or f"repeat it with: {repeat_command(current.workers.folder / f'{stage}.json')}"
        raise
    return done.value, StageRun(stage, done.seconds, done.command)


def choose(current: Run, built: Built, baseline: Baseline) -> Chosen:
    """Choose what to keep of a target's candidates: the fastest in a race, else the one that passed."""
    tried = list(built.tried)
    kept = None
    if current.request.race:
        for index in race.contenders([item.attempt for item in tried]):
            tried[index] = timed_in_race(current, tried[index], baseline)
        kept = race.winner([item.attempt for item in tried])
    return chosen_of(built.target, FP32, tried, kept)


def chosen_of(target: str, precision: str, tried: Sequence[Tried], kept: int | None = None) -> Chosen:
    """Describe what became of a target: the attempt `kept`, else the best there is."""
    attempts = tuple(item.attempt for item in tried)
    kept = best(attempts) if kept is None else kept
    if kept is None:
        reason = f"no candidate could convert: {attempts[0].reason}"
        return Chosen(TargetReport(target, precision, Status.FAIL, reason, None, attempts), None)
    attempt = attempts[kept]
    report = TargetReport(target, precision, attempt.status, attempt.reason, attempt.artifact, attempts, kept)
    return Chosen(report, tried[kept].proof)


def finish(current: Run, chosen: Chosen, baseline: Baseline) -> TargetReport:
    """Time what is kept of a target where it is proven."""
    report, attempt, proof = chosen.report, chosen.attempt, chosen.proof
    if attempt is None:
        return report
    if proof is None or attempt.status is not Status.PASS:
        return dataclasses.replace(report, latency_reason="not proven")
    measured = () if attempt.latency is None else (attempt.latency,)
    return time_proven(
        current.workers,
        baseline,
        report,
        proof,
        current.request.threads[len(measured) :],
        protocol_of(current.request.protocol),
        current.say,
        measured,
        current.request.device,
    )


def timed_in_race(current: Run, tried: Tried, baseline: Baseline) -> Tried:
    """Time one candidate's proven artifact; one that cannot be timed is out of the race and says why."""
    attempt, proof = tried.attempt, tried.proof
    if proof is None or attempt.artifact is None:
        return tried
    current.say(f"{attempt.artifact.format}: timing {attempt.plan}")
    label = f"{attempt.artifact.format}-{attempt.plan}"
    try:
        latency, stages = time_artifact(
            current.workers,
            baseline,
            attempt.artifact,
            proof,
            current.request.threads[0],
            label,
            protocol_of(current.request.protocol),
        )
    except EdgeproofError as error:
        return dataclasses.replace(tried, attempt=dataclasses.replace(attempt, unraced=error.message))
    return dataclasses.replace(
        tried, attempt=dataclasses.replace(attempt, latency=latency, stages=(*attempt.stages, *stages))
    )


def best(attempts: tuple[Attempt, ...]) -> int | None:
    """Choose the attempt to keep: the one that passed, else one that could not be judged, else one that failed."""
    for status in (Status.PASS, Status.NOT_RUN, Status.FAIL):
        for index, attempt in enumerate(attempts):
            if attempt.artifact is not None and attempt.status is status:
                return index
    return None
