"""Between which ends a measured median is: what a budget is held against, and never the median alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from validators.steady import QUARTER_DRIFT

#: How sure an interval is to have the median in it, where there are enough values.
CONFIDENCE = 0.95

#: Few values, as those of five openings, make no interval that sure: from the least to the greatest, the median is in
#: it with 1 - 2^(1 - n), 93.75 % of five. Less than this is no interval.
LEAST_CONFIDENCE = 0.9

#: How far from the median of one process those of others are taken to be, as a share of it: as far as they may differ
#: in the protocol that runs several, before they are withheld. The runs of one process tell nothing of it: of 22
#: processes that timed the digits sample on a busy machine, none had the median of all in its own interval.
ONE_PROCESS_DIFFERS = QUARTER_DRIFT

#: Up to so many values the chance is computed exactly, beyond by the normal distribution.
EXACT_COUNT = 1000

#: By how much of it the peak memory of one process is taken to differ from that of another; see docs/latency.md.
MEMORY_DIFFERS = 0.01


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends that something measured is between, in seconds or bytes, with the confidence in it.

    `confidence` is None where no chance is computed, of memory.
    """

    low: float
    high: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Intervals:
    """Those of one measurement: medians of wall and CPU time, of load and first inference together, and peak memory.

    None where nothing tells the ends: what is withheld, and too few values.
    """

    wall: Interval | None = None
    cpu: Interval | None = None
    cold_start: Interval | None = None
    memory: Interval | None = None


def of_median(samples: Sequence[float]) -> Interval | None:
    """Give the interval of a median that needs to know nothing of the distribution; None of too few values.

    From the k-th least to the k-th greatest value, for the greatest k at which fewer than k of the n values are below
    the median with a chance of (1 - CONFIDENCE) / 2 at most, which is binomial (David and Nagaraja, Order Statistics,
    2003, section 7.1).
    """
    place, confidence = _place(len(samples))
    if confidence < LEAST_CONFIDENCE:
        return None
    ordered = sorted(samples)
    return Interval(ordered[place - 1], ordered[-place], confidence)


def _place(count: int) -> tuple[int, float]:
    """Give k, counted from 1, and the confidence that it makes."""
    tail = (1 - CONFIDENCE) / 2
    if count > EXACT_COUNT:
        reach = statistics.NormalDist().inv_cdf(1 - tail)
        return math.floor((count - reach * math.sqrt(count)) / 2), CONFIDENCE
    place, below, chance = 0, 0, 0.0
    while place < count // 2:
        below += math.comb(count, place)
        if place and below / 2**count > tail:
            break
        place, chance = place + 1, below / 2**count
    return place, 1 - 2 * chance if place else 0.0


def of_processes(processes: Sequence[Sequence[float]]) -> Interval | None:
    """Give the interval of the median of timings, widened until the median of every process is in it.

    Of one process alone, by `ONE_PROCESS_DIFFERS` either way.
    """
    found = of_median([value for samples in processes for value in samples])
    if found is None:
        return None
    if len(processes) == 1:
        return Interval(found.low * (1 - ONE_PROCESS_DIFFERS), found.high * (1 + ONE_PROCESS_DIFFERS), found.confidence)
    medians = [statistics.median(samples) for samples in processes]
    return Interval(min(found.low, *medians), max(found.high, *medians), found.confidence)


def of_memory(peaks: Sequence[int], *, marked: bool) -> Interval:
    """Give the ends of the peak memory that processes added, a little wider than what they differ by themselves.

    Where the mark could not be started over (not `marked`) the peak is that of a whole life, and there is no lower end.
    """
    return Interval(min(peaks) * (1 - MEMORY_DIFFERS) if marked else 0.0, max(peaks) * (1 + MEMORY_DIFFERS))
