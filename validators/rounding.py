"""How far one float output is from what it should be, over all cases, and whether that is too far."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convert.spec import CALIBRATED
from validators import tolerance
from validators.decision import TOLERANCE, bounds, decide
from validators.inputs import CaseSet
from validators.verdict import OutputParity, Status, Worst

if TYPE_CHECKING:
    import numpy as np

    Stored = Mapping[str, "np.ndarray"]

ORACLE = "float64"


@dataclass(slots=True)
class Sums:
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

    def worst_case(self, others: Sums | None = None) -> tuple[float, str]:
        """Give the largest error of a case over what its ideal errs there, or over the floor, and the case.

        A case whose reference is all zeros, or so small that engines flush it to zero, has no scale of its own and
        gets that of all cases, which are `others` where this is a part.
        """
        whole = others or self
        mean_signal = whole.signal / max(whole.elements, 1)
        worst = (0.0, "")
        for case, error, allowed, signal, count in self.cases:
            own = signal if signal > tolerance.SMALLEST_NORMAL**2 * count else 0.0
            scale = tolerance.FLOOR**2 * (own or mean_signal * count)
            basis = max(allowed, scale)
            worst = max(worst, (math.sqrt(error / basis) if basis else (math.inf if error else 0.0), case))
        return worst


@dataclass(frozen=True, slots=True)
class Sides:
    """The arrays that one output is judged by: its name in the source and in the artifact, and what each answered."""

    expected: str
    found: str
    native: Stored
    actual: Stored
    wide: Stored | None
    ideal: Stored | None
    nudged: Stored | None = None
    twins: Mapping[str, str] = field(default_factory=dict)  # constant cases, and the case one rounding beside
    extremes: tuple[str, ...] = ()  # cases that count one by one only
    elsewhere: bool = False  # whether other kernels answered than those that proved the artifact


def beyond_ranges(cases: CaseSet, precision: str, usable: tuple[str, ...]) -> frozenset[str]:
    """Name the cases that count one by one only: extremes, and for a precision with fixed ranges all but real ones.

    Where activations leave their ranges, artifact and ideal both err without measure, and would drown every fault.
    """
    real = [case for case in usable if case in cases.evaluation]
    beyond = frozenset(usable) - frozenset(real) if precision in CALIBRATED and real else frozenset()
    return beyond | (frozenset(usable) & frozenset(cases.extremes))


def measure(
    sides: Sides, usable: tuple[str, ...], precision: str, beyond: frozenset[str], farthest: float | None
) -> OutputParity:
    """Measure one output over all cases and judge it; those `beyond` the ranges count one by one only.

    `farthest` it may be from its ideal, over what that errs; None where that tells no fault. Where one case holds most
    of the rounding, R says only of it: fp32 is then judged with such cases one by one.
    """
    name, native, wide = sides.expected, sides.native, sides.wide
    if wide is not None and not all(_covers(wide[f"{c}/{name}"], native[f"{c}/{name}"]) for c in usable):
        sides = replace(sides, wide=None)  # float64 cannot judge what it could not compute
    if sides.wide is None:
        return _measured(sides, usable, precision, beyond, farthest)
    usual = tuple(case for case in usable if case not in sides.extremes)
    chaotic = _chaotic(name, native, sides.wide, usual)
    found = _measured(sides, usable, precision, beyond, farthest, chaotic)
    if found.status is Status.FAIL and sides.ideal is None:
        single = _singled(sides, sides.wide, usual, chaotic)
        again = _measured(sides, usable, precision, beyond, farthest, (*chaotic, *single))
        return again if again.status is Status.PASS else found
    return found


def _measured(
    sides: Sides,
    usable: tuple[str, ...],
    precision: str,
    beyond: frozenset[str],
    farthest: float | None,
    chaotic: tuple[str, ...] = (),
) -> OutputParity:
    """Measure one output of floats and judge it, the `chaotic` cases one by one only."""
    name, native, wide = sides.expected, sides.native, sides.wide
    basis = native if wide is None else wide
    sums, aside = Sums(), Sums()
    scales = []
    for case in usable:
        key = f"{case}/{name}"
        made = f"{case}/{sides.found}"
        allowed, nudged = (None if side is None else side[made] for side in (sides.ideal, sides.nudged))
        into = aside if case in chaotic or case in beyond else sums
        luck = 0.0
        if wide is not None and sides.ideal is None:
            luck = rounding_beside(name, native, wide, sides.twins.get(case))
        _add(into, case, basis[key], native[key], sides.actual[made], allowed, nudged, luck)
        if case in sides.extremes:
            alone = Sums()
            _add(alone, case, basis[key], native[key], sides.actual[made], None, None, 0.0)
            scales.append((alone.max_abs, alone.largest))
    if not sums.elements:
        reason = "no element is finite, so there is nothing to compare"
        return OutputParity(name, Status.NOT_RUN, reason, "none", 0)
    rmse, rms = (math.sqrt(total / max(sums.elements, 1)) for total in (sums.error, sums.signal))
    noise = math.sqrt(sums.noise / max(sums.elements, 1)) if wide is not None else None
    judged_by = None if wide is None and sides.ideal is None else math.sqrt(sums.allowed / max(sums.elements, 1))
    scaled = sums.max_abs / sums.largest if sums.largest else (0.0 if sums.max_abs == 0 else math.inf)
    for error, largest in scales:
        # An extreme may err more on its own scale, as any single case may where there is an oracle.
        size = largest if largest > tolerance.SMALLEST_NORMAL else sums.largest
        scaled = max(scaled, error / size / tolerance.CASE_FACTOR if size else 0.0)
    case_ratio, case = max(sums.worst_case(), aside.worst_case(sums))
    distance, limit = _distance(sums, farthest) if sides.ideal is not None and judged_by else (None, None)
    tolerated = f"{TOLERANCE}{precision}" if sides.ideal is None else "the source itself"
    limits = bounds(precision, limit, elsewhere=sides.elsewhere)
    output = OutputParity(
        name=name,
        status=Status.NOT_RUN,
        reason="",
        basis=ORACLE if wide is not None else tolerated,
        elements=sums.elements,
        ratio=(rmse / judged_by if judged_by else (None if rmse else 0.0)) if judged_by is not None else None,
        bound=limits.scaled_max if judged_by is None else limits.ratio,
        max_abs=sums.max_abs,
        scaled_max=scaled if math.isfinite(scaled) else sums.max_abs,
        rmse=rmse,
        reference_rms=rms,
        reference_noise_rmse=noise,
        ideal_rmse=None if sides.ideal is None else judged_by,
        case_ratio=min(case_ratio, sys.float_info.max),
        case=case,
        distance=distance,
        distance_bound=limit,
        sqnr_db=10 * math.log10(sums.signal / sums.error) if sums.error and sums.signal else None,
        cosine=sums.product / math.sqrt(sums.signal * sums.actual) if sums.signal and sums.actual else None,
        top1_agreement=sums.rows_agreed / sums.rows if sums.rows else None,
        worst=sums.worst,
        set_aside=chaotic,
    )
    status, reason = decide(output, limits, precision)
    return replace(output, status=status, reason=reason)


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


def _singled(sides: Sides, wide: Stored, usable: tuple[str, ...], aside: tuple[str, ...]) -> tuple[str, ...]:
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
    sums: Sums,
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


def _distance(sums: Sums, farthest: float | None) -> tuple[float, float | None]:
    """Give D, and the most it may be: two errors of one size need not be the same error.

    An ideal that answers otherwise when its constants are nudged says where a right artifact may be as well.
    """
    distance, sway = math.sqrt(sums.apart / sums.allowed), math.sqrt(sums.sway / sums.allowed)
    return distance, None if farthest is None else max(farthest, tolerance.DISTANCE_OVER_SWAY * sway)
