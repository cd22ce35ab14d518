"""Artifacts that take turns: what runs in the processes of a comparison, one set of fresh ones per block.

The sessions stay open between the jobs of one process, so that its parent can let two processes take turns.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from validators.protocol import ROTATION, pinned
from validators.runtimes import RUNTIMES, Feed, Inference, Subject, cases_of, feed

#: A turn is as many inferences as take this long, so that the clock's grain does not count.
TURN_SECONDS = 0.003

#: A turn begins with an inference that does not count, so that it does not matter whose turn was before and whose
#: weights are in the caches. Where one takes as long as this, it is left out.
LONG_SECONDS = 0.010

#: Before the first turn.
WARM_UP_RUNS = 5
WARM_UP_SECONDS = 0.1

#: Pairs of one block: until so much time went by for each two that are compared, and never fewer or more than so many.
PAIRS_SECONDS = 2.0
LEAST_PAIRS, MOST_PAIRS = 2, 20

#: The turns of a pair, by side. Neither side's times follow a drift of the machine, straight or bent (Thue and Morse's
#: sequence), and each side follows itself as often as the other does, and comes back after as many turns.
ORDER = (0, 1, 1, 0, 1, 0, 0, 1)

#: Pairs that two make before it is the next two's turn. NOTE: Why several: the first artifact takes turns with every
#: other and with its double. Where these change after four turns, it comes back sooner than they do, its weights are in
#: the caches more often, and a file beside other work is 1.5 % slower than itself (measured, 24 comparisons; 3 to 5 %
#: between places in the order). For the same reason a visit begins with a turn of each that does not count.
VISIT_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Seat:
    """One artifact that is opened for a block, and how it takes its inputs."""

    number: int
    subject: Subject
    feeds: tuple[Feed, ...]


@dataclass(frozen=True, slots=True)
class Seating:
    """What one process opens; travels to it."""

    runtime: str
    seats: tuple[Seat, ...]  # in the order in which they are opened
    inputs: str  # .npz of cases


@dataclass(frozen=True, slots=True)
class Seated:
    """How many inferences make a turn of each artifact, by its number."""

    counts: tuple[tuple[int, int], ...]
    pinned: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One artifact's turn: so many inferences, on the input `start` of those in rotation."""

    number: int
    count: int
    start: int
    threads: int


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds that one inference of a turn took, in wall and in CPU time."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Pair:
    """What one inference of two artifacts took in turns, A B B A B A A B."""

    first: Took
    second: Took


@dataclass(frozen=True, slots=True)
class Bout:
    """Two artifacts that take turns: their numbers, and the inferences of a turn."""

    first: int
    second: int
    counts: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Round:
    """All bouts of one process; travels to it."""

    bouts: tuple[Bout, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class Fought:
    """The pairs of every bout of a round."""

    pairs: tuple[tuple[Pair, ...], ...]


#: What is open in this process, by its number: called with the inferences to make and the input to make them on.
_OPEN: dict[int, Callable[[int, int], Took]] = {}


def take_seats(job: Seating) -> Seated:
    """Open the artifacts of one block in this process and warm them up; raises LoadError where one cannot be opened."""
    import numpy as np

    _OPEN.clear()
    runtime = RUNTIMES[job.runtime]
    with np.load(job.inputs) as arrays, pinned(job.seats[0].subject.threads) as kept_on:
        for seat in job.seats:
            session = runtime.open(seat.subject)
            rotation = [feed(arrays, case, seat.feeds) for case in cases_of(arrays)[:ROTATION]]
            _OPEN[seat.number] = timer([session.ready(inputs) for inputs in rotation])
        return Seated(tuple((seat.number, turn_length(_OPEN[seat.number])) for seat in job.seats), kept_on)


def timer(rotation: Sequence[Inference]) -> Callable[[int, int], Took]:
    """Give what times a number of inferences on one of the inputs, which is put in place before the clock is read.

    NOTE: Why one: handing over another for every inference would be in the time, or clocks be read around each.
    """
    took = 0.0

    def timed(count: int, start: int) -> Took:
        nonlocal took
        one = rotation[start % len(rotation)]
        one.place()
        infer = one.infer
        if took < LONG_SECONDS:
            infer()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            infer()
        found = Took((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)
        took = min(found.wall, found.cpu)  # other work may be in wall time, and other threads are in CPU time
        return found

    return timed


def turn_length(timed: Callable[[int, int], Took]) -> int:
    """Warm an artifact up, and say how many inferences its turns have."""
    until = time.perf_counter() + WARM_UP_SECONDS
    runs = 0
    while runs < WARM_UP_RUNS or time.perf_counter() < until:
        timed(1, runs)
        runs += 1
    return max(1, int(TURN_SECONDS / max(timed(WARM_UP_RUNS, 0).wall, 1e-7)))


def take_turn(job: Turn) -> Took:
    """Give one artifact its turn."""
    with pinned(job.threads), undisturbed():
        return _OPEN[job.number](job.count, job.start)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Python collect no garbage meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fight(job: Round) -> Fought:
    """Let the artifacts of this process take turns, bout by bout in rotation."""
    with pinned(job.threads), undisturbed():
        return Fought(rounds(job.bouts, lambda number, count, start: _OPEN[number](count, start)))


def rounds(
    bouts: Sequence[Bout],
    turn: Callable[[int, int, int], Took],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[tuple[Pair, ...], ...]:
    """Give the pairs of every bout; `turn(number, count, start)` times one turn, wherever it is taken.

    Bouts go in rotation, some pairs at a time, so that what happens meanwhile happens to all; in each, both artifacts
    see the same inputs.
    """
    found: list[list[Pair]] = [[] for _ in bouts]
    spent = [0.0] * len(bouts)

    def going(place: int) -> bool:
        pairs = len(found[place])
        return pairs < LEAST_PAIRS or (spent[place] < PAIRS_SECONDS and pairs < MOST_PAIRS)

    while any(map(going, range(len(bouts)))):
        for place, bout in enumerate(bouts):
            began, before = clock(), spent[place]
            for visit in range(VISIT_PAIRS):
                if not going(place):
                    break
                if not visit:
                    for side in ORDER[:2]:
                        turn((bout.first, bout.second)[side], bout.counts[side], len(found[place]))
                found[place].append(pair(bout, turn, len(found[place])))
                spent[place] = before + clock() - began
    return tuple(map(tuple, found))


def pair(bout: Bout, turn: Callable[[int, int, int], Took], number: int) -> Pair:
    """Let two artifacts take turns, A B B A B A A B."""
    took: tuple[list[Took], list[Took]] = ([], [])
    for side in ORDER:
        took[side].append(turn((bout.first, bout.second)[side], bout.counts[side], number))
    return Pair(
        *(Took(*(statistics.fmean(getattr(one, at) for one in turns) for at in ("wall", "cpu"))) for turns in took)
    )
