"""How well a measure and its bound tell right exports from faulty ones: the figures of a ROC curve."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from calibrate_results import Figures, Judged

from validators import tolerance
from validators.decision import EQUALITY, TOLERANCE

#: What others allow: an error of 1e-4 of the largest magnitude (this project's own where no float64 runs), each element
#: 1e-3 and 1e-3 of its magnitude (ExecuTorch's tests), and each element 1e-4 (what onnx2tf compares with by default).
SCALED_BOUND, CLOSE_BOUND, ABSOLUTE_BOUND = tolerance.SCALED_MAX["fp32"], 1.0, 1e-4

#: Gives the figure of one file by one measure; None where the measure says nothing of it.
Score = Callable[[Judged], float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """What one measure and bound make of right and of faulty files; more is worse.

    `auc` is the chance that a faulty file measures more than a right one, None where there are none of a sort.
    """

    name: str
    bound: float | None
    rights: int
    faults: int
    greatest_right: float | None
    smallest_fault: float | None
    auc: float | None
    refused: int | None  # right files beyond the bound
    caught: int | None  # faulty ones beyond it

    @property
    def separating(self) -> tuple[float, float] | None:
        """Give the range of bounds that refuse no right file and catch every fault; None where there is none."""
        if self.greatest_right is None or self.smallest_fault is None or self.greatest_right >= self.smallest_fault:
            return None
        return self.greatest_right, self.smallest_fault


def curve(name: str, bound: float | None, rights: Iterable[float | None], faults: Iterable[float | None]) -> Curve:
    """Hold the figures of right files against those of faulty ones; files without a figure are left out."""
    from sklearn.metrics import roc_auc_score

    good, bad = ([min(value, sys.float_info.max) for value in side if value is not None] for side in (rights, faults))
    auc = None
    if good and bad:
        auc = float(roc_auc_score([0] * len(good) + [1] * len(bad), [*good, *bad]))
    return Curve(
        name,
        bound,
        len(good),
        len(bad),
        max(good, default=None),
        min(bad, default=None),
        auc,
        None if bound is None else beyond(good, bound),
        None if bound is None else beyond(bad, bound),
    )


def beyond(values: Sequence[float], bound: float) -> int:
    return sum(value > bound for value in values)


def largest(judged: Judged, of: Callable[[Figures], float | None]) -> float | None:
    """Give the worst output's figure; None where no output has one."""
    return max((value for output in judged.outputs if (value := of(output)) is not None), default=None)


def by_ratio(output: Figures) -> bool:
    return output.basis != EQUALITY and not output.basis.startswith(TOLERANCE) and output.basis != "none"


def ratio(judged: Judged) -> float | None:
    """R alone, over all cases; an error where the ideal has none is infinitely larger."""
    return largest(judged, lambda o: (math.inf if o.ratio is None else o.ratio) if by_ratio(o) else None)


def as_judged(judged: Judged) -> float | None:
    """R as the gate reads it: nothing below the floor, and the worst single case by its own bound."""

    def of(output: Figures) -> float | None:
        if not by_ratio(output):
            return None
        below = output.rmse <= tolerance.FLOOR * output.rms
        whole = 0.0 if below else math.inf if output.ratio is None else output.ratio
        return max(whole, (output.case_ratio or 0.0) / tolerance.CASE_FACTOR)

    return largest(judged, of)


def distance(judged: Judged) -> float | None:
    return largest(judged, lambda o: o.distance)


def distance_over_bound(judged: Judged) -> float | None:
    """D over its bound, which a nudged ideal may have raised; None where D is not judged."""
    return largest(judged, lambda o: o.distance / o.distance_bound if o.distance and o.distance_bound else None)


def scaled(judged: Judged) -> float | None:
    return largest(judged, lambda o: o.scaled)


def close(judged: Judged) -> float | None:
    return largest(judged, lambda o: o.close)


def absolute(judged: Judged) -> float | None:
    return largest(judged, lambda o: o.max_abs)


#: Tolerances in use elsewhere, and ours without an oracle: name, bound, figure. All are against the source itself.
FIXED: tuple[tuple[str, float, Score], ...] = (
    ("largest error over largest magnitude", SCALED_BOUND, scaled),
    ("1e-3 + 1e-3 of each element (ExecuTorch), over the allowance", CLOSE_BOUND, close),
    ("1e-4 on each element (onnx2tf)", ABSOLUTE_BOUND, absolute),
)
