"""Artifacts timed in turns in one process: what a busy machine does to one it does to all, and their ratio stays true.

The same file against itself on a busy machine: sequential medians differ by up to 30 %, turns in CPU time by 5 %.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from validators.runtimes import RUNTIMES, Feed, Subject, feed

#: A turn is as many inferences as take this long, so that the clock's grain does not count.
TURN_SECONDS = 0.003

#: Rounds are gone until this much time went by, and never fewer or more than so many.
ROUNDS_SECONDS = 0.4
LEAST_ROUNDS, MOST_ROUNDS = 7, 60

WARM_UP = 3

#: Ratios that differ by less are the same: what turns of one file against itself differ by.
SAME = 0.05


@dataclass(frozen=True, slots=True)
class Racer:
    """One artifact as its engine opens it, and how it takes its inputs."""

    subject: Subject
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True, slots=True)
class Turns:
    """Artifacts of one engine to time in turns; travels to a worker. The first is what the others are compared with."""

    runtime: str
    racers: tuple[Racer, ...]
    inputs: str  # .npz of cases
    case: str


@dataclass(frozen=True, slots=True)
class Share:
    """How long one artifact takes: seconds, and as a share of the first's, with the quartiles of the rounds' shares."""

    seconds: float
    median: float
    low: float
    high: float

    @property
    def slower(self) -> bool:
        """Whether it takes longer than the first, beyond what the rounds spread and turns can tell."""
        return self.low > 1 and self.median > 1 + SAME


@dataclass(frozen=True, slots=True)
class Timed:
    """What taking turns gave, in the order of the artifacts."""

    shares: tuple[Share, ...]


def take_turns(job: Turns) -> Timed:
    """Open all artifacts and time them in turns; runs in the engine's worker, on one thread in CPU time.

    Raises LoadError where one cannot be opened.
    """
    import numpy as np

    runs: list[Callable[[], object]] = []
    with np.load(job.inputs) as arrays:
        for racer in job.racers:
            one = RUNTIMES[job.runtime].open(racer.subject).ready(feed(arrays, job.case, racer.feeds))
            one.place()  # once, because every artifact has a session of its own
            runs.append(one.infer)
    # Threads of the engine that wait for work would count as the artifact's.
    alone = all(racer.subject.threads == 1 for racer in job.racers)
    return Timed(compared(rounds(runs, time.process_time if alone else time.perf_counter)))


def rounds(runs: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[list[float]]:
    """Give, for each of `runs`, the seconds that one call took in every round; a round goes forwards and backwards."""
    counts = []
    for run in runs:
        for _ in range(WARM_UP):
            run()
        counts.append(max(1, int(TURN_SECONDS / max(_seconds(run, WARM_UP, clock), 1e-7))))
    found: list[list[float]] = [[] for _ in runs]
    until = clock() + ROUNDS_SECONDS * len(runs)
    while len(found[0]) < LEAST_ROUNDS or (clock() < until and len(found[0]) < MOST_ROUNDS):
        forwards = [_seconds(run, count, clock) for run, count in zip(runs, counts, strict=True)]
        backwards = [_seconds(run, count, clock) for run, count in zip(runs[::-1], counts[::-1], strict=True)][::-1]
        for place, pair in enumerate(zip(forwards, backwards, strict=True)):
            found[place].append(sum(pair) / 2)
    return found


def _seconds(run: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(count):
        run()
    return (clock() - began) / count


def compared(found: Sequence[Sequence[float]]) -> tuple[Share, ...]:
    """Compare timings round by round with the first's."""
    shares = []
    for timings in found:
        ratios = [one / max(first, 1e-12) for one, first in zip(timings, found[0], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        shares.append(Share(statistics.median(timings), median, low, high))
    return tuple(shares)
