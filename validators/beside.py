"""What a reduced artifact gains over the float one it was made of: proven smaller or faster, never assumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from validators.latency import Measurement, overlap
from validators.report import Beside, TargetReport

SLOWER = "SLOWER"


def set_beside(reduced: TargetReport, full: TargetReport, why: Callable[[], str] = str) -> TargetReport:
    """Put the float artifact's size and latency beside a reduced one's, and say in words what was gained.

    `why` is asked for what makes the reduced one slow where it is.
    """
    if reduced.artifact is None or full.artifact is None:
        return reduced
    beside = Beside(full.artifact.file_bytes, full.latency[0] if full.latency else None)
    share = reduced.artifact.file_bytes / beside.file_bytes
    words = [f"{share:.0%} of the float artifact's size"]
    if reduced.latency and beside.latency is not None:
        words.append(_speed(reduced.latency[0], beside.latency))
        reason = why() if SLOWER in words[-1] else ""
        words += [reason] if reason else []
    return dataclasses.replace(reduced, beside=beside, remarks=(*reduced.remarks, ", ".join(words)))


def _speed(reduced: Measurement, full: Measurement) -> str:
    """Say how much faster or slower it is, where the timings can tell."""
    if reduced.median_seconds is None or full.median_seconds is None:
        return "and whether it is faster is not known: a latency was withheld"
    if reduced.spread is None or full.spread is None:
        return "and whether it is faster is not known: the tool on the device tells no spread"
    ratio = reduced.median_seconds / full.median_seconds
    if overlap(reduced, full):
        return "as fast within the measured spread"
    return f"{1 / ratio:.3g} times as fast" if ratio < 1 else f"{ratio:.3g} times {SLOWER} than the float artifact"
