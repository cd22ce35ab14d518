"""Does an artifact compute what its source computes? Judged against the source's own rounding where it is known.

The ratio: R = rmse(artifact, oracle) / rmse(ideal, oracle), where the oracle is the source in float64 and the ideal
is what the artifact's precision allows: for fp32 the source at its own precision, for a reduced precision a simulation
with the artifact's own scales (see `ideals`). A right export errs about as much as its ideal does, whatever the
network's condition; a wrong one errs up to thousands of times more. See `tolerance.py` for the bounds and why.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convert.spec import CALIBRATED, FP32
from validators import tolerance
from validators.inputs import CaseSet
from validators.runtimes import REPEAT, Outputs
from validators.structure import Binding
from validators.verdict import Finding, OutputParity, Status, Verdict, Worst

if TYPE_CHECKING:
    import numpy as np

Stored = Mapping[str, "np.ndarray"]

ORACLE = "float64"


@dataclass(frozen=True, slots=True)
class Reference:
    """The source's own outputs on all cases: at its precision, and in float64 where it runs there."""

    native: Outputs
    oracle: Outputs | None
    oracle_reason: str = ""  # why there is none


def judge(
    reference: Reference,
    artifact: Outputs,
    cases: CaseSet,
    binding: Binding,
    precision: str = FP32,
    ideal: Outputs | None = None,
    farthest: float | None = None,
    nudged: Outputs | None = None,
) -> Verdict:
    """Compare an artifact's outputs with its source's, over every case both could run.

    A reduced precision is judged against its `ideal`'s outputs, which have the artifact's names: by R, and by D where
    there is a bound on it, `farthest`, from which `nudged`, the outputs of the ideal with its constants nudged, can
    acquit it.

    All that could make agreement meaningless comes first: cases that did not run, answers that vary between runs,
    dtypes and shapes that differ, NaN and infinity in other places, outputs that do not vary with the input.
    """
    import numpy as np

    usable = cases.fitting(dict(binding.fixed))
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
        findings += _deterministic(native, actual, binding)
        broken = list(_shapes(native, actual, binding, usable))
        findings += broken
        if broken or any(finding.status is not Status.PASS for finding in findings):
            return Verdict.of(findings)
        if len(usable) < tolerance.FEWEST_CASES:
            few = f"only {len(usable)} case(s) have the sizes the artifact is fixed to{_remedy(binding)}"
            return Verdict.of([*findings, Finding("cases", Status.NOT_RUN, few)])
        findings += _influence(native, actual, cases, binding, usable, simulated)
        outputs = [
            _output(
                _Sides(expected, found, native, actual, wide if oracle else None, simulated, swayed, dict(cases.twins)),
                usable,
                precision,
                _beyond(cases, precision, usable),
                farthest,
            )
            for expected, found in binding.outputs
        ]
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
        findings += _vacuity(outputs, native, wide, usable)
    basis = "R against float64" if oracle else f"tolerance, because {reference.oracle_reason}"
    if ideal is not None:
        basis = f"R against {'float64' if oracle else 'the source'}, over an ideal {precision} simulation"
    return Verdict.of(findings, outputs, passed=f"{len(usable)} cases, judged by {basis}")


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
        if not _same(_first(actual, found), actual.get(f"{REPEAT}/{found}")):
            yield Finding("determinism", Status.FAIL, f"{expected} differs when the artifact is run again", expected)


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


@dataclass(slots=True)
class _Sums:
    """Running sums over cases, in float64."""

    elements: int = 0
    error: float = 0.0  # of squares, artifact minus basis
    noise: float = 0.0  # of squares, reference minus basis
    allowed: float = 0.0  # of squares, ideal minus basis; the reference is the ideal of fp32
    apart: float = 0.0  # of squares, artifact minus ideal
    sway: float = 0.0  # of squares, nudged ideal minus ideal
    signal: float = 0.0  # of squares of the basis
    actual: float = 0.0  # of squares of the artifact
    product: float = 0.0
    largest: float = 0.0
    max_abs: float = 0.0
    worst: Worst | None = None
    rows: int = 0
    rows_agreed: int = 0
    cases: list[tuple[str, float, float, float, int]] = field(default_factory=list)  # error, allowed, signal, elements

    def worst_case(self) -> tuple[float, str]:
        """Give the largest error of a case over what its ideal errs there, or over the floor, and the case.

        A case whose reference is all zeros has no scale of its own and gets that of all cases.
        """
        mean_signal = self.signal / max(self.elements, 1)
        worst = (0.0, "")
        for case, error, allowed, signal, count in self.cases:
            scale = tolerance.FLOOR**2 * (signal or mean_signal * count)
            basis = max(allowed, scale)
            worst = max(worst, (math.sqrt(error / basis) if basis else (math.inf if error else 0.0), case))
        return worst


@dataclass(frozen=True, slots=True)
class _Sides:
    """The arrays that one output is judged by: its name in the source and in the artifact, and what each answered."""

    expected: str
    found: str
    native: Stored
    actual: Stored
    wide: Stored | None
    ideal: Stored | None
    nudged: Stored | None = None
    twins: Mapping[str, str] = field(default_factory=dict)  # constant cases, and the case one rounding beside


def _beyond(cases: CaseSet, precision: str, usable: tuple[str, ...]) -> frozenset[str]:
    """Name the cases that a precision with fixed ranges is judged on one by one only: all but real inputs.

    Where activations leave their ranges, artifact and ideal both err without measure, and would drown every fault.
    """
    real = [case for case in usable if case in cases.evaluation]
    return frozenset(usable) - frozenset(real) if precision in CALIBRATED and real else frozenset()


def _output(
    sides: _Sides, usable: tuple[str, ...], precision: str, beyond: frozenset[str], farthest: float | None
) -> OutputParity:
    """Measure one output over all cases and judge it; those `beyond` the ranges count one by one only.

    `farthest` it may be from its ideal, over what that errs; None where that tells no fault. Where one case holds most
    of the rounding, R says only of it: fp32 is then judged with such cases one by one.
    """
    name, native, wide = sides.expected, sides.native, sides.wide
    if native[f"{usable[0]}/{name}"].dtype.kind != "f":
        return _exact(sides, usable, precision)
    if wide is not None and not all(_covers(wide[f"{c}/{name}"], native[f"{c}/{name}"]) for c in usable):
        sides = replace(sides, wide=None)  # float64 cannot judge what it could not compute
    if sides.wide is None:
        return _measured(sides, usable, precision, beyond, farthest)
    chaotic = _chaotic(name, native, sides.wide, usable)
    found = _measured(sides, usable, precision, beyond, farthest, chaotic)
    if found.status is Status.FAIL and sides.ideal is None:
        single = _singled(sides, sides.wide, usable, chaotic)
        again = _measured(sides, usable, precision, beyond, farthest, (*chaotic, *single))
        return again if again.status is Status.PASS else found
    return found


def _measured(
    sides: _Sides,
    usable: tuple[str, ...],
    precision: str,
    beyond: frozenset[str],
    farthest: float | None,
    chaotic: tuple[str, ...] = (),
) -> OutputParity:
    """Measure one output of floats and judge it, the `chaotic` cases one by one only."""
    name, native, wide = sides.expected, sides.native, sides.wide
    basis = native if wide is None else wide
    sums, aside = _Sums(), _Sums()
    for case in usable:
        key = f"{case}/{name}"
        made = f"{case}/{sides.found}"
        allowed, nudged = (None if side is None else side[made] for side in (sides.ideal, sides.nudged))
        into = aside if case in chaotic or case in beyond else sums
        luck = 0.0
        if wide is not None and sides.ideal is None:
            luck = rounding_beside(name, native, wide, sides.twins.get(case))
        _add(into, case, basis[key], native[key], sides.actual[made], allowed, nudged, luck)
    if not sums.elements:
        reason = "no element is finite, so there is nothing to compare"
        return OutputParity(name, Status.NOT_RUN, reason, "none", 0)
    rmse, rms = (math.sqrt(total / max(sums.elements, 1)) for total in (sums.error, sums.signal))
    noise = math.sqrt(sums.noise / max(sums.elements, 1)) if wide is not None else None
    judged_by = None if wide is None and sides.ideal is None else math.sqrt(sums.allowed / max(sums.elements, 1))
    scaled = sums.max_abs / sums.largest if sums.largest else (0.0 if sums.max_abs == 0 else math.inf)
    status, reason, ratio, bound = _verdict(
        rmse, rms, judged_by, scaled, max(sums.worst_case(), aside.worst_case()), precision
    )
    near = _near(sums, rms, farthest) if sides.ideal is not None and judged_by else _Near()
    if status is Status.PASS and near.fault:
        status, reason = Status.FAIL, f"{near.fault}; R {ratio:.3g} does not show it, bound {bound:g}"
    tolerated = f"scaled_max_{precision}" if sides.ideal is None else "the source itself"
    return OutputParity(
        name=name,
        status=status,
        reason=reason,
        basis=ORACLE if wide is not None else tolerated,
        elements=sums.elements,
        ratio=ratio,
        bound=bound,
        max_abs=sums.max_abs,
        scaled_max=scaled if math.isfinite(scaled) else sums.max_abs,
        rmse=rmse,
        reference_rms=rms,
        reference_noise_rmse=noise,
        ideal_rmse=None if sides.ideal is None else judged_by,
        distance=near.distance,
        distance_bound=near.bound,
        sqnr_db=10 * math.log10(sums.signal / sums.error) if sums.error and sums.signal else None,
        cosine=sums.product / math.sqrt(sums.signal * sums.actual) if sums.signal and sums.actual else None,
        top1_agreement=sums.rows_agreed / sums.rows if sums.rows else None,
        worst=sums.worst,
        set_aside=chaotic,
    )


def _chaotic(name: str, native: Stored, wide: Stored, usable: tuple[str, ...]) -> tuple[str, ...]:
    """Name the cases on which the source rounds so much worse than usual that they would drown the others."""
    import numpy as np

    noise = {}
    for case in usable:
        oracle, own = wide[f"{case}/{name}"], native[f"{case}/{name}"]
        finite = np.isfinite(oracle) & np.isfinite(own)
        rms = float(np.sqrt(np.square(oracle[finite]).sum()))
        error = float(np.sqrt(np.square(own[finite].astype(np.float64) - oracle[finite]).sum()))
        noise[case] = error / rms if rms else 0.0
    usual = float(np.median(list(noise.values())))
    limit = max(tolerance.CHAOS_SHARE, tolerance.CHAOS_OVER_USUAL * usual)
    found = tuple(case for case, share in noise.items() if share > limit)
    return found if len(found) <= tolerance.CHAOS_CASES * len(usable) else ()


def _singled(sides: _Sides, wide: Stored, usable: tuple[str, ...], aside: tuple[str, ...]) -> tuple[str, ...]:
    """Name the constant cases, then those of which each holds most of the source's rounding on all that are left."""
    name = sides.expected
    most_cases = int(tolerance.CHAOS_CASES * len(usable)) - len(aside)
    found = [case for case in usable if case in sides.twins and case not in aside][: max(most_cases, 0)]
    left = {
        case: _squared_error(sides.native[f"{case}/{name}"], wide[f"{case}/{name}"])
        for case in usable
        if case not in aside and case not in found
    }
    while left and len(found) < most_cases:
        most = max(left, key=lambda case: left[case])
        if left[most] <= tolerance.DOMINANT_SHARE * sum(left.values()):
            break
        found.append(most)
        del left[most]
    return tuple(found)


def rounding_beside(output: str, native: Stored, wide: Stored, twin: str | None) -> float:
    """Give the sum of squares that the source errs one rounding beside a constant case, where that was run; else 0."""
    key = f"{twin}/{output}"
    return _squared_error(native[key], wide[key]) if twin and key in native and key in wide else 0.0


def _squared_error(native: np.ndarray, wide: np.ndarray) -> float:
    import numpy as np

    if native.shape != wide.shape:
        return 0.0
    finite = np.isfinite(native) & np.isfinite(wide)
    return float(np.square(native[finite].astype(np.float64) - wide[finite]).sum())


def _covers(oracle: np.ndarray, native: np.ndarray) -> bool:
    """Whether the oracle is finite wherever the source is."""
    import numpy as np

    return bool((np.isfinite(oracle) | ~np.isfinite(native)).all())


def _add(
    sums: _Sums,
    case: str,
    basis: np.ndarray,
    native: np.ndarray,
    actual: np.ndarray,
    ideal: np.ndarray | None,
    nudged: np.ndarray | None,
    beside: float,
) -> None:
    """Add one case to the sums; elements that are not finite were compared by place already.

    On this case alone it may err as its source does `beside` it (of squares); the sum of all has no part in that, or a
    constant case would drown the faults of others.
    """
    import numpy as np

    finite = np.isfinite(native) & np.isfinite(basis) & np.isfinite(actual)
    want, ref, have = (np.where(finite, array, 0).astype(np.float64) for array in (basis, native, actual))
    error = have - want
    count = int(finite.sum())
    if not count:
        return
    square, noise, signal = (float(np.square(values).sum()) for values in (error, ref - want, want))
    allowed = noise
    if ideal is not None:
        simulated = np.where(finite, ideal, 0).astype(np.float64)
        allowed = float(np.square(simulated - want).sum())
        sums.apart += float(np.square(have - simulated).sum())
        if nudged is not None:
            sums.sway += float(np.square(np.where(finite, nudged, 0).astype(np.float64) - simulated).sum())
    sums.elements += count
    sums.error += square
    sums.noise += noise
    sums.allowed += allowed
    sums.signal += signal
    sums.actual += float(np.square(have).sum())
    sums.product += float((want * have).sum())
    sums.largest = max(sums.largest, float(np.abs(want).max()))
    magnitude = np.abs(error)
    if float(magnitude.max()) > sums.max_abs or sums.worst is None:
        at = tuple(int(i) for i in np.unravel_index(int(magnitude.argmax()), magnitude.shape))
        sums.max_abs = float(magnitude[at])
        sums.worst = Worst(case, at, float(want[at]), float(have[at]))
    if want.ndim > 1 and want.shape[-1] > 1:
        sums.rows += int(np.prod(want.shape[:-1]))
        sums.rows_agreed += int((want.argmax(-1) == have.argmax(-1)).sum())
    sums.cases.append((case, square, max(allowed, beside), signal, count))


def _verdict(
    rmse: float, rms: float, allowed: float | None, scaled: float, worst_case: tuple[float, str], precision: str
) -> tuple[Status, str, float | None, float]:
    """Judge the measured errors: status, reason, R and the bound it was held against."""
    if allowed is None:
        bound = tolerance.SCALED_MAX[precision]
        passed = scaled <= bound
        words = f"largest error {scaled:.2g} of the largest magnitude, bound {bound:g}"
        return (Status.PASS if passed else Status.FAIL), words, None, bound
    bound = tolerance.RATIO_BOUNDS[precision]
    ratio = rmse / allowed if allowed else (0.0 if rmse == 0 else None)
    case_ratio, case = worst_case
    peer = "its source does" if precision == FP32 else f"an ideal {precision} does"
    fault = "" if precision == FP32 else "conversion fault: "
    if case_ratio > bound * tolerance.CASE_FACTOR:
        return Status.FAIL, f"{fault}on case {case} it errs {case_ratio:.4g} times what {peer}", ratio, bound
    if rmse <= tolerance.FLOOR * rms:
        return Status.PASS, f"error {rmse:.2g} is below {tolerance.FLOOR:g} of the output's rms", ratio, bound
    if ratio is not None and ratio <= bound:
        return Status.PASS, f"errs {ratio:.3g} times what {peer}, bound {bound:g}", ratio, bound
    told = "where that does not err at all" if ratio is None else f"{ratio:.4g} times what {peer}"
    return Status.FAIL, f"{fault}errs {told}, bound {bound:g}", ratio, bound


@dataclass(frozen=True, slots=True)
class _Near:
    """How far an output is from its ideal's, over what that errs; what it may be, and the fault where it is farther."""

    distance: float | None = None
    bound: float | None = None
    fault: str = ""


def _near(sums: _Sums, rms: float, farthest: float | None) -> _Near:
    """Judge D: two errors of one size need not be the same error.

    An ideal that answers otherwise when its constants are nudged says where a right artifact may be as well.
    """
    distance, sway = math.sqrt(sums.apart / sums.allowed), math.sqrt(sums.sway / sums.allowed)
    if farthest is None:
        return _Near(distance)
    bound = max(farthest, tolerance.DISTANCE_OVER_SWAY * sway)
    if distance <= bound or sums.apart <= (tolerance.FLOOR * rms) ** 2 * sums.elements:
        return _Near(distance, bound)
    return _Near(
        distance,
        bound,
        f"conversion fault: it differs from an ideal by {distance:.3g} times what that errs (D), bound {bound:.3g}",
    )


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


def _exact(sides: _Sides, usable: tuple[str, ...], precision: str) -> OutputParity:
    """Compare integers and booleans: equal, but where the source's own precisions already disagree.

    Where rounding changes some of a case, it may change as many others of the artifact's: a choice among ties moves
    what stands beside it, and ties agree by chance too. A reduced artifact may also answer as its ideal does: what the
    loss of precision decides is no fault.
    """
    import numpy as np

    elements = differ = undecided = 0
    worst = None
    max_abs = 0.0
    for case in usable:
        key = f"{case}/{sides.expected}"
        want, have = sides.native[key], sides.actual[f"{case}/{sides.found}"]
        settled = np.ones(want.shape, bool) if sides.wide is None else want == sides.wide[key]
        open_here = want.size - int(settled.sum())
        if sides.ideal is not None:
            settled &= have != sides.ideal[f"{case}/{sides.found}"]
        wrong = (want != have) & settled
        elements += want.size
        undecided += open_here
        if sides.ideal is None and int(wrong.sum()) <= tolerance.CHANGED_PER_UNDECIDED * open_here:
            continue
        differ += int(wrong.sum())
        if wrong.any():
            gap = np.where(wrong, np.abs(want.astype(np.float64) - have.astype(np.float64)), 0)
            at = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
            if float(gap[at]) > max_abs or worst is None:
                max_abs = float(gap[at])
                worst = Worst(case, at, float(want[at]), float(have[at]))
    tolerated = tolerance.EXACT_SHARE.get(precision, 0.0)
    status = Status.FAIL if differ > tolerated * elements else Status.PASS
    reason = f"{differ} of {elements} integers differ" if differ else f"all {elements} integers are equal"
    if undecided:
        reason += f", but for those of {undecided} that the source's own rounding decides"
    if status is Status.PASS and undecided >= tolerance.UNDECIDED_SHARE * elements > 0:
        status, reason = Status.NOT_RUN, f"the source's own rounding decides {undecided} of {elements} integers"
    return OutputParity(sides.expected, status, reason, "equality", elements, max_abs=max_abs, worst=worst)


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    import numpy as np

    if first is None or second is None:
        return first is second
    equal_nan = first.dtype.kind == "f" and second.dtype.kind == "f"
    return bool(np.array_equal(first, second, equal_nan=equal_nan))
