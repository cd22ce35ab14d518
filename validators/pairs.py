"""What paired timings say of two artifacts: how much longer one takes, within which interval, and whether that is sure.

Pure arithmetic. A pair is two artifacts timed in turns, A B B A B A A B, so that a machine that grows slower meanwhile
slows both alike; a block is the pairs of one set of fresh processes, in which memory and code lie as they happened to.
Both vary, so both are drawn again: blocks with replacement, and in each its pairs.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from validators.verdict import Status

if TYPE_CHECKING:
    import numpy as np

#: Of the interval.
CONFIDENCE = 0.95
RESAMPLES = 4000

#: With fewer blocks an interval says little of how they differ.
LEAST_BLOCKS = 5

#: A difference below this is never called one: code that happens to lie otherwise in memory makes as much.
LEAST_EFFECT = 0.01

#: Two artifacts are the same where the whole interval is within this of one.
SAME_WITHIN = 0.03

#: Quantiles of Student's t at 97.5 % for 1 to 30 degrees of freedom; see `expanded`.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

FASTER, SLOWER, SAME, CANNOT_TELL = "faster", "slower", "same", "cannot tell"

Blocks = Sequence[Sequence[float]]  # log-ratios of the pairs of each block


@dataclass(frozen=True, slots=True)
class Interval:
    """How long an artifact takes as a share of another's time, with the ends of its 95 % interval."""

    ratio: float
    low: float
    high: float


def interval(blocks: Blocks) -> Interval:
    """Give the mean over blocks of the median log-ratio of their pairs, as a ratio, with its interval.

    The interval is the percentile interval of a seeded hierarchical bootstrap (Efron 1979; Davison and Hinkley 1997,
    3.8), expanded for few blocks. It is wider than it need be, since the noise of the pairs is in the blocks' medians
    too. Raises ValueError for fewer than two blocks.
    """
    import numpy as np

    if len(blocks) < 2 or not all(blocks):
        raise ValueError("an interval needs two blocks with pairs")
    rng = np.random.default_rng(zlib.crc32(b"pairs"))
    drawn = np.stack(
        [
            np.median(np.asarray(block)[rng.integers(0, len(block), (RESAMPLES, len(block)))], axis=1)
            for block in blocks
        ],
        axis=1,
    )
    # A block that is drawn twice is drawn with other pairs each time.
    chosen, which = rng.integers(0, len(blocks), drawn.shape), rng.integers(0, RESAMPLES, drawn.shape)
    means = drawn[which, chosen].mean(axis=1)
    tail = expanded(len(blocks))
    low, high = (float(np.quantile(means, share)) for share in (tail, 1 - tail))
    ratio = statistics.fmean(statistics.median(block) for block in blocks)
    return Interval(math.exp(ratio), math.exp(min(low, ratio)), math.exp(max(high, ratio)))


def expanded(count: int) -> float:
    """Give the share to cut off at each end of a bootstrap over `count` blocks for an interval of 95 %.

    The percentile interval is too narrow by sqrt((n - 1) / n) and takes the normal distribution for Student's t; this
    makes up for both (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.3).
    """
    t = _T[min(count - 1, len(_T)) - 1]
    return statistics.NormalDist().cdf(-t * math.sqrt(count / (count - 1)))


def detectable(control: Interval) -> float:
    """Give the difference that an artifact shows against itself: the farther end of the control's interval."""
    return max(control.high - 1, 1 - control.low)


def verdict(found: Interval, least: float) -> str:
    """Say whether an artifact is faster or slower than the other, the same, or whether that cannot be told.

    Slower and faster where the whole interval is beyond `LEAST_EFFECT`, and the ratio beyond all that a control shows
    (`least`); the same where the interval is within `SAME_WITHIN`, and the control's was too.
    """
    if found.low > 1 + LEAST_EFFECT and found.ratio > 1 + least:
        return SLOWER
    if found.high < 1 - LEAST_EFFECT and found.ratio < 1 / (1 + least):
        return FASTER
    if found.low >= 1 - SAME_WITHIN and found.high <= 1 + SAME_WITHIN and least <= SAME_WITHIN:
        return SAME
    return CANNOT_TELL


def regression(found: Interval, least: float, most: float) -> Status:
    """Judge by how much slower an artifact may be: FAIL beyond it for certain, PASS within it for certain.

    NOT_RUN where the interval has the limit in it, or the ratio is no farther from it than a control is from one.
    """
    if found.low > 1 + most and found.ratio > 1 + least:
        return Status.FAIL
    far = least <= most or found.ratio * (1 + least) <= 1 + most
    return Status.PASS if found.high <= 1 + most and far else Status.NOT_RUN


def log_ratios(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Give the logarithm of the second's time over the first's, pair by pair."""
    import numpy as np

    found: list[float] = np.log(np.maximum(second, 1e-12) / np.maximum(first, 1e-12)).tolist()
    return found
