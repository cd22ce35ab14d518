"""Where the time of an inference goes: every operator as the engine itself times it, and what would help.

One file per format registers a `Profiler`, which runs in a fresh process of its engine. Profiling costs time of its
own, most of all where operators are small, so shares are told and latency is measured without it.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from convert.registry import Registry
from convert.worker import Environment
from validators.runtimes import Arrays, Feed, Subject, feed
from validators.steady import FAR_OUT

__all__ = [
    "PROFILERS",
    "Hint",
    "Operator",
    "Profile",
    "Profiler",
    "Profiling",
    "Taken",
    "by_kind",
    "middle",
    "profile",
    "repeat",
]

#: Runs before those that are profiled: TorchScript compiles in its first three.
WARM_UPS = 5

#: The seconds in which the engines' profilers count.
TICK = 1e-6

#: Of less than this share of a run's time nothing follows for the rest: then no hints are given.
LEAST_SEEN = 0.5

#: Runs that are profiled: as many as fit into the time, within these bounds.
LEAST_RUNS, MOST_RUNS, SECONDS = 11, 200, 3.0


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the engine's plan and the time it takes.

    `layer` is what the file says it belongs to, empty where it says nothing; `weight` its first constant. `delegated`
    is None where the engine has no delegate. `seconds` is the mean over all runs without those that are far out.
    """

    kind: str
    layer: str
    seconds: float
    share: float = 0.0
    delegated: bool | None = None
    weight: str = ""


@dataclass(frozen=True, slots=True)
class Hint:
    """What the profile shows to be slow, and what would help; `share` is the time it is about."""

    name: str
    share: float
    words: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured; without operators, `reason` says why. Operators are in the order that they run in."""

    engine: str = ""  # and what timed it
    where: str = "host"
    threads: int = 1
    runs: int = 0
    operators: tuple[Operator, ...] = ()
    kinds: tuple[tuple[str, float], ...] = ()  # share of the time by kind of operator, the greatest first
    hints: tuple[Hint, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def seconds(self) -> float:
        """The time of all operators of a run."""
        return sum(operator.seconds for operator in self.operators)

    def top(self, count: int) -> list[Operator]:
        """Give the operators with the greatest shares."""
        return sorted(self.operators, key=lambda operator: -operator.share)[:count]


@dataclass(frozen=True, slots=True)
class Profiling:
    """One artifact to profile; travels to a worker of its own. `images` is the layout of its image inputs."""

    format: str
    subject: Subject
    inputs: str  # .npz of cases
    case: str
    feeds: tuple[Feed, ...]
    images: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a profiler measured, before shares; `partitions` is how many parts a delegate took.

    `run_seconds` is what a run took before it was profiled.
    """

    engine: str
    runs: int
    operators: tuple[Operator, ...]
    run_seconds: float
    partitions: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profiler:
    """How artifacts of one format, whose name it has, are profiled.

    `take` is given the file and the arrays of one case. It raises LoadError where the engine cannot be profiled.
    """

    name: str
    environment: Environment
    take: Callable[[Subject, Arrays], Taken]


Key = TypeVar("Key")  # what tells one operator of a run from the others

PROFILERS: Registry[Profiler] = Registry("profiler", "validators.profiles")


def profile(job: Profiling) -> Profile:
    """Profile an artifact, alone in a fresh worker."""
    import numpy as np

    from validators.hints import hints_for

    with np.load(job.inputs) as arrays:
        given = feed(arrays, job.case, job.feeds)
    taken = PROFILERS[job.format].take(job.subject, given)
    operators = shared(taken.operators)
    total = sum(operator.seconds for operator in operators)
    seen = total >= LEAST_SEEN * taken.run_seconds
    unseen = (
        f"its operators' times make {total * 1e6:.0f} of the {taken.run_seconds * 1e6:.0f} µs of a run: the rest is "
        "between them, or too short for a clock of microseconds, so the shares are of what was seen, and no hints given"
    )
    return Profile(
        engine=taken.engine,
        threads=job.subject.threads,
        runs=taken.runs,
        operators=operators,
        kinds=tuple(by_kind(operators)),
        hints=hints_for(operators, taken.partitions, job.images) if seen else (),
        notes=taken.notes if seen else (*taken.notes, unseen),
    )


def shared(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Give operators with their shares of the time that all take."""
    total = sum(operator.seconds for operator in operators)
    return tuple(
        dataclasses.replace(operator, share=operator.seconds / total if total else 0.0) for operator in operators
    )


def by_kind(operators: Sequence[Operator]) -> list[tuple[str, float]]:
    """Add up the shares of the time by kind of operator, the greatest first."""
    kinds: dict[str, float] = defaultdict(float)
    for operator in operators:
        kinds[operator.kind] += operator.share
    return sorted(kinds.items(), key=lambda item: -item[1])


def repeat(run: Callable[[], object], profiled: Callable[[], object] = lambda: None) -> tuple[int, float]:
    """Warm up, call `profiled`, and run as often as fits.

    Gives the number of runs that came after `profiled`, and the seconds that a run took before it.
    """
    plain = []
    for _ in range(WARM_UPS):
        began = time.perf_counter()
        run()
        plain.append(time.perf_counter() - began)
    profiled()
    began = time.perf_counter()
    count = 0
    while count < LEAST_RUNS or (count < MOST_RUNS and time.perf_counter() - began < SECONDS):
        run()
        count += 1
    return count, statistics.median(plain)


def typical(seen: Mapping[Key, Sequence[float]]) -> dict[Key, float]:
    """Give the typical time of each operator."""
    return {key: mean_of(times) for key, times in seen.items()}


def mean_of(times: Sequence[float]) -> float:
    """Give the mean without what is far out: beyond the third quartile by `FAR_OUT` interquartile ranges and two ticks.

    NOTE: Why no median: of an operator that takes a tenth of a tick, nine readings in ten are 0, and so is the median.
    """
    if len(times) < 2:
        return sum(times)
    low, _, high = statistics.quantiles(times, n=4)
    kept = [one for one in times if one <= high + FAR_OUT * (high - low) + 2 * TICK]
    return sum(kept) / len(kept)
