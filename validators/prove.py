"""Proving one artifact against one source: the source runs once, every artifact is inspected, run, judged and timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.errors import EdgeproofError, LoadError
from convert.sources import SOURCES, Loading, describe
from convert.spec import BATCH, Artifact, LoadOptions, ModelFacts, Signature, SourceFile
from convert.worker import Environment, Workers
from validators import parity, structure
from validators.inputs import CaseSet, collect
from validators.latency import Measurement, Timing, measure
from validators.report import Attempt, ReferenceReport, Stage, StageRun, TargetReport
from validators.runtimes import Execution, Outputs, Subject, execute, reference_for, runtime_for
from validators.structure import BY_NAME, Binding, Inspection, inspect
from validators.verdict import Status, Verdict

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Baseline:
    """A source that has been run: what every artifact of it is compared with."""

    signature: Signature
    cases: CaseSet
    outputs: parity.Reference
    report: ReferenceReport


@dataclass(frozen=True, slots=True)
class Proof:
    """What judging an artifact gave; `binding` is None where its structure failed."""

    structure: Verdict
    parity: Verdict
    binding: Binding | None
    operators: tuple[tuple[str, int], ...]
    stages: tuple[StageRun, ...]

    def attempt(self, plan: str, title: str, artifact: Artifact) -> Attempt:
        """Describe the judged artifact as the attempt of one candidate."""
        structural = self.structure.status is Status.PASS
        reached = Stage.STRUCTURE
        if structural:
            reached = Stage.DONE if self.parity.status is Status.PASS else Stage.PARITY
        return Attempt(
            plan=plan,
            title=title,
            reached=reached,
            reason=self.parity.reason if structural else self.structure.reason,
            artifact=artifact,
            operators=self.operators,
            structure=self.structure,
            parity=self.parity,
            stages=self.stages,
        )


def load_source(workers: Workers, source: SourceFile, options: LoadOptions) -> tuple[ModelFacts, StageRun]:
    """Load the source in its framework's worker and say what it is.

    Raises LoadError, UsageError or a WorkerError.
    """
    done = workers.run("load", describe, Loading(source, options), SOURCES[source.kind].environment)
    return done.value, StageRun("load", done.seconds, done.command)


def run_source(
    workers: Workers,
    source: SourceFile,
    options: LoadOptions,
    signature: Signature,
    *,
    seed: int,
    user: Mapping[str, np.ndarray] | None,
) -> Baseline:
    """Run the source on all cases at its own precision, and in float64 where it can.

    Raises UsageError where the user's inputs do not fit, LoadError or a WorkerError where the source does not run.
    """
    folder = workers.folder
    cases = collect(signature, seed, user, folder / "inputs.npz")
    runtime = reference_for(source.kind)
    stages = []

    def run(stage: str, dtype: str) -> Outputs:
        job = Execution(runtime.name, Subject(source, options, dtype), cases.path, str(folder / f"{stage}.npz"))
        done = workers.run(stage, execute, job, runtime.environment)
        stages.append(StageRun(stage, done.seconds, done.command))
        return done.value

    native = run("reference", "")
    oracle: Outputs | None = None
    reason = ""
    try:
        oracle = run("oracle", parity.ORACLE)
    except LoadError as error:
        reason = error.message
    if oracle is not None and oracle.failures:
        case, why = oracle.failures[0]
        reason = f"in float64 the model fails on case {case}: {why}"
        oracle = None
    report = ReferenceReport(runtime.title, reason or parity.ORACLE, len(cases.sizes), seed, cases.notes, tuple(stages))
    return Baseline(signature, cases, parity.Reference(native, oracle, reason), report)


def prove(workers: Workers, baseline: Baseline, artifact: Artifact, label: str, match: str = BY_NAME) -> Proof:
    """Inspect an artifact, run it on the reference's cases, and judge both.

    Whatever the artifact does, crash and hang included, becomes a verdict; `label` names the stages.
    """
    runtime = runtime_for(artifact.format)
    stages: list[StageRun] = []
    not_run = Verdict.not_run("the artifact's structure did not pass")
    try:
        seen = workers.run(
            f"inspect-{label}",
            inspect,
            Inspection(artifact.format, artifact.path, baseline.signature),
            runtime.environment,
        )
    except EdgeproofError as error:
        return Proof(Verdict.failed("read", str(error)), not_run, None, (), ())
    stages.append(StageRun(f"inspect-{label}", seen.seconds, seen.command))
    operators = tuple(seen.value.operators.items())
    verdict, binding = structure.judge(baseline.signature, seen.value.signature, match)
    if binding is None:
        return Proof(verdict, not_run, None, operators, tuple(stages))
    job = Execution(
        runtime.name,
        Subject(seen_as_file(artifact)),
        baseline.cases.path,
        str(workers.folder / f"run-{label}.npz"),
        baseline.cases.fitting(dict(binding.fixed)),
        binding.feeds,
    )
    try:
        ran = workers.run(f"run-{label}", execute, job, runtime.environment)
    except EdgeproofError as error:
        return Proof(verdict, Verdict.failed("runs", error.message), binding, operators, tuple(stages))
    stages.append(StageRun(f"run-{label}", ran.seconds, ran.command))
    judged = parity.judge(baseline.outputs, ran.value, baseline.cases, binding, artifact.precision)
    return Proof(verdict, judged, binding, operators, tuple(stages))


def time_artifact(
    workers: Workers, baseline: Baseline, artifact: Artifact, binding: Binding, threads: int, label: str
) -> tuple[Measurement, StageRun]:
    """Time an artifact in a process of its own; nothing else of ours may run meanwhile.

    Raises EdgeproofError where it cannot be timed.
    """
    runtime = runtime_for(artifact.format)
    stage = f"time-{label}-{threads}"
    environment = timing_environment(artifact.format, threads)
    job = Timing(
        runtime.name,
        Subject(seen_as_file(artifact), threads=threads),
        baseline.cases.path,
        baseline.cases.fitting({BATCH: 1, **dict(binding.fixed)}),
        binding.feeds,
    )
    try:
        done = workers.run(stage, measure, job, environment)
    finally:
        workers.retire(environment)
    return done.value, StageRun(stage, done.seconds, done.command)


def time_target(
    workers: Workers,
    baseline: Baseline,
    target: TargetReport,
    binding: Binding | None,
    threads: tuple[int, ...],
    say: Callable[[str], None],
) -> TargetReport:
    """Time a target's proven artifact at every number of threads; one that cannot be timed does not pass."""
    if target.artifact is None:
        return target
    if binding is None or target.status is not Status.PASS:
        return dataclasses.replace(target, latency_reason="not proven")
    if not threads:
        return dataclasses.replace(target, latency_reason="not asked for")
    measured, stages = [], []
    for count in threads:
        say(f"{target.target}: timing at {count} thread(s)")
        try:
            measurement, stage = time_artifact(workers, baseline, target.artifact, binding, count, target.target)
        except EdgeproofError as error:
            reason = f"latency could not be measured: {error.message}"
            return dataclasses.replace(target, status=Status.NOT_RUN, reason=reason, latency_reason=error.message)
        measured.append(measurement)
        stages.append(stage)
    return dataclasses.replace(target, latency=tuple(measured), stages=tuple(stages))


def timing_environment(form: str, threads: int) -> Environment:
    """Give the worker in which artifacts of a format are timed: the engine's, in a process that did nothing before."""
    environment = runtime_for(form).environment
    return dataclasses.replace(environment, name=f"time-{form}-{threads}")


def seen_as_file(artifact: Artifact) -> SourceFile:
    """Describe an artifact the way runtimes open files."""
    return SourceFile(artifact.path, artifact.format, "", artifact.sha256, artifact.file_bytes)
