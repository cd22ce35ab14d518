"""The race: which of several proven artifacts to keep."""

from __future__ import annotations

from collections.abc import Sequence

from validators.latency import overlap
from validators.report import Attempt
from validators.verdict import Status


def contenders(attempts: Sequence[Attempt]) -> list[int]:
    """Say which attempts are raced: all that passed."""
    return [index for index, attempt in enumerate(attempts) if attempt.status is Status.PASS]


def winner(attempts: Sequence[Attempt]) -> int | None:
    """Choose the fastest of those that were timed.

    Within the measured spread of it, the one that keeps most of the source's free dimensions, then the smaller file,
    then the earlier candidate. None where none was timed, or none stably.
    """
    timed = [(index, attempt.latency) for index, attempt in enumerate(attempts) if attempt.latency is not None]
    steady = [(index, latency) for index, latency in timed if latency.median_seconds is not None]
    if not steady:
        return None
    _, first = min(steady, key=lambda item: item[1].median_seconds or 0.0)
    tied = [index for index, latency in steady if overlap(first, latency)]
    return min(tied, key=lambda index: (len(attempts[index].fixed), _size(attempts[index]), index))


def _size(attempt: Attempt) -> int:
    return attempt.artifact.file_bytes if attempt.artifact else 0
