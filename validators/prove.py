"""Proving one artifact against one source: the source runs once, every artifact is inspected, run, judged and timed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.device import DeviceRequest
from convert.errors import (
    EdgeproofError,
    LoadError,
    OtherFunction,
    WorkerCrashed,
    WorkerError,
    WorkerLost,
    WorkerMemory,
    WorkerTimeout,
)
from convert.formats import Facts
from convert.sources import SOURCES, Loading, describe
from convert.spec import (
    BATCH,
    FP32,
    KEEP,
    Artifact,
    Limits,
    LoadOptions,
    ModelFacts,
    QualityGate,
    Signature,
    SourceFile,
)
from convert.worker import Environment, Workers, repeat_command
from validators import parity, paths, rounding, structure
from validators.basis import answered
from validators.examine import Examined, examine, run_artifact, run_elsewhere, seen_as_file
from validators.ideals import IDEALS, Building, build
from validators.inputs import LABELLED_ROWS, USER_FILE, USER_ROWS, CaseSet, collect
from validators.latency import Block, Measurement, Timing, combined, measure, samples_path
from validators.on_device import timed_on_device
from validators.protocol import Protocol
from validators.quality import Quality, assess, rehearse
from validators.report import Attempt, ReferenceReport, Stage, StageRun, TargetReport
from validators.runtimes import (
    REPEAT,
    RUNTIMES,
    Execution,
    Outputs,
    Runtime,
    Subject,
    execute,
    reference_for,
)
from validators.structure import BY_NAME, Binding, Inspection, inspect
from validators.verdict import Finding, Status, Verdict

if TYPE_CHECKING:
    import numpy as np


#: How long one artifact of a search is timed: its latency is a cost to weigh, not a number to report.
ROUGH_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Baseline:
    """A source that has been run: what every artifact of it is compared with."""

    signature: Signature
    cases: CaseSet
    outputs: parity.Reference
    report: ReferenceReport


@dataclass(frozen=True, slots=True)
class Proof:
    """What judging an artifact gave; `binding` is None where its structure failed.

    `undecidable` says that parity could not be judged for the source's own sake.
    """

    structure: Verdict
    parity: Verdict
    binding: Binding | None
    facts: Facts | None
    runtime: Runtime
    stages: tuple[StageRun, ...]
    undecidable: bool = False
    quality: Quality | None = None  # of a reduced precision
    ran: Outputs | None = None  # what it answered
    ideal: Outputs | None = None  # that a reduced precision was judged by
    base: str = ""  # the float artifact that this was made of

    def attempt(self, plan: str, title: str, artifact: Artifact) -> Attempt:
        """Describe the judged artifact as the attempt of one candidate."""
        stages = [(Stage.STRUCTURE, self.structure.status, self.structure.reason)]
        stages.append((Stage.PARITY, self.parity.status, self.parity.reason))
        if self.quality is not None:
            stages.append((Stage.QUALITY, self.quality.status, self.quality.reason))
        missed = next((item for item in stages if item[1] is not Status.PASS), None)
        passed = missed is None
        reached, _, reason = missed or (Stage.DONE, Status.PASS, self.parity.reason)
        return Attempt(
            plan=plan,
            title=title,
            reached=reached,
            reason=reason,
            fix=f"see it again with: {self.stages[-1].command}" if self.stages and not passed else "",
            artifact=artifact,
            operators=tuple(self.facts.operators.items()) if self.facts else (),
            structure=self.structure,
            parity=self.parity,
            quality=self.quality,
            stages=self.stages,
            runtime=self.runtime.title,
            requires=self.facts.requires if self.facts else (),
            foreign=self.facts.foreign if self.facts else (),
            fixed=self.binding.fixed if self.binding else (),
        )


def load_source(workers: Workers, source: SourceFile, options: LoadOptions) -> tuple[ModelFacts, StageRun]:
    """Load the source in its framework's worker and say what it is.

    Raises LoadError, UsageError or a WorkerError.
    """
    done = workers.run("load", describe, Loading(source, options), SOURCES[source.kind].environment)
    return done.value, StageRun("load", done.seconds, done.command)


def first_cases(
    workers: Workers,
    signature: Signature,
    *,
    seed: int,
    user: Mapping[str, np.ndarray] | None,
    data: str = USER_FILE,
    gate: QualityGate | None = None,
) -> CaseSet:
    """Make the cases of a run, of which those remain that the source answers; `data` says whose `user` are.

    Raises UsageError where the user's inputs do not fit.
    """
    labelled = gate is not None and bool(gate.labels or gate.metric)
    rows = LABELLED_ROWS if labelled else USER_ROWS
    return collect(signature, seed, user, workers.folder / "inputs.npz", data, rows)


def run_source(
    workers: Workers,
    source: SourceFile,
    options: LoadOptions,
    signature: Signature,
    cases: CaseSet,
    *,
    gate: QualityGate | None = None,
) -> Baseline:
    """Run the source on all cases at its own precision, and in float64 where it can.

    Labels and metrics of the `gate` are tried on the source itself, so that those that do not fit show at once.

    Raises UsageError where labels or a metric do not fit, LoadError or a WorkerError where the source does not run.
    """
    folder = workers.folder
    gate = gate or QualityGate()
    runtime = reference_for(source.kind)
    stages = []

    def run(stage: str, only: tuple[str, ...], dtype: str = "", *, steps: bool = False) -> Outputs:
        subject = Subject(source, options, dtype)
        job = Execution(runtime.name, subject, cases.path, str(folder / f"{stage}.npz"), only, steps=steps)
        done = workers.run(stage, execute, job, runtime.environment)
        stages.append(StageRun(stage, done.seconds, done.command))
        return done.value

    native = run("reference", cases.for_source)
    if not native.failures and not parity.answers_again(native):
        sequence = cases.sequence()
        again = run("sequence", sequence.names, steps=True)
        if not again.failures:
            native, cases = again, sequence
    cases = answered(cases, native, "")
    oracle: Outputs | None = None
    reason = ""
    began = time.monotonic()
    try:
        oracle = run("oracle", cases.for_source, rounding.ORACLE, steps=cases.steps)
    except LoadError as error:
        reason = error.message
    except (WorkerCrashed, WorkerTimeout, WorkerMemory) as error:
        workers.require_open()
        if isinstance(error, WorkerLost):
            raise  # it was not the float64
        reason = f"in float64 {error.message.splitlines()[0].rstrip(':')}"
        stages.append(StageRun("oracle", time.monotonic() - began, repeat_command(folder / "oracle.json")))
    if oracle is not None:
        cases = answered(cases, oracle, " in float64")
        failed = [(case, why) for case, why in oracle.failures if case in (*cases.names, REPEAT)]
        if failed:
            case, why = failed[0]
            reason = f"in float64 the model fails on case {case}: {why}"
            oracle = None
    cases, spread = _spread(cases, run)
    report = ReferenceReport(
        runtime.title, reason or rounding.ORACLE, len(cases.sizes), cases.seed, cases.notes, tuple(stages)
    )
    reference = parity.Reference(native, oracle, reason, spread)
    rehearse(workers, reference, cases, gate)
    return Baseline(signature, cases, reference, report)


def _spread(cases: CaseSet, run: Callable[[str, tuple[str, ...]], Outputs]) -> tuple[CaseSet, Outputs | None]:
    """Run the source on cases with one NaN or infinity, and keep those it survives for artifacts to be run on."""
    if not cases.spread:
        return cases, None
    try:
        found = run("spread", tuple(case for case, _ in cases.spread))
    except WorkerError as error:
        note = f"NaN and infinity were not tried: the source itself does not survive them ({error.message})"
        return dataclasses.replace(cases, spread=(), notes=(*cases.notes, note)), None
    failed = dict(found.failures)
    return dataclasses.replace(cases, spread=tuple(item for item in cases.spread if item[0] not in failed)), found


def prove(
    workers: Workers,
    baseline: Baseline,
    artifact: Artifact,
    label: str,
    *,
    match: str = BY_NAME,
    allow: tuple[str, ...] = (),
    layout: str = KEEP,
    base: str = "",
    gate: QualityGate | None = None,
    examined: Examined | None = None,
) -> Proof:
    """Inspect an artifact, run it on the reference's cases, and judge both.

    Whatever the artifact does, crash and hang included, becomes a verdict; `label` names the stages, `allow` the kinds
    of foreign operators that are accepted, `layout` that of its images where it does not say so itself. An artifact of
    a reduced precision, which is what the file's own numbers say where `artifact` does not, is also held against an
    ideal made of its float `base`, and against `gate`. One that was `examined` before was so with `match`, `allow` and
    `layout` of its own, and runs again only where the source answers other cases than it was run on.
    """
    if examined is None:
        seen = examine(
            workers, baseline.signature, baseline.cases, artifact, label, match=match, allow=allow, layout=layout
        )
    else:
        seen = examined.on(workers, baseline.cases, artifact, label)
    verdict, binding, facts, able = seen.structure, seen.binding, seen.facts, seen.runtime
    if binding is None or facts is None:
        not_run = Verdict.not_run("the artifact's structure did not pass")
        return Proof(verdict, not_run, None, facts, able, seen.stages)
    if seen.lacking:
        return Proof(verdict, Verdict.not_run(seen.lacking), binding, facts, able, seen.stages)
    if seen.ran is None:
        return Proof(verdict, Verdict.failed("runs", seen.broken), binding, facts, able, seen.stages)
    ran, stages = seen.ran, [*seen.stages]
    precision = artifact.precision or facts.precision

    def elsewhere(path: Runtime) -> Outputs:
        for known in seen.elsewhere:
            if known.path == path.name:
                stages.extend(known.stages)
                if known.ran is None:
                    raise known.error or LoadError("it was not run")
                return known.ran
        return run_elsewhere(workers, baseline.cases, path, artifact, binding, label, stages)

    if precision == FP32:
        judged = parity.judge(baseline.outputs, ran, baseline.cases, binding)
        if not baseline.cases.steps:
            judged = paths.judge_paths(
                artifact.format,
                judged,
                elsewhere,
                lambda other: parity.judge(baseline.outputs, other, baseline.cases, binding, among=other.cases),
            )
        return Proof(verdict, judged, binding, facts, able, tuple(stages), judged.status is Status.NOT_RUN, ran=ran)
    try:
        ideal, notes = _ideal(workers, baseline, able, artifact, binding, base, label, precision, stages)
    except OtherFunction as error:
        other = Verdict.failed("function", f"conversion fault: {error.message}")
        return Proof(verdict, other, binding, facts, able, tuple(stages), ran=ran)
    except EdgeproofError as error:
        unknown = Verdict.not_run(f"nothing tells a conversion fault from the loss of precision: {error.message}")
        return Proof(verdict, unknown, binding, facts, able, tuple(stages))
    farthest = IDEALS[artifact.format].told_by_distance(precision, facts.operators)
    sides = (baseline.outputs, ran, baseline.cases, binding, precision, ideal)
    judged = parity.judge(*sides, farthest)
    if parity.in_doubt(judged):
        try:
            nudged, _ = _ideal(workers, baseline, able, artifact, binding, base, label, precision, stages, nudged=True)
        except EdgeproofError as error:
            unknown = Verdict.not_run(f"{judged.reason}; and the ideal cannot be nudged: {error.message}")
            return Proof(verdict, unknown, binding, facts, able, tuple(stages))
        judged = parity.judge(*sides, farthest, nudged)
    # NOTE: Why the proven run stands for the ideal: on the case or two that a path may have run, an artifact may err
    # more or less than its ideal by luck, and its proven run alike. Not by D: integer kernels round in their own ways.
    # What may acquit one that failed is held against the ideal and its own bound.
    proven = judged.status is Status.PASS
    peer = ran if proven else ideal
    if not baseline.cases.steps:
        judged = paths.judge_paths(
            artifact.format,
            judged,
            elsewhere,
            lambda other: parity.judge(
                baseline.outputs, other, baseline.cases, binding, precision, peer, among=other.cases, elsewhere=proven
            ),
        )
    said = tuple(Finding("ideal", Status.PASS, note) for note in notes)
    judged = dataclasses.replace(judged, findings=(*judged.findings, *said))
    good = assess(workers, baseline.outputs, ran, baseline.cases, binding, precision, gate or QualityGate(), label)
    return Proof(verdict, judged, binding, facts, able, tuple(stages), quality=good, ran=ran, ideal=ideal, base=base)


def score(
    workers: Workers, baseline: Baseline, artifact: Artifact, like: Proof, label: str, gate: QualityGate
) -> tuple[Quality, float | None]:
    """Judge only the quality of one of many reduced artifacts of a search, and time it roughly.

    `like` is the proof of an artifact with the same contract. Raises EdgeproofError where it does not run.
    """
    binding = like.binding
    if binding is None:
        raise ValueError("only what keeps its contract is searched for")
    if any(feed.scale for feed in binding.feeds) or binding.scales:
        # Other ranges give the integers at the boundary other scales.
        seen = workers.run(
            f"inspect-{label}",
            inspect,
            Inspection(artifact.format, artifact.path, baseline.signature),
            like.runtime.environment,
        )
        _, found = structure.judge(baseline.signature, seen.value.signature, foreign=seen.value.foreign)
        binding = found or binding
    stages: list[StageRun] = []
    cases = baseline.cases.evaluation
    ran = run_artifact(
        workers,
        baseline.cases,
        like.runtime,
        artifact,
        binding,
        f"run-{label}",
        stages,
        cases,
        timed_seconds=ROUGH_SECONDS,
    )
    if ran.failures:
        raise LoadError(f"it fails on case {ran.failures[0][0]}: {ran.failures[0][1]}")
    good = assess(workers, baseline.outputs, ran, baseline.cases, binding, artifact.precision, gate, label)
    return good, ran.median_seconds


def _ideal(
    workers: Workers,
    baseline: Baseline,
    runtime: Runtime,
    artifact: Artifact,
    binding: Binding,
    base: str,
    label: str,
    precision: str,
    stages: list[StageRun],
    *,
    nudged: bool = False,
) -> tuple[Outputs, tuple[str, ...]]:
    """Build the ideal of a reduced artifact, run it, and give its outputs, under the artifact's names, and its notes.

    `nudged`: with its constants changed a little.

    Raises LoadError or a WorkerError where it cannot be had.
    """
    if artifact.format not in IDEALS.names():
        raise LoadError(f"no ideal is known for {artifact.format}")
    ideal = IDEALS[artifact.format]
    stage = f"{'nudged' if nudged else 'ideal'}-{label}"
    out = str(workers.folder / stage / Path(artifact.path).name)
    task = Building(artifact.format, precision, base, artifact.path, out, nudged)
    built = workers.run(stage, build, task, ideal.environment)
    stages.append(StageRun(stage, built.seconds, built.command))
    engine = RUNTIMES[ideal.runtime] if ideal.runtime else runtime
    floats = tuple(
        dataclasses.replace(feed, dtype="float32", scale=None) if feed.scale is not None else feed
        for feed in binding.feeds
    )
    plain = dataclasses.replace(artifact, path=built.value.path)
    unscaled = dataclasses.replace(binding, feeds=floats, scales=())
    return run_artifact(workers, baseline.cases, engine, plain, unscaled, f"run-{stage}", stages), built.value.notes


def time_artifact(
    workers: Workers,
    baseline: Baseline,
    artifact: Artifact,
    proof: Proof,
    threads: int,
    label: str,
    protocol: Protocol,
) -> tuple[Measurement, tuple[StageRun, ...]]:
    """Time an artifact in processes of its own, one after another; nothing else of ours may run meanwhile.

    Raises EdgeproofError where it cannot be timed.
    """
    if proof.binding is None:
        raise ValueError("only what was proven is timed")
    job = Timing(
        proof.runtime.name,
        Subject(seen_as_file(artifact), threads=threads),
        baseline.cases.path,
        baseline.cases.fitting({BATCH: 1, **dict(proof.binding.fixed)}),
        proof.binding.feeds,
        "",
        protocol.name,
    )
    return time_in_processes(workers, proof.runtime, job, f"time-{label}-{threads}", protocol)


def time_in_processes(
    workers: Workers, runtime: Runtime, job: Timing, stage: str, protocol: Protocol, limits: Limits | None = None
) -> tuple[Measurement, tuple[StageRun, ...]]:
    """Do one timing in as many fresh processes as a protocol has, each with a file for its samples, and combine them.

    Raises EdgeproofError where one of them fails.
    """
    threads = job.subject.threads
    environment = timing_environment(runtime, threads)
    blocks: list[Block] = []
    stages: list[StageRun] = []
    for number in range(protocol.processes):
        name = f"{stage}-{number}" if number else stage
        own = dataclasses.replace(job, samples=samples_path(workers.folder, name))
        try:
            done = workers.run(name, measure, own, environment, limits=limits)
        finally:
            workers.retire(environment)
        blocks.append(done.value)
        stages.append(StageRun(name, done.seconds, done.command))
    return combined(blocks, threads, protocol), tuple(stages)


def time_proven(
    workers: Workers,
    baseline: Baseline,
    target: TargetReport,
    proof: Proof,
    threads: tuple[int, ...],
    protocol: Protocol,
    say: Callable[[str], None],
    measured: tuple[Measurement, ...] = (),
    device: DeviceRequest | None = None,
) -> TargetReport:
    """Time a target's proven artifact at every number of threads, beside what was `measured` of it before.

    On a `device` where one is asked for, and nowhere else then. An artifact that cannot be timed does not pass.
    """
    if target.artifact is None:
        raise ValueError("only what was made is timed")
    if not threads and not measured:
        return dataclasses.replace(target, latency_reason="not asked for")
    if device is not None:
        return _timed_on(device, workers, baseline, target, proof, threads, protocol, say)
    latency = list(measured)
    stages: list[StageRun] = []
    for count in threads:
        say(f"{target.label}: timing at {count} thread(s)")
        try:
            measurement, runs = time_artifact(workers, baseline, target.artifact, proof, count, target.label, protocol)
        except EdgeproofError as error:
            reason = f"latency could not be measured: {error.message}"
            return dataclasses.replace(target, status=Status.NOT_RUN, reason=reason, latency_reason=error.message)
        latency.append(measurement)
        stages += runs
    return dataclasses.replace(target, latency=tuple(latency), stages=tuple(stages))


def _timed_on(
    device: DeviceRequest,
    workers: Workers,
    baseline: Baseline,
    target: TargetReport,
    proof: Proof,
    threads: tuple[int, ...],
    protocol: Protocol,
    say: Callable[[str], None],
) -> TargetReport:
    """Time a target's proven artifact on a device; what fails there is NOT_RUN, and no number takes its place."""
    artifact = target.artifact
    if artifact is None or proof.binding is None:
        raise ValueError("only what was proven is timed")
    fixed = dict(proof.binding.fixed)
    timed = baseline.cases.fitting({BATCH: 1, **fixed})
    sizes = next((dict(sizes) for case, sizes in baseline.cases.sizes if case in timed), {})
    free = tuple((name, size) for name, size in sizes.items() if name not in fixed)
    try:
        found = timed_on_device(
            device,
            artifact.format,
            Path(artifact.path),
            [Path(companion) for companion in artifact.companions],
            threads,
            protocol,
            workers.limits.timeout_seconds,
            free,
            say,
        )
    except EdgeproofError as error:
        reason = f"{error.message}; fix: {error.fix}" if error.fix else error.message
        words = f"latency could not be measured on the device: {reason}"
        return dataclasses.replace(target, status=Status.NOT_RUN, reason=words, latency_reason=reason)
    stages = tuple(StageRun(f"device-{target.label}-{one.threads}", took, line) for one, took, line in found)
    return dataclasses.replace(target, latency=tuple(one for one, _, _ in found), stages=stages)


def timing_environment(runtime: Runtime, threads: int) -> Environment:
    """Give the worker in which artifacts are timed: the engine's, in a process that did nothing before."""
    return dataclasses.replace(runtime.environment, name=f"time-{runtime.name}-{threads}")
