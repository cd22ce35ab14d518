"""What a number of rows proves: bounds on shares and on means of paired differences."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from validators import tolerance

if TYPE_CHECKING:
    import numpy as np

#: Draws that are in memory at once.
_CHUNK = 64


def upper_share(found: int, rows: int, confidence: float = tolerance.CONFIDENCE) -> float:
    """Give the largest share that still makes no more than `found` of `rows` so likely (Clopper and Pearson 1934).

    With none found it is about 3/rows at 95 %.
    """
    if found >= rows:
        return 1.0
    low, high = found / rows, 1.0
    for _ in range(60):  # halvings, down to the rounding of a float
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(found, rows, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(found: int, rows: int, share: float) -> float:
    """Give the probability of at most `found` successes in `rows` tries of probability `share`."""
    import numpy as np

    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    k = np.arange(1, found + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((rows - k + 1) / k))])
    k = np.arange(found + 1)
    logs = logs + k * math.log(share) + (rows - k) * math.log1p(-share)
    return float(np.exp(logs).sum())


def lower_ratio(above: np.ndarray, below: np.ndarray, confidence: float = tolerance.CONFIDENCE) -> float:
    """Give the lower bound of mean(above) / mean(below), one of each per row and paired, none below zero.

    It is the percentile of a seeded bootstrap over the rows (Efron 1979). Draws in which `below` is zero throughout
    have lost nothing.
    """
    import numpy as np

    rng = np.random.default_rng(zlib.crc32(b"bootstrap"))
    ratios: list[float] = []
    while len(ratios) < tolerance.RESAMPLES:
        draws = rng.integers(0, len(above), (min(_CHUNK, tolerance.RESAMPLES - len(ratios)), len(above)))
        had, kept = below[draws].mean(axis=1), above[draws].mean(axis=1)
        ratios += np.divide(kept, had, out=np.ones_like(kept), where=had > 0).tolist()
    return float(np.quantile(ratios, 1 - confidence))


def resampled(rows: int, statistic: Callable[[np.ndarray], float], confidence: float = tolerance.CONFIDENCE) -> float:
    """Give the lower bound of a number that only a whole set of rows has; it gets the numbers of the drawn rows."""
    import numpy as np

    rng = np.random.default_rng(zlib.crc32(b"bootstrap"))
    found = [statistic(rng.integers(0, rows, rows)) for _ in range(tolerance.METRIC_RESAMPLES)]
    return float(np.quantile(found, 1 - confidence))
