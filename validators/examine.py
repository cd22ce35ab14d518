"""Examining an artifact: what it says of itself, and what it answers to the cases. Its source need not have run yet."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from convert.errors import EdgeproofError, WorkerError
from convert.formats import Facts
from convert.layout import stated
from convert.spec import FP32, KEEP, Artifact, Signature, SourceFile
from convert.worker import Workers
from validators import paths, structure
from validators.inputs import CaseSet
from validators.report import StageRun
from validators.runtimes import Execution, Outputs, Runtime, Subject, execute, paths_of, runtime_for
from validators.structure import BY_NAME, Binding, Inspection, inspect
from validators.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A run on another kernel path: its answers, or what was raised instead."""

    path: str  # name of the runtime
    ran: Outputs | None
    stages: tuple[StageRun, ...]
    error: EdgeproofError | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of an artifact without its source's answers.

    `binding` is None where its structure failed. `lacking` says why no engine here runs it. `ran` are its answers to
    `cases`, and `broken` says why there are none.
    """

    structure: Verdict
    runtime: Runtime
    stages: tuple[StageRun, ...] = ()
    facts: Facts | None = None
    binding: Binding | None = None
    lacking: str = ""
    cases: CaseSet | None = None
    ran: Outputs | None = None
    broken: str = ""
    elsewhere: tuple[Elsewhere, ...] = ()  # runs on other kernel paths that were made already

    def on(self, workers: Workers, cases: CaseSet, artifact: Artifact, label: str) -> Examined:
        """Give the same with the answers to `cases`; the artifact runs again where those it has are to others."""
        if self.binding is None or self.lacking or (self.cases is not None and _alike(self.cases, cases)):
            return self
        bare = dataclasses.replace(self, stages=self.stages[:1], broken="", elsewhere=())
        return _answering(workers, bare, self.binding, cases, artifact, label)


def examine(
    workers: Workers,
    signature: Signature,
    cases: CaseSet,
    artifact: Artifact,
    label: str,
    *,
    match: str = BY_NAME,
    allow: tuple[str, ...] = (),
    layout: str = KEEP,
    ahead: bool = False,
) -> Examined:
    """Inspect an artifact, hold its structure against a signature, and run it on all cases that its sizes allow.

    Whatever it does, crash and hang included, becomes part of what is given. The arguments are those of
    `validators.prove.prove`; `ahead` of its source's answers, it is run on other kernel paths too, which is for nothing
    where it turns out to be wrong.
    """
    runtime = runtime_for(artifact.format)
    stage = f"inspect-{label}"
    job = Inspection(artifact.format, artifact.path, signature)
    try:
        seen = workers.run(stage, inspect, job, runtime.environment)
    except EdgeproofError as error:
        return Examined(Verdict.failed("read", str(error)), runtime)
    facts = seen.value
    verdict, binding = structure.judge(
        signature, stated(facts.signature, layout), match, foreign=facts.foreign, allow=allow
    )
    precision = artifact.precision or facts.precision
    if precision != FP32 and facts.precision == FP32:
        verdict, binding = Verdict.failed("precision", f"it is to be {precision}, and nothing in it is reduced"), None
    found = Examined(verdict, runtime, (StageRun(stage, seen.seconds, seen.command),), facts, binding)
    if binding is None:
        return found
    needs = tuple(sorted({operator.kind for operator in facts.foreign}))
    able = runtime_for(artifact.format, needs)
    if able is None:
        lacking = f"{runtime.title} has no kernels for its {' and '.join(needs)} operators"
        return dataclasses.replace(found, lacking=lacking)
    found = _answering(workers, dataclasses.replace(found, runtime=able), binding, cases, artifact, label)
    return _elsewhere(workers, found, binding, cases, artifact, label) if ahead and found.ran is not None else found


def _answering(
    workers: Workers, found: Examined, binding: Binding, cases: CaseSet, artifact: Artifact, label: str
) -> Examined:
    """Run an artifact on all cases, those with NaN and infinity beside, and add what it answered."""
    whole = cases.names[0] in cases.fitting(dict(binding.fixed))
    takes_odd = whole and not any(feed.scale for feed in binding.feeds)  # integers stand for no NaN
    odd = tuple(case for case, _ in cases.spread) if takes_odd else ()
    stages = [*found.stages]
    ran, broken = None, ""
    try:
        ran = run_artifact(workers, cases, found.runtime, artifact, binding, _stage(label), stages, odd=odd)
    except EdgeproofError as error:
        broken = error.message
        if odd and isinstance(error, WorkerError):
            broken = _without_odd(workers, cases, found.runtime, artifact, binding, label, broken)
    return dataclasses.replace(found, stages=tuple(stages), cases=cases, ran=ran, broken=broken)


def _elsewhere(
    workers: Workers, found: Examined, binding: Binding, cases: CaseSet, artifact: Artifact, label: str
) -> Examined:
    """Run an artifact on the other kernel paths of its format that a right one is judged on."""
    runs = []
    for path in paths_of(artifact.format):
        if not path.acquits:
            ran, error = None, None
            stages: list[StageRun] = []
            try:
                ran = run_elsewhere(workers, cases, path, artifact, binding, label, stages)
            except EdgeproofError as raised:
                error = raised
            runs.append(Elsewhere(path.name, ran, tuple(stages), error))
    return dataclasses.replace(found, elsewhere=tuple(runs))


def _without_odd(
    workers: Workers, cases: CaseSet, runtime: Runtime, artifact: Artifact, binding: Binding, label: str, broken: str
) -> str:
    """Say why an artifact could not be run: whether it was NaN and infinity in its inputs that it did not survive."""
    try:
        run_artifact(workers, cases, runtime, artifact, binding, f"{_stage(label)}-finite", [])
    except EdgeproofError:
        return broken
    return f"it does not survive NaN or infinity in an input, as its source does: {broken}"


def _stage(label: str) -> str:
    return f"run-{label}"


def _alike(one: CaseSet, other: CaseSet) -> bool:
    """Whether an artifact is run on the same cases in the same way."""
    return (one.path, one.sizes, one.spread, one.steps) == (other.path, other.sizes, other.spread, other.steps)


def run_artifact(
    workers: Workers,
    cases: CaseSet,
    runtime: Runtime,
    artifact: Artifact,
    binding: Binding,
    stage: str,
    stages: list[StageRun],
    only: tuple[str, ...] = (),
    timed_seconds: float = 0.0,
    most_seconds: float = 0.0,
    odd: tuple[str, ...] = (),
) -> Outputs:
    """Run an artifact on all cases that its sizes allow, or `only` on some, in that order, and on `odd` ones beside.

    Raises EdgeproofError where it does not run.
    """
    usable = cases.fitting(dict(binding.fixed))
    job = Execution(
        runtime.name,
        Subject(seen_as_file(artifact)),
        cases.path,
        str(workers.folder / f"{stage}.npz"),
        (*(case for case in only or usable if case in usable), *odd),
        binding.feeds,
        binding.scales,
        timed_seconds,
        most_seconds,
        cases.steps,
    )
    done = workers.run(stage, execute, job, runtime.environment)
    stages.append(StageRun(stage, done.seconds, done.command))
    return done.value


def run_elsewhere(
    workers: Workers,
    cases: CaseSet,
    path: Runtime,
    artifact: Artifact,
    binding: Binding,
    label: str,
    stages: list[StageRun],
) -> Outputs:
    """Run an artifact on another kernel path, on as many cases as there is time for; raises as `run_artifact` does."""
    return run_artifact(
        workers,
        cases,
        path,
        artifact,
        binding,
        f"{_stage(label)}-{path.name}",
        stages,
        paths.varied(cases, cases.fitting(dict(binding.fixed))),
        most_seconds=paths.SECONDS,
    )


def seen_as_file(artifact: Artifact) -> SourceFile:
    """Describe an artifact the way runtimes open files."""
    return SourceFile(artifact.path, artifact.format, "", artifact.sha256, artifact.file_bytes)
