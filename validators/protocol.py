"""How artifacts are timed: the presets of `--protocol`, and the numbers of each with their reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from convert.errors import UnknownName

#: Runs without which a percentile has no upper end: with so many, the second slowest is above it with 99 % confidence
#: (0.9^64 + 64 * 0.1 * 0.9^63 < 0.01; 662 for the 99th). MLPerf Inference's early stopping asks for the same numbers.
P90_RUNS = 64
P95_RUNS = 130
P99_RUNS = 662

#: Distinct inputs in rotation, so that no branch predictor or cache learns one by heart.
ROTATION = 8


#: A window looks as far as this, so that an engine whose first hundred runs are slow is not taken for a slow one.
MANY_RUNS = 256
MANY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of timing an artifact.

    `processes` are fresh ones in each of which a steady state is looked for; `openings` are the fresh processes, those
    among them, that load the file and infer once. A window of timings has `runs` and takes `seconds` at least, goes on
    until it has `MANY_RUNS` or has taken `MANY_SECONDS`, and ends after `limit_seconds` in any case. Windows are tried
    until one is stable, or until `patience_seconds` went by. `withholds` says whether what is not stable is left out.
    """

    name: str
    why: str  # for people
    processes: int
    openings: int
    runs: int
    seconds: float
    limit_seconds: float
    patience_seconds: float
    threads: tuple[int, ...] = (1,)
    withholds: bool = True
    self_test: bool = False  # whether checks are checked with planted faults too

    def enough(self, runs: int, seconds: float) -> bool:
        """Whether a window of so many runs that took so long is a whole one."""
        whole = runs >= self.runs and seconds >= self.seconds and (runs >= MANY_RUNS or seconds >= MANY_SECONDS)
        return whole or seconds >= self.limit_seconds


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("quick", "a first look: one process", 1, 1, P90_RUNS, 0.1, 2.0, 1.0),
        Protocol("default", "one steady state, five openings", 1, 5, P90_RUNS, 0.25, 10.0, 4.0),
        # 5 * 140 runs are enough for a 99th percentile of all.
        Protocol(
            "release", "five processes, 1 and 4 threads", 5, 5, 140, 1.0, 30.0, 8.0, threads=(1, 4), self_test=True
        ),
        # MLPerf Inference, single stream: at least 1,024 queries and 60 s, the 90th percentile; nothing is left out.
        Protocol("mlperf", "MLPerf's single stream", 1, 5, 1024, 60.0, 3600.0, 0.0, withholds=False),
    )
}
DEFAULT = "default"


def protocol_of(name: str) -> Protocol:
    """Find a preset by its name; raises UnknownName."""
    if name not in PROTOCOLS:
        raise UnknownName.among("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Keep this process on as many cores as it has threads, the last ones it may use; give them.

    None are given, and nothing is pinned, where the system cannot or has fewer cores than that.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if threads > len(allowed):
        yield ()
        return
    # NOTE: Why the last: interrupts are served by the first, as a rule.
    cores = allowed[-threads:]
    try:
        os.sched_setaffinity(0, cores)
    except OSError:  # a sandbox may refuse it, and the timings are as good as without
        yield ()
        return
    try:
        yield tuple(cores)
    finally:
        os.sched_setaffinity(0, allowed)
