"""Which generated cases are a basis to judge on: what the source does not answer soundly is dropped, and said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from validators import tolerance
from validators.inputs import CaseSet
from validators.runtimes import Outputs

if TYPE_CHECKING:
    import numpy as np

    Stored = Mapping[str, "np.ndarray"]


def answered(cases: CaseSet, source: Outputs, precision: str) -> CaseSet:
    """Drop extreme cases and sizes that a source need not run, where it does not run or is not finite on them.

    `precision` says in words at which the source ran. Cases of everyday values at everyday sizes stay: where the source
    fails on these, nothing can be judged.
    """
    import numpy as np

    failed = dict(source.failures)
    notes = {}
    for case in (*cases.optional, *cases.extremes):
        if case in failed and case in cases.names:
            notes[case] = (
                f"{case} is left out: the source{precision} does not run on it ({failed[case].splitlines()[0]})"
            )
    with np.load(source.path) as stored:
        for case in cases.extremes:
            if case in notes or case not in cases.names:
                continue
            if not _finite(stored, source, cases.names[0], case):
                notes[case] = f"{case} is left out: the source{precision} is not finite on it"
        for case, zeros in cases.flushed:
            if (
                case in cases.names
                and case not in notes
                and zeros not in failed
                and _differ(stored, source, case, zeros)
            ):
                notes[case] = (
                    f"{case} is left out: the source{precision} answers otherwise on zeros, which engines may take "
                    "denormal numbers for"
                )
    return cases.without(notes, notes.values())


def _finite(stored: Stored, source: Outputs, first: str, case: str) -> bool:
    """Whether a case's outputs are finite wherever those of the first are."""
    import numpy as np

    for name in source.names:
        usual, found = stored[f"{first}/{name}"], stored[f"{case}/{name}"]
        if found.dtype.kind != "f":
            continue
        expected = np.isfinite(usual) if usual.shape == found.shape else np.ones(found.shape, bool)
        if (expected & ~np.isfinite(found)).any():
            return False
    return True


def _differ(stored: Stored, source: Outputs, case: str, other: str) -> bool:
    """Whether two cases have other answers, by more than denormal numbers and rounding."""
    import numpy as np

    for name in source.names:
        first, second = stored[f"{case}/{name}"], stored[f"{other}/{name}"]
        if first.shape != second.shape or (first.dtype.kind != "f" and not np.array_equal(first, second)):
            return True
        if first.dtype.kind != "f":
            continue
        if (np.isfinite(first) != np.isfinite(second)).any():
            return True
        finite = np.isfinite(first)
        one, two = first[finite].astype(np.float64), second[finite].astype(np.float64)
        limit = max(tolerance.SMALLEST_NORMAL, tolerance.FLOOR * float(np.abs(two).max(initial=0)))
        if (np.abs(one - two) > limit).any():
            return True
    return False
