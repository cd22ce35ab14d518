"""How long an artifact takes on this machine: load, first inference, steady state; and the memory it adds.

Protocol: a fresh process per artifact and thread count, nothing else of ours running; load and first inference once;
then warm-up, then inferences in rotation over several inputs, timed one by one with a monotonic clock. A window of
timings is reported when it is stable; an unstable one is measured again, and withheld with the reason in the end.
Times include handing inputs to the engine and reading outputs back, as an app does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from validators.memory import peak_bytes, reset_peak, resident_bytes
from validators.runtimes import RUNTIMES, Feed, Subject, cases_of, feed

WARM_UP_SECONDS = 0.1
WARM_UP_RUNS = 3

#: One window is long enough for both, but no longer than the limit.
WINDOW_SECONDS = 0.25
WINDOW_RUNS = 64  # a 90th percentile needs this many for a 95 % interval that has an upper end
WINDOW_LIMIT_SECONDS = 10.0
LEAST_RUNS = 8  # fewer, within the limit, and there is no steady state to speak of

#: Windows are tried until one is stable, or until this much time went by and this many were tried.
PATIENCE_SECONDS = 4.0
WINDOWS = 2

#: A window is stable when the medians of its quarters are within this share of the whole's. On a shared machine other
#: tenants' bursts shift a quarter by 20 % and more, and pass within seconds.
QUARTER_DRIFT = 0.10

#: And when its middle half spreads no more than this share of the median.
SPREAD_LIMIT = 0.35

ROTATION = 8  # distinct inputs, so that no branch predictor or cache learns one by heart


@dataclass(frozen=True, slots=True)
class Timing:
    """One artifact to time at one number of threads; travels to a worker of its own."""

    runtime: str
    subject: Subject
    inputs: str  # .npz of cases
    only: tuple[str, ...]
    feeds: tuple[Feed, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured; `median_seconds` and the rest of the steady state are None where `withheld` says why.

    `spread` is the interquartile range over the median. `p90_seconds` needs 64 runs. `peak_added_bytes` is the highest
    resident memory during load and inference less what the process held before, engine included.
    """

    threads: int
    load_seconds: float
    first_seconds: float
    runs: int
    median_seconds: float | None
    p90_seconds: float | None
    spread: float | None
    peak_added_bytes: int
    where: str = "host"
    withheld: str = ""


def measure(job: Timing) -> Measurement:
    """Load and time an artifact; runs alone, in a fresh worker."""
    import numpy as np

    with np.load(job.inputs) as arrays:
        cases = [case for case in cases_of(arrays) if case in job.only][:ROTATION]
        rotation = [feed(arrays, case, job.feeds) for case in cases]
    before = resident_bytes()
    resettable = reset_peak()
    started = time.perf_counter()
    session = RUNTIMES[job.runtime].open(job.subject)
    loaded = time.perf_counter()
    session.run(rotation[0])
    first = time.perf_counter()
    position = 0

    def run_next() -> None:
        nonlocal position
        position += 1
        session.run(rotation[position % len(rotation)])

    samples, withheld = steady(run_next)
    added = peak_bytes() - before if resettable or peak_bytes() > before else 0
    return summarise(samples, withheld, job.subject.threads, loaded - started, first - loaded, added)


def summarise(
    samples: Sequence[float], withheld: str, threads: int, load: float, first: float, added: int
) -> Measurement:
    """Turn timings in seconds into a measurement, holding back what they do not support."""
    stable = not withheld
    quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else [0.0, 0.0, 0.0]
    median = statistics.median(samples) if samples else None
    p90 = statistics.quantiles(samples, n=10)[-1] if len(samples) >= WINDOW_RUNS else None
    return Measurement(
        threads=threads,
        load_seconds=load,
        first_seconds=first,
        runs=len(samples),
        median_seconds=median if stable else None,
        p90_seconds=p90 if stable else None,
        spread=(quartiles[2] - quartiles[0]) / median if stable and median else None,
        peak_added_bytes=added,
        withheld=withheld,
    )


def steady(run: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> tuple[list[float], str]:
    """Time `run` until a window of timings is stable; give the timings, and why they are withheld if none was."""
    began = clock()
    runs = 0
    while runs < WARM_UP_RUNS or clock() - began < WARM_UP_SECONDS:
        run()
        runs += 1
    patience = clock() + PATIENCE_SECONDS
    tried = 0
    while True:
        samples = window(run, clock)
        reason = instability(samples)
        tried += 1
        if not reason or (tried >= WINDOWS and clock() > patience):
            return samples, reason


def window(run: Callable[[], None], clock: Callable[[], float]) -> list[float]:
    """Time runs one by one until there are enough of them over enough time, or the limit is reached."""
    samples: list[float] = []
    began = clock()
    while True:
        started = clock()
        run()
        ended = clock()
        samples.append(ended - started)
        elapsed = ended - began
        if (len(samples) >= WINDOW_RUNS and elapsed >= WINDOW_SECONDS) or elapsed >= WINDOW_LIMIT_SECONDS:
            return samples


def instability(samples: Sequence[float]) -> str:
    """Say why timings are no steady state, or nothing when they are one."""
    if len(samples) < LEAST_RUNS:
        return f"only {len(samples)} runs fit into {WINDOW_LIMIT_SECONDS:g} s"
    median = statistics.median(samples)
    size = len(samples) // 4
    quarters = [statistics.median(samples[i * size : (i + 1) * size]) for i in range(4)]
    drift = max(abs(quarter - median) for quarter in quarters) / median
    if drift > QUARTER_DRIFT:
        return f"not stable: medians of quarters differ from the whole's by {drift:.0%} (limit {QUARTER_DRIFT:.0%})"
    low, _, high = statistics.quantiles(samples, n=4)
    if (high - low) / median > SPREAD_LIMIT:
        return f"not stable: the middle half spreads over {(high - low) / median:.0%} of the median"
    return ""


def overlap(one: Measurement, other: Measurement) -> bool:
    """Whether the middle halves of two measurements' timings overlap, so that neither is called the faster."""
    lows, highs = zip(_half(one), _half(other), strict=True)
    return bool(max(lows) <= min(highs))


def _half(measured: Measurement) -> tuple[float, float]:
    """Give the ends of the middle half: the median with half the interquartile range on either side of it."""
    median, spread = measured.median_seconds or 0.0, measured.spread or 0.0
    return median * (1 - spread / 2), median * (1 + spread / 2)
