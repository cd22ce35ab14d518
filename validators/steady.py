"""Is a series of timings a steady state: warm-up found by a change-point test, drift, two speeds, spread, outliers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Fewer runs, and there is no steady state to speak of.
LEAST_RUNS = 8

#: A window is stable when the medians of its quarters are within this share of the whole's. On a shared machine other
#: tenants' bursts shift a quarter by 20 % and more, and pass within seconds.
QUARTER_DRIFT = 0.10

#: And when its middle half spreads no more than this share of the median.
SPREAD_LIMIT = 0.35

#: A change point counts when chance makes one like it less often than this, and where the median falls by more than
#: `CHANGE_SHARE`: of many runs, the test would find a change of a tenth of a per cent.
CHANGE_CHANCE = 0.001
CHANGE_SHARE = 0.05

#: Two speeds: the best split into two groups explains this share of the variance (0.64 of a normal and 0.75
#: of a uniform distribution's, Otsu 1979), each has this share of the runs, and they are this far apart. The slowest
#: and the fastest twentieth are left out, so that outliers make no group.
SPLIT_EXPLAINED = 0.9
SPLIT_SHARE = 0.1
SPLIT_APART = 0.15
SPLIT_TRIMMED = 0.05

#: What is beyond the third quartile by so many interquartile ranges is far out (Tukey 1977), and counted.
FAR_OUT = 3.0


def warm_up(samples: Sequence[float]) -> int:
    """Say how many runs at the beginning are warm-up: those before the last change to faster ones.

    The change point is Pettitt's (1979): the place where runs before and after differ most in their ranks, which no
    outlier moves, with his approximate chance of finding such a place where there is none. A change to slower runs is
    no end of a warm-up, and is left to `instability`.
    """
    start = 0
    while (change := change_point(samples[start:])) is not None:
        before, after = samples[start : start + change], samples[start + change :]
        if len(after) < LEAST_RUNS or statistics.median(after) > (1 - CHANGE_SHARE) * statistics.median(before):
            break
        start += change
    return start


def change_point(samples: Sequence[float]) -> int | None:
    """Give the number of runs before the place where a series changes most, or None where chance explains it.

    K = max |U_t|, U_t = 2 * (sum of the ranks of the first t) - t * (n + 1); p is about 2 exp(-6 K^2 / (n^3 + n^2)).
    """
    import numpy as np

    count = len(samples)
    if count < 2 * LEAST_RUNS:
        return None
    places = np.arange(1, count + 1)
    u = np.abs(2 * np.cumsum(ranks(samples)) - places * (count + 1))
    change = int(u[:-1].argmax())
    chance = 2 * math.exp(-6 * float(u[change]) ** 2 / (count**3 + count**2))
    return change + 1 if chance < CHANGE_CHANCE else None


def ranks(samples: Sequence[float]) -> np.ndarray:
    """Give every sample its place in order, from 1; equal ones share the mean of theirs."""
    import numpy as np

    _, group, counts = np.unique(np.asarray(samples), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: np.ndarray = (last - (counts - 1) / 2)[group]
    return mean


def instability(samples: Sequence[float], limit_seconds: float) -> str:
    """Say why timings are no steady state, or nothing when they are one."""
    if len(samples) < LEAST_RUNS:
        return f"only {len(samples)} runs fit into {limit_seconds:g} s"
    median = statistics.median(samples)
    if not median:
        return "the clock is too coarse for it"
    size = len(samples) // 4
    quarters = [statistics.median(samples[i * size : (i + 1) * size]) for i in range(4)]
    drift = max(abs(quarter - median) for quarter in quarters) / median
    if drift > QUARTER_DRIFT:
        return f"not stable: medians of quarters differ from the whole's by {drift:.0%} (limit {QUARTER_DRIFT:.0%})"
    low, _, high = statistics.quantiles(samples, n=4)
    if (high - low) / median > SPREAD_LIMIT:
        return f"not stable: the middle half spreads over {(high - low) / median:.0%} of the median"
    return two_speeds(samples)


def two_speeds(samples: Sequence[float]) -> str:
    """Say at which two speeds an engine runs, or nothing when it has one; see `SPLIT_EXPLAINED`."""
    import numpy as np

    ordered = np.sort(np.asarray(samples, np.float64))
    cut = int(len(ordered) * SPLIT_TRIMMED)
    ordered = ordered[cut : len(ordered) - cut]
    total = float(((ordered - ordered.mean()) ** 2).sum())
    if not total:
        return ""
    below = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    low, high = sums / below, (ordered.sum() - sums) / (len(ordered) - below)
    between = below * (len(ordered) - below) / len(ordered) * (high - low) ** 2
    place = int(between.argmax())
    share = float(below[place]) / len(ordered)
    apart = float(high[place] - low[place]) / float(np.median(ordered))
    if between[place] / total < SPLIT_EXPLAINED or not SPLIT_SHARE <= share <= 1 - SPLIT_SHARE or apart < SPLIT_APART:
        return ""
    return (
        f"not stable: it has two speeds, {share:.0%} of the runs around {low[place] * 1e3:.3g} ms and the rest around "
        f"{high[place] * 1e3:.3g} ms"
    )


def outliers(samples: Sequence[float]) -> int:
    """Count the runs that are far slower than the rest; they stay in every number."""
    if len(samples) < LEAST_RUNS:
        return 0
    low, _, high = statistics.quantiles(samples, n=4)
    return sum(sample > high + FAR_OUT * (high - low) for sample in samples)
