"""Does an artifact compute what its source computes? Judged against the source's own rounding where it is known.

The ratio: R = rmse(artifact, oracle) / rmse(ideal, oracle), where the oracle is the source in float64 and the ideal
is what the artifact's precision allows: for fp32 the source at its own precision, for a reduced precision a simulation
with the artifact's own scales (see `ideals`). A right export errs about as much as its ideal does, whatever the
network's condition; a wrong one errs up to thousands of times more. See `tolerance.py` for the bounds and why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.spec import FP16, FP32
from validators import tolerance
from validators.exact import compare
from validators.inputs import CaseSet
from validators.propagation import spreading
from validators.rounding import ORACLE, Sides, beyond_ranges, measure
from validators.rows import rows_alone
from validators.runtimes import REPEAT, Outputs
from validators.structure import Binding
from validators.verdict import Finding, OutputParity, Status, Verdict

if TYPE_CHECKING:
    import numpy as np

Stored = Mapping[str, "np.ndarray"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The source's own outputs on all cases: at its precision, and in float64 where it runs there."""

    native: Outputs
    oracle: Outputs | None
    oracle_reason: str = ""  # why there is none
    spread: Outputs | None = None  # on cases with one NaN or infinity


def judge(
    reference: Reference,
    artifact: Outputs,
    cases: CaseSet,
    binding: Binding,
    precision: str = FP32,
    ideal: Outputs | None = None,
    farthest: float | None = None,
    nudged: Outputs | None = None,
    among: tuple[str, ...] = (),
    *,
    elsewhere: bool = False,
) -> Verdict:
    """Compare an artifact's outputs with its source's, over every case both could run, `among` some where given.

    `elsewhere` says that other kernels answered than those that proved the artifact, which have more room.

    A reduced precision is judged against its `ideal`'s outputs, which have the artifact's names: by R, and by D where
    there is a bound on it, `farthest`, from which `nudged`, the outputs of the ideal with its constants nudged, can
    acquit it.

    All that could make agreement meaningless comes first: cases that did not run, answers that vary between runs,
    dtypes and shapes that differ, NaN and infinity in other places, outputs that do not vary with the input.
    """
    import numpy as np

    usable = tuple(case for case in cases.fitting(dict(binding.fixed)) if not among or case in among)
    if precision == FP16:
        # NOTE: Why: half precision ends at 65504, which extreme inputs exceed within a right artifact.
        usable = tuple(case for case in usable if case not in cases.extremes)
    findings = list(_ran(reference, artifact, usable, _remedy(binding)))
    if any(finding.status is not Status.PASS for finding in findings):
        return Verdict.of(findings)
    if ideal is not None and any(label in usable for label, _ in ideal.failures):
        label, why = next((label, why) for label, why in ideal.failures if label in usable)
        return Verdict.of([Finding("ideal", Status.NOT_RUN, f"the ideal to judge by fails on case {label}: {why}")])
    oracle = reference.oracle.path if reference.oracle else None
    with contextlib.ExitStack() as files:
        native, actual = (files.enter_context(np.load(path)) for path in (reference.native.path, artifact.path))
        wide: Stored = files.enter_context(np.load(oracle)) if oracle else native
        simulated, swayed = (
            files.enter_context(np.load(side.path)) if side is not None else None for side in (ideal, nudged)
        )
        findings += _keeps_state(native, actual, binding) if cases.steps else _deterministic(native, actual, binding)
        broken = list(_shapes(native, actual, binding, usable))
        findings += broken
        if broken or any(finding.status is not Status.PASS for finding in findings):
            return Verdict.of(findings)
        if len(usable) < tolerance.FEWEST_CASES:
            few = f"only {len(usable)} case(s) have the sizes the artifact is fixed to{_remedy(binding)}"
            return Verdict.of([*findings, Finding("cases", Status.NOT_RUN, few)])
        findings += _influence(native, actual, cases, binding, usable, simulated)
        exact = wide if oracle else None
        findings += rows_alone(native, actual, exact, cases, binding.outputs, usable, precision)
        if reference.spread is not None:
            spread: Stored = files.enter_context(np.load(reference.spread.path))
            findings += spreading(reference.spread, spread, artifact, actual, cases, binding.outputs)
        beyond = beyond_ranges(cases, precision, usable)
        outputs = []
        for expected, found in binding.outputs:
            arrays = (native, actual, exact, simulated, swayed)
            sides = Sides(expected, found, *arrays, dict(cases.twins), cases.extremes, elsewhere=elsewhere)
            whole = native[f"{usable[0]}/{expected}"].dtype.kind != "f"
            outputs.append(
                compare(sides, usable, precision) if whole else measure(sides, usable, precision, beyond, farthest)
            )
        findings += [
            Finding(
                "chaos",
                Status.PASS,
                f"on {', '.join(o.set_aside)} the source's own rounding is far beyond the usual; judged case by case",
                o.name,
            )
            for o in outputs
            if o.set_aside
        ]
        findings += _vacuity(outputs, native, wide, tuple(case for case in usable if case not in cases.extremes))
    basis = "R against float64" if oracle else f"tolerance, because {reference.oracle_reason}"
    if ideal is not None:
        basis = f"R against {'float64' if oracle else 'the source'}, over an ideal {precision} simulation"
    what = f"{len(usable)} steps from a fresh start" if cases.steps else f"{len(usable)} cases"
    return Verdict.of(findings, outputs, passed=f"{what}, judged by {basis}")


def _remedy(binding: Binding) -> str:
    """Say how to compare at the sizes an artifact is fixed to."""
    fixes = " ".join(f"--fix {name}={size}" for name, size in binding.fixed)
    return f"; add {fixes} to compare at those" if fixes else ""


def _ran(reference: Reference, artifact: Outputs, usable: tuple[str, ...], remedy: str) -> Iterator[Finding]:
    """Every case must have run on both sides, and there must be some."""
    if not usable:
        yield Finding("cases", Status.NOT_RUN, f"no case has the sizes the artifact is fixed to{remedy}")
        return
    for label, why in reference.native.failures:
        if label in (*usable, REPEAT):
            yield Finding("cases", Status.NOT_RUN, f"the source itself fails on case {label}: {why}")
            return
    failed = [(label, why) for label, why in artifact.failures if label in (*usable, REPEAT)]
    if failed:
        label, why = failed[0]
        more = f" (and {len(failed) - 1} more cases)" if len(failed) > 1 else ""
        yield Finding("runs", Status.FAIL, f"the artifact fails on case {label}{more}: {why}")


def _deterministic(native: Stored, actual: Stored, binding: Binding) -> Iterator[Finding]:
    """The first case was run twice: its answers must be the same to the bit."""
    for expected, found in binding.outputs:
        if not _same(_first(native, expected), native[f"{REPEAT}/{expected}"]):
            reason = "the source gives another answer when run again, so there is nothing to compare with"
            yield Finding("determinism", Status.NOT_RUN, reason, expected)
        elif not _same(_first(actual, found), actual.get(f"{REPEAT}/{found}")):
            yield Finding("determinism", Status.FAIL, f"{expected} differs when the artifact is run again", expected)


def _keeps_state(native: Stored, actual: Stored, binding: Binding) -> Iterator[Finding]:
    """A source with a state answers otherwise when its first input comes again at the end; so must the artifact.

    That both give the same answers from a fresh start was seen when they ran.
    """
    moved = [pair for pair in binding.outputs if not _same(native.get(f"{REPEAT}/{pair[0]}"), _first(native, pair[0]))]
    kept = [e for e, found in moved if not _same(actual.get(f"{REPEAT}/{found}"), _first(actual, found))]
    if moved and not kept:
        lost = f"the artifact loses the state of its source: {moved[0][0]} is the same when an input comes again later"
        yield Finding("state", Status.FAIL, lost, moved[0][0])
    elif moved:
        said = "the source keeps a state between runs, so all cases were run in order, twice from a fresh start"
        yield Finding("state", Status.PASS, said, moved[0][0])


def answers_again(stored: Outputs) -> bool:
    """Whether a model gave the same answers when its first case was run again."""
    import numpy as np

    with np.load(stored.path) as answers:
        return all(_same(_first(answers, name), answers.get(f"{REPEAT}/{name}")) for name in stored.names)


def _first(stored: Stored, name: str) -> np.ndarray | None:
    """Give an output of the first case that was run, which is the one that was run again."""
    return next((stored[key] for key in stored if key.partition("/")[2] == name), None)


def _shapes(native: Stored, actual: Stored, binding: Binding, usable: tuple[str, ...]) -> Iterator[Finding]:
    """Outputs must be there, of the source's dtype and shape, and non-finite in the same places."""
    import numpy as np

    from validators.structure import NARROWER

    for expected, found in binding.outputs:
        for case in usable:
            want, have = native[f"{case}/{expected}"], actual.get(f"{case}/{found}")
            reason = ""
            if have is None:
                reason = "is missing"
            elif have.dtype != want.dtype and NARROWER.get(str(want.dtype)) != str(have.dtype):
                reason = f"is {have.dtype}, expected {want.dtype}"
            elif have.size == 0 and want.size:
                reason = "is empty"
            elif have.shape != want.shape:
                reason = f"has the shape {list(have.shape)}, expected {list(want.shape)}"
            elif want.dtype.kind == "f":
                for what, places in (("NaN", np.isnan), ("+infinity", np.isposinf), ("-infinity", np.isneginf)):
                    differ = places(want) != places(have)
                    if differ.any():
                        at = tuple(int(i) for i in np.argwhere(differ)[0])
                        reason = f"at {list(at)} is {have[at]}, expected {want[at]}: {what} in other places"
                        break
            if reason:
                yield Finding("outputs", Status.FAIL, f"output {expected} {reason} (case {case})", expected)
                break


def _influence(
    native: Stored,
    actual: Stored,
    cases: CaseSet,
    binding: Binding,
    usable: tuple[str, ...],
    ideal: Stored | None = None,
) -> Iterator[Finding]:
    """An input that changes the source's answer must change the artifact's, unless the precision itself loses it.

    Where the ideal does not follow either, no conversion is at fault, and quality is what the gate judges next.
    """
    first = cases.names[0]
    for name, probe in cases.probes:
        if probe not in usable:
            continue
        moved = [e for e, _ in binding.outputs if not _same(native[f"{first}/{e}"], native[f"{probe}/{e}"])]
        followed = [e for e, a in binding.outputs if not _same(actual[f"{first}/{a}"], actual[f"{probe}/{a}"])]
        if not moved:
            yield Finding("influence", Status.PASS, f"input {name} changes no output of the source", name)
        elif (
            not followed
            and ideal is not None
            and all(_same(ideal[f"{first}/{a}"], ideal[f"{probe}/{a}"]) for _, a in binding.outputs)
        ):
            lost = f"input {name} changes nothing of the artifact, nor of its ideal: the precision loses it"
            yield Finding("influence", Status.PASS, lost, name)
        elif not followed:
            yield Finding(
                "influence",
                Status.FAIL,
                f"input {name} changes {moved[0]} of the source and nothing of the artifact",
                name,
            )


def _vacuity(outputs: list[OutputParity], native: Stored, wide: Stored, usable: tuple[str, ...]) -> Iterator[Finding]:
    """Agreement proves nothing where the source's outputs do not change with its inputs."""
    dull = []
    constant = []
    for output in outputs:
        basis = wide if output.basis == ORACLE else native
        counted = [case for case in usable if case not in output.set_aside]
        variation, rms = _variation(basis[f"{case}/{output.name}"] for case in counted)
        noise = output.reference_noise_rmse or 0.0
        if variation <= max(tolerance.VARIATION_OVER_NOISE * noise, tolerance.VARIATION_SHARE * rms):
            dull.append(output.name)
            if variation == 0:
                constant.append(output.name)
    if len(dull) == len(outputs):
        yield Finding(
            "vacuity",
            Status.NOT_RUN,
            "vacuous: the source's outputs do not change with its inputs, so agreement proves nothing; "
            "use trained weights, and give real inputs with --inputs",
        )
        return
    for name in dull:
        if name in constant:
            yield Finding("vacuity", Status.PASS, f"output {name} is a constant of the source", name)
        else:
            yield Finding("vacuity", Status.NOT_RUN, f"vacuous: {name} varies no more than its rounding noise", name)


def _variation(arrays: Iterable[np.ndarray]) -> tuple[float, float]:
    """Give the rms over elements of the standard deviation across cases, and the rms of the values.

    Only cases of the first one's shape and finite elements count. Exactly constant values give exactly zero.
    """
    import numpy as np

    first: np.ndarray | None = None
    mean = squares = raw = np.zeros(())
    count = 0
    constant = True
    for array in arrays:
        if first is None:
            first = array
            mean, squares, raw = (np.zeros(array.shape) for _ in range(3))
        if array.shape != first.shape:
            continue
        constant = constant and _same(first, array)
        values = np.where(np.isfinite(array), array, 0).astype(np.float64)
        count += 1
        # Welford's running mean and sum of squared deviations, so that one case is in memory at a time.
        step = values - mean
        mean = mean + step / count
        squares = squares + step * (values - mean)
        raw = raw + np.square(values)
    if not count or not raw.size:
        return 0.0, 0.0
    variation = 0.0 if constant else float(np.sqrt((squares / count).mean()))
    return variation, float(np.sqrt((raw / count).mean()))


def in_doubt(verdict: Verdict) -> bool:
    """Whether D alone speaks against an artifact, which a nudged ideal may acquit."""
    failed = [output for output in verdict.outputs if output.status is Status.FAIL]
    return (
        bool(failed)
        and all(finding.status is Status.PASS for finding in verdict.findings)
        and all(
            None not in (o.distance, o.distance_bound, o.ratio, o.bound)
            and o.distance > o.distance_bound  # type: ignore[operator]
            and o.ratio <= o.bound  # type: ignore[operator]
            for o in failed
        )
    )


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    import numpy as np

    if first is None or second is None:
        return first is second
    equal_nan = first.dtype.kind == "f" and second.dtype.kind == "f"
    return bool(np.array_equal(first, second, equal_nan=equal_nan))
