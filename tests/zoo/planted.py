"""Export one model, plant faults in what is right, and judge all of it: `python planted.py JOB` prints JSON.

The gate's own code converts, plants and judges; what is added here are the figures of fixed tolerances, and how far a
fault moves the answers of the very file that it was planted in.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from calibrate_results import BEFORE, NUMBERS, Export, Figures, Judged
from cells import checked
from halves import FP32

from convert.api import convert
from convert.errors import EdgeproofError
from convert.sources import identify
from convert.spec import Artifact, LoadOptions, Signature, fingerprint, specs_from
from convert.worker import Workers, limits_of
from validators.inputs import read_user_file, specs_of
from validators.mutants import MUTATORS, SCALE, SCALED, Listing, Planting, Spot, places, plant
from validators.prove import Baseline, Proof, first_cases, load_source, prove, run_source
from validators.report import Attempt, Report, TargetReport
from validators.rounding import beyond_ranges
from validators.self_test import choose
from validators.verdict import OutputParity, Status, Verdict

#: Faults planted in one export, of float and of reduced precisions, whose ideals are built anew for each; `choose`
#: gives one of every kind first.
FLOAT_FAULTS, REDUCED_FAULTS = 8, 6

#: Weights scaled by so much for the curve only, and in how many places of an export.
FAINT_SCALE, FAINT_PLACES = 1.001, 2

#: ExecuTorch's tests allow each element 1e-3 and 1e-3 of its magnitude.
ALLOWED = 1e-3

STAGE_SECONDS = 300.0

#: Cases that ONNX's evaluator, written in Python, computes: all seeded ones of a small network.
EVALUATED_CASES = 32
SEED = 0

FLOAT32_STEP = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Job:
    """One model to judge: its saver's arguments, what to make of it, and its data where that needs some."""

    model: str
    arguments: dict[str, Any]
    formats: tuple[str, ...]
    precisions: tuple[str, ...]
    out: str
    fresh: str = ""
    calibration: str = ""
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """The source of a job, loaded and run once, and where its artifacts are judged."""

    job: Job
    workers: Workers
    baseline: Baseline

    def prove(self, artifact: Artifact, label: str, base: str) -> Proof:
        return prove(self.workers, self.baseline, artifact, label, base=base)


def judge_model(job: Job) -> dict[str, Any]:
    """Convert, judge every export once more with its arrays at hand, and plant faults in those that pass."""
    said = job.arguments
    report = convert(
        said["model"],
        job.formats,
        out=job.out,
        architecture=said.get("architecture", ""),
        input=said.get("input", ()),
        inputs=job.inputs,
        trust=bool(said.get("trust")),
        threads=(),
        seed=SEED,
        timeout_seconds=STAGE_SECONDS,
        precision=job.precisions,
        calibration=job.calibration,
        search_seconds=0,
        say=lambda line: print(line, file=sys.stderr),
    )
    user = read_user_file(Path(job.inputs)) if job.inputs else None
    options = LoadOptions(
        said.get("architecture", ""),
        specs_from(tuple(said.get("input", ()))),
        specs_of(user) if user else (),
        trust=bool(said.get("trust")),
    )
    source = identify(Path(said["model"]))
    with Workers(Path(job.out) / "judged", limits_of(STAGE_SECONDS, 0)) as workers:
        facts, _ = load_source(workers, source, options)
        cases = first_cases(workers, facts.signature, seed=SEED, user=user)
        baseline = run_source(workers, source, options, facts.signature, cases)
        bench = Bench(job, workers, baseline)
        exports = [export for target in report.targets for export in exports_of(bench, report, target)]
    made = {(export.form, export.precision) for export in exports}
    return {
        "exports": [dataclasses.asdict(export) for export in exports],
        "missing": [f"{t.label}: {t.reason}" for t in report.targets if (t.target, t.precision) not in made],
        "versions": report.versions,
        "machine": report.machine,
    }


def exports_of(bench: Bench, report: Report, target: TargetReport) -> Iterator[Export]:
    """Give every file that a candidate or quantizer made and that could be judged; the one that is kept is broken."""
    for number, attempt in enumerate(target.attempts):
        if attempt.artifact is None or attempt.parity is None:
            continue
        verdicts = (attempt.structure, attempt.parity)
        right = Judged(*overall(verdicts), tuple(figures(output) for output in attempt.parity.outputs))
        made_by = attempt.recipe.quantizer if attempt.recipe else attempt.plan
        artifact = target.artifact if number == target.kept and target.artifact else attempt.artifact
        export = Export(bench.job.model, target.target, target.precision, made_by, right)
        if target.precision == FP32:
            said = independent(bench.job, report, target, artifact)
            export = dataclasses.replace(export, agreed=said.get("agreed"), check=said.get("why", ""))
        elif target.target == "onnx" and right.status != Status.PASS.value:
            export = by_the_standard(bench, report, export, attempt, artifact)
        if number == target.kept and right.status == Status.PASS.value:
            export = broken(bench, report, export, attempt, artifact)
        yield export


def independent(job: Job, report: Report, target: TargetReport, artifact: Artifact) -> dict[str, Any]:
    """Ask the zoo's check, which knows nothing of the tool, whether an export is right."""
    if not Path(artifact.path).exists():
        return {"agreed": None, "why": "the file is gone"}
    shown = {"target": target.target, "artifact": {"path": artifact.path, "signature": signed(artifact.signature)}}
    try:
        return checked({"model": {"signature": signed(report.model.signature)}}, shown, Path(job.fresh))
    except subprocess.TimeoutExpired as error:
        return {"agreed": None, "why": str(error)}


def by_the_standard(bench: Bench, report: Report, export: Export, attempt: Attempt, artifact: Artifact) -> Export:
    """Ask ONNX's own evaluator of a refused reduced file whether the engine computes it as the standard says.

    ONNX Runtime's integer products saturate without a word on x86 processors that have no VNNI instructions: the file
    is right, what runs here is not, and the gate judges what runs.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    proof = bench.prove(artifact, f"{export.form}-{export.precision}-refused", base_of(report, attempt))
    if proof.ran is None or proof.binding is None or not proof.parity.outputs:
        return export
    model = onnx.load(artifact.path)
    evaluator = ReferenceEvaluator(model)
    given, ran = stored(bench.baseline.cases.path), stored(proof.ran.path)
    names = [output.name for output in model.graph.output]
    cases = bench.baseline.cases.fitting(dict(proof.binding.fixed))
    squares, count = 0.0, 0
    for case in cases[:EVALUATED_CASES]:
        fed = {feed.takes: given[f"{case}/{feed.name}"].astype(feed.dtype) for feed in proof.binding.feeds}
        answers = dict(zip(names, evaluator.run(None, fed), strict=True))
        for _, found in proof.binding.outputs:
            error = ran[f"{case}/{found}"].astype(float) - answers[found].astype(float)
            squares, count = squares + float(np.square(error).sum()), count + error.size
    must = max(output.ideal_rmse or 0.0 for output in proof.parity.outputs)
    share = (squares / max(count, 1)) ** 0.5 / must if must else float("inf")
    why = f"ONNX Runtime answers {share:.3g} times what this precision must err away from the standard's own evaluator"
    return dataclasses.replace(export, agreed=share <= 1.0, check=why)


def signed(signature: Signature) -> dict[str, Any]:
    """Write a signature as reports do."""
    sides = {"inputs": signature.inputs, "outputs": signature.outputs}
    return {side: [dataclasses.asdict(spec) for spec in specs] for side, specs in sides.items()}


def broken(bench: Bench, report: Report, export: Export, attempt: Attempt, artifact: Artifact) -> Export:
    """Judge a right export once more, and every fault planted in it."""
    base = base_of(report, attempt)
    label = f"{export.form}-{export.precision}"
    if export.precision != FP32 and not base:
        return dataclasses.replace(export, note=f"the float file it was made of, {attempt.recipe}, was not kept")
    proof = bench.prove(artifact, label, base)
    if Status.worst((proof.structure.status, proof.parity.status)) is not Status.PASS or proof.ran is None:
        # What passed a moment ago and does not now is no sound basis, and no right export that was accepted either.
        again = Judged(*overall((proof.structure, proof.parity)), tuple(map(figures, proof.parity.outputs)))
        return dataclasses.replace(export, right=again, note="it passed, and was refused when it was judged again")
    fixed = against_source(bench.baseline, proof, proof)
    outputs = tuple(dataclasses.replace(one, **fixed.get(one.name, {})) for one in export.right.outputs)
    export = dataclasses.replace(export, right=dataclasses.replace(export.right, outputs=outputs))
    if artifact.companions:
        return dataclasses.replace(export, note="no faults are planted in files with external data")
    environment = MUTATORS[artifact.format].environment
    try:
        spots = bench.workers.run(
            f"mutants-{label}", places, Listing(artifact.format, artifact.path), environment
        ).value
    except EdgeproofError as error:
        return dataclasses.replace(export, note=f"it cannot be taken apart: {error.message}")
    chosen = choose(spots, SEED)[: FLOAT_FAULTS if export.precision == FP32 else REDUCED_FAULTS]
    scaled = [number for number in chosen if spots[number].kind == SCALED]
    plan = [(number, SCALE) for number in chosen] + [(number, FAINT_SCALE) for number in scaled[:FAINT_PLACES]]
    faults = tuple(
        fault(bench, artifact, proof, base, f"{label}-fault-{turn}", Planting(
            artifact.format, artifact.path, number, str(bench.workers.folder / f"{label}-fault-{turn}" /
            Path(artifact.path).name), scale), spots[number])
        for turn, (number, scale) in enumerate(plan)
    )  # fmt: skip
    return dataclasses.replace(export, faults=faults, note="" if faults else "it has no place for any fault")


def base_of(report: Report, attempt: Attempt) -> str:
    """Give the float file that a reduced one was made of; empty where it is not the one that was kept."""
    for target in report.targets:
        if target.precision != FP32 or target.artifact is None or target.kept is None or attempt.recipe is None:
            continue
        if target.target == attempt.recipe.format and target.attempts[target.kept].plan == attempt.recipe.base:
            return target.artifact.path
    return ""


def fault(bench: Bench, artifact: Artifact, right: Proof, base: str, label: str, job: Planting, spot: Spot) -> Judged:
    """Plant one fault and judge the file."""
    scale = job.scale if spot.kind == SCALED else None
    named = {"kind": spot.kind, "where": spot.where, "scale": scale}
    out = Path(job.out)
    try:
        bench.workers.run(f"plant-{label}", plant, job, MUTATORS[artifact.format].environment)
    except EdgeproofError as error:
        return Judged("NOT_RUN", error.message, planted=False, **named)
    sha256, size = fingerprint(out)
    mutant = dataclasses.replace(artifact, path=str(out), sha256=sha256, file_bytes=size)
    proof = bench.prove(mutant, label, base)
    out.unlink()
    status, reason = overall((proof.structure, proof.parity))
    outputs = tuple(map(figures, proof.parity.outputs))
    fixed = against_source(bench.baseline, right, proof)
    outputs = tuple(dataclasses.replace(one, **fixed.get(one.name, {})) for one in outputs)
    failed = status == Status.FAIL.value
    told_by = (NUMBERS if any(one.status == status for one in outputs) else BEFORE) if failed else ""
    moved = movement(bench.baseline, right, proof)
    same = no_worse(right, proof)
    return Judged(status, reason, outputs, told_by=told_by, idle=moved.idle, moved=moved.share, no_worse=same, **named)


def no_worse(right: Proof, other: Proof) -> bool:
    """Whether an fp32 file answers as near to float64 as its source, or as the right file it was made of."""
    sides = right.parity.outputs, other.parity.outputs
    if other.ideal is not None or len(sides[0]) != len(sides[1]):
        return False
    for mine, theirs in zip(*sides, strict=True):
        if theirs.reference_noise_rmse is None:
            if theirs.changed is None or mine.changed is None or theirs.changed > mine.changed:
                return False
        elif theirs.elements != mine.elements or theirs.rmse > max(theirs.reference_noise_rmse, mine.rmse):
            return False
    return True


def overall(verdicts: tuple[Verdict | None, ...]) -> tuple[str, str]:
    """Give the worst of structure and parity, and its reason; how much quality was lost is not what is asked here."""
    known = [verdict for verdict in verdicts if verdict is not None]
    status = Status.worst(verdict.status for verdict in known)
    return status.value, next((v.reason for v in reversed(known) if v.status is status), "")[:400]


def figures(output: OutputParity) -> Figures:
    return Figures(
        output.name,
        output.status.value,
        output.basis,
        output.ratio,
        output.case_ratio,
        output.distance,
        output.distance_bound,
        output.scaled_max,
        output.rmse,
        output.reference_rms,
        output.reference_noise_rmse,
        output.ideal_rmse,
        output.sqnr_db,
        output.changed,
    )


@dataclass(frozen=True, slots=True)
class Movement:
    """How far a fault moves the answers of the file it was planted in."""

    idle: bool
    share: float | None


def movement(baseline: Baseline, right: Proof, other: Proof) -> Movement:
    """Hold what a fault changes against what the file's precision must err anyway, output by output; the worst counts.

    Over the cases that R is formed of. None where nothing says what must be erred, or nothing can be compared: then the
    fault counts.
    """
    if right.ran is None or other.ran is None or right.binding is None:
        return Movement(idle=False, share=None)
    mine, theirs = stored(right.ran.path), stored(other.ran.path)
    if set(mine) != set(theirs) or any(mine[key].shape != theirs[key].shape for key in mine):
        return Movement(idle=False, share=None)
    idle = all(np.array_equal(mine[k], theirs[k], equal_nan=mine[k].dtype.kind == "f") for k in mine)
    usable = baseline.cases.fitting(dict(right.binding.fixed))
    beyond = beyond_ranges(baseline.cases, right.facts.precision if right.facts else FP32, usable)
    shares: list[float | None] = []
    for output, (expected, found) in zip(right.parity.outputs, right.binding.outputs, strict=True):
        counted = [f"{case}/{found}" for case in usable if case not in beyond and case not in output.set_aside]
        if mine[counted[0]].dtype.kind != "f":
            shares.append(whole_share(baseline, right, mine, theirs, usable, expected, found))
            continue
        squares = sum(float(np.nansum(np.square(theirs[k].astype(float) - mine[k].astype(float)))) for k in counted)
        rmse = (squares / max(sum(mine[k].size for k in counted), 1)) ** 0.5
        must = output.reference_noise_rmse if output.ideal_rmse is None else output.ideal_rmse
        if must is None:
            return Movement(idle, None)
        shares.append(rmse / max(must, output.rmse, FLOAT32_STEP * output.reference_rms) if rmse else 0.0)
    return Movement(idle, max((share for share in shares if share is not None), default=None))


def whole_share(
    baseline: Baseline, right: Proof, mine: Mapping[str, Any], theirs: Mapping[str, Any], usable: tuple[str, ...],
    expected: str, found: str,
) -> float:  # fmt: skip
    """The same of integers: how many change, over how many the source's own rounding, or the ideal, changes."""
    native = stored(baseline.outputs.native.path)
    other = right.ideal or baseline.outputs.oracle
    wide = stored(other.path) if other else native
    name = found if right.ideal else expected
    changed = sum(int((mine[f"{case}/{found}"] != theirs[f"{case}/{found}"]).sum()) for case in usable)
    decided = sum(int((native[f"{case}/{expected}"] != wide[f"{case}/{name}"]).sum()) for case in usable)
    return changed / decided if decided else (float("inf") if changed else 0.0)


def against_source(baseline: Baseline, right: Proof, proof: Proof) -> dict[str, dict[str, float]]:
    """Measure what fixed tolerances look at: an artifact's answers beside those of the source as it runs."""
    if proof.ran is None or right.binding is None:
        return {}
    native, actual = stored(baseline.outputs.native.path), stored(proof.ran.path)
    usable = baseline.cases.fitting(dict(right.binding.fixed))
    found: dict[str, dict[str, float]] = {}
    for expected, made in right.binding.outputs:
        pairs = [(native[f"{case}/{expected}"], actual.get(f"{case}/{made}")) for case in usable]
        if any(have is None or have.shape != want.shape or want.dtype.kind != "f" for want, have in pairs):
            continue
        largest = greatest = worst = 0.0
        for want, have in pairs:
            finite = np.isfinite(want) & np.isfinite(have)
            if not finite.any():
                continue
            expected_values = want[finite].astype(float)
            error = np.abs(have[finite].astype(float) - expected_values)
            largest = max(largest, float(error.max()))
            greatest = max(greatest, float(np.abs(expected_values).max()))
            worst = max(worst, float((error / (ALLOWED + ALLOWED * np.abs(expected_values))).max()))
        scaled = largest / greatest if greatest else (float("inf") if largest else 0.0)
        found[expected] = {"max_abs": largest, "scaled": scaled, "close": worst}
    return found


def stored(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


if __name__ == "__main__":
    # Converters and exporters print to stdout; the answer is the last line.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    asked = json.loads(Path(sys.argv[1]).read_text())
    many = {"formats": tuple(asked["formats"]), "precisions": tuple(asked["precisions"])}
    print("\n" + json.dumps(judge_model(Job(**asked | many))))
