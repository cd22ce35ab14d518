"""The decision on one output, from its figures alone: what a report says can be judged again, here or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from convert.spec import FP32
from validators import tolerance
from validators.verdict import OutputParity, Status

#: Bases that are no model's answers: integers are equal or not, and named tolerances replace an oracle.
EQUALITY, TOLERANCE = "equality", "scaled_max_"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an output's figures are held against; see `tolerance`. None: not judged.

    `max_abs` is in the output's own unit, and `sqnr_db` in decibels; nobody sets them but a user's policy.
    """

    ratio: float
    case_factor: float = tolerance.CASE_FACTOR
    floor: float = tolerance.FLOOR
    scaled_max: float | None = None
    distance: float | None = None
    changed_share: float = 0.0
    max_abs: float | None = None
    sqnr_db: float | None = None


def bounds(precision: str, distance: float | None = None, *, elsewhere: bool = False) -> Bounds:
    """Give the bounds of a precision; `distance` is that on D, where it is judged.

    `elsewhere`: on other kernels than those that proved the artifact.
    """
    factor = tolerance.PATH_FACTOR if elsewhere and precision != FP32 else 1.0
    return Bounds(
        tolerance.RATIO_BOUNDS[precision] * factor,
        scaled_max=tolerance.SCALED_MAX.get(precision),
        distance=distance,
        changed_share=tolerance.EXACT_SHARE.get(precision, 0.0),
    )


def decide(output: OutputParity, limits: Bounds, precision: str) -> tuple[Status, str]:
    """Judge an output by its figures: status and reason."""
    status, reason = _by_kind(output, limits, precision)
    if status is not Status.PASS:
        return status, reason
    if limits.max_abs is not None and output.max_abs > limits.max_abs:
        return Status.FAIL, f"largest error {output.max_abs:.4g}, bound {limits.max_abs:g}"
    if limits.sqnr_db is not None and output.sqnr_db is not None and output.sqnr_db < limits.sqnr_db:
        return Status.FAIL, f"signal to noise {output.sqnr_db:.1f} dB, at least {limits.sqnr_db:g} wanted"
    return status, reason


def _by_kind(output: OutputParity, limits: Bounds, precision: str) -> tuple[Status, str]:
    if output.basis == EQUALITY:
        return _equal(output, limits)
    if output.basis.startswith(TOLERANCE):
        if limits.scaled_max is None:
            return Status.NOT_RUN, f"nothing is known to hold {precision} against without float64"
        words = f"largest error {output.scaled_max:.2g} of the largest magnitude, bound {limits.scaled_max:g}"
        return (Status.PASS if output.scaled_max <= limits.scaled_max else Status.FAIL), words
    return _by_ratio(output, limits, precision)


def _equal(output: OutputParity, limits: Bounds) -> tuple[Status, str]:
    changed = output.changed or 0
    words = (
        f"{changed} of {output.elements} integers differ" if changed else f"all {output.elements} integers are equal"
    )
    return (Status.FAIL if changed > limits.changed_share * output.elements else Status.PASS), words


def _by_ratio(output: OutputParity, limits: Bounds, precision: str) -> tuple[Status, str]:
    """Judge R over all cases and on the worst single one, then D."""
    bound, ratio = limits.ratio, output.ratio
    peer = "its source does" if precision == FP32 else f"an ideal {precision} does"
    fault = "" if precision == FP32 else "conversion fault: "
    if output.case_ratio is not None and output.case_ratio > bound * limits.case_factor:
        return Status.FAIL, f"{fault}on case {output.case} it errs {output.case_ratio:.4g} times what {peer}"
    floor = limits.floor * output.reference_rms
    if output.rmse <= floor:
        passed = f"error {output.rmse:.2g} is below {limits.floor:g} of the output's rms"
    elif ratio is not None and ratio <= bound:
        passed = f"errs {ratio:.3g} times what {peer}, bound {bound:g}"
    else:
        told = "where that does not err at all" if ratio is None else f"{ratio:.4g} times what {peer}"
        return Status.FAIL, f"{fault}errs {told}, bound {bound:g}"
    apart = (output.distance or 0.0) * (output.ideal_rmse or 0.0)
    if output.distance is None or limits.distance is None or output.distance <= limits.distance or apart <= floor:
        return Status.PASS, passed
    shown = "" if ratio is None else f"; R {ratio:.3g} does not show it, bound {bound:g}"
    far = f"it differs from an ideal by {output.distance:.3g} times what that errs (D), bound {limits.distance:.3g}"
    return Status.FAIL, f"conversion fault: {far}{shown}"
