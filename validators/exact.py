"""Outputs of integers and booleans: equal, but where rounding alone decides them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from validators import tolerance
from validators.decision import EQUALITY, bounds, decide
from validators.verdict import OutputParity, Status, Worst

if TYPE_CHECKING:
    import numpy as np

    Stored = Mapping[str, "np.ndarray"]

from validators.rounding import Sides


def compare(sides: Sides, usable: tuple[str, ...], precision: str) -> OutputParity:
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
    output = OutputParity(
        sides.expected, Status.NOT_RUN, "", EQUALITY, elements, max_abs=max_abs, worst=worst, changed=differ
    )
    status, reason = decide(output, bounds(precision), precision)
    if undecided:
        reason += f", but for those of {undecided} that the source's own rounding decides"
    if status is Status.PASS and undecided >= tolerance.UNDECIDED_SHARE * elements > 0:
        status, reason = Status.NOT_RUN, f"the source's own rounding decides {undecided} of {elements} integers"
    return replace(output, status=status, reason=reason)
