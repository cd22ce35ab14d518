"""Putting the costs that do not vary into the report: counted in the engine's worker, at the sizes of the timings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from convert.errors import EdgeproofError
from convert.spec import BATCH, Limits
from convert.worker import Workers
from validators.costs import COSTERS, NOT_ASKED, Costs, Counted, Counting, count
from validators.examine import seen_as_file
from validators.instructions import INSTRUCTIONS, SECONDS, Executing, execute_counted
from validators.profiles import PROFILERS, Profile, Profiling, profile
from validators.prove import Baseline, Proof
from validators.report import TargetReport
from validators.runtimes import Subject
from validators.verdict import Status

#: What is null where nothing could be counted at all.
COUNTED = ("weight_bytes", "activation_bytes", "macs", "delegated_share", "partitions")


@dataclass(frozen=True, slots=True)
class Place:
    """The case that a proven artifact is counted on, the first of those it is timed on."""

    case: str
    sizes: tuple[tuple[str, int], ...]


def place_of(baseline: Baseline, proof: Proof) -> Place | None:
    """Find the case; None where the artifact's contract fits none."""
    if proof.binding is None:
        return None
    cases = baseline.cases.fitting({BATCH: 1, **dict(proof.binding.fixed)})
    if not cases:
        return None
    return Place(cases[0], dict(baseline.cases.sizes)[cases[0]])


def weigh(workers: Workers, baseline: Baseline, target: TargetReport, proof: Proof | None) -> TargetReport:
    """Count the costs of what was made of a target, whether it passed or not."""
    artifact = target.artifact
    if artifact is None or proof is None:
        return target
    place = place_of(baseline, proof)
    sizes = () if place is None else place.sizes
    feeds = proof.binding.feeds if proof.binding is not None else ()
    reason = ""
    found = Counted()
    if artifact.format not in COSTERS.names():
        reason = f"not counted of {artifact.format} artifacts"
    else:
        case = "" if place is None else place.case
        job = Counting(artifact.format, artifact.path, baseline.cases.path, case, feeds)
        try:
            found = workers.run(f"costs-{target.label}", count, job, COSTERS[artifact.format].environment).value
        except EdgeproofError as error:
            reason = error.message
    if reason:
        operators = dict(target.attempts[target.kept].operators) if target.kept is not None else {}
        found = Counted(operators=operators, reasons=dict.fromkeys(COUNTED, reason))
    reasons = {**found.reasons, "instructions": NOT_ASKED}
    fields = {item.name: getattr(found, item.name) for item in dataclasses.fields(found)}
    costs = Costs(artifact.file_bytes, **{**fields, "reasons": reasons}, sizes=sizes)
    return dataclasses.replace(target, costs=costs)


def count_instructions(
    workers: Workers, baseline: Baseline, target: TargetReport, proof: Proof | None, say: Callable[[str], None]
) -> TargetReport:
    """Count the instructions of one inference where an artifact is proven; else, or where they cannot be, say why."""
    artifact, costs = target.artifact, target.costs
    if artifact is None or costs is None or proof is None:
        return target
    place = place_of(baseline, proof)
    if place is None or proof.binding is None or not proven(target):
        return _counted(target, costs, reason="NOT_RUN: it is not proven")
    say(f"{target.label}: counting instructions")
    runtime = proof.runtime
    job = Executing(
        runtime.name,
        Subject(seen_as_file(artifact)),
        baseline.cases.path,
        place.case,
        proof.binding.feeds,
        runtime.environment.variables,
    )
    limits = Limits(min(SECONDS, workers.limits.timeout_seconds), workers.limits.memory_bytes)
    try:
        found = workers.run(f"instructions-{target.label}", execute_counted, job, INSTRUCTIONS, limits=limits).value
    except EdgeproofError as error:
        fix = f"; fix: {error.fix}" if error.fix else ""
        return _counted(target, costs, reason=f"NOT_RUN: {error.message}{fix}")
    finally:
        workers.retire(INSTRUCTIONS)
    done = dataclasses.replace(
        costs, instructions=found.median, instruction_runs=found.runs, instruction_set=found.instruction_set
    )
    return _counted(target, done)


def profile_kept(
    workers: Workers, baseline: Baseline, target: TargetReport, proof: Proof | None, say: Callable[[str], None]
) -> TargetReport:
    """Profile a proven artifact in a fresh process of its engine; else, or where that cannot be, say why."""
    artifact = target.artifact
    place = None if proof is None else place_of(baseline, proof)
    if artifact is None or proof is None:
        return target
    if place is None or proof.binding is None or not proven(target):
        return dataclasses.replace(target, profile=Profile(reason="NOT_RUN: it is not proven"))
    if artifact.format not in PROFILERS.names():
        able = ", ".join(PROFILERS.names())
        reason = f"NOT_RUN: {artifact.format} artifacts are not profiled; fix: profile one of {able}"
        return dataclasses.replace(target, profile=Profile(reason=reason))
    say(f"{target.label}: profiling")
    images = next((spec.layout for spec in artifact.signature.inputs if spec.layout), "")
    facts = proof.facts
    images = images or next((spec.layout for spec in facts.signature.inputs if spec.layout), "") if facts else images
    job = Profiling(
        artifact.format,
        Subject(seen_as_file(artifact)),
        baseline.cases.path,
        place.case,
        proof.binding.feeds,
        images,
    )
    profiler = PROFILERS[artifact.format]
    environment = dataclasses.replace(profiler.environment, name=f"profile-{artifact.format}")
    try:
        found = workers.run(f"profile-{target.label}", profile, job, environment).value
    except EdgeproofError as error:
        fix = f"; fix: {error.fix}" if error.fix else ""
        found = Profile(reason=f"NOT_RUN: {error.message}{fix}")
    finally:
        workers.retire(environment)
    return dataclasses.replace(target, profile=found)


def proven(target: TargetReport) -> bool:
    """Whether what was kept passed its checks; a regression against a baseline is none of them."""
    return target.kept is not None and target.attempts[target.kept].status is Status.PASS


def _counted(target: TargetReport, costs: Costs, reason: str = "") -> TargetReport:
    reasons = {name: said for name, said in costs.reasons.items() if name != "instructions"}
    if reason:
        reasons["instructions"] = reason
    return dataclasses.replace(target, costs=dataclasses.replace(costs, reasons=reasons))
