"""Comparing artifacts: which is faster, by how much and within which interval, and how little could be told at all.

Every block is a set of fresh processes, one per engine, in which all sessions are built again, in another order. In it
artifacts take turns (`validators.contest`); those of different engines do so from two processes that the parent lets
run one at a time, since frameworks never share one. The first artifact is also timed against itself: what that shows
is the least that can be detected. What the pairs say, `validators.pairs` decides.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import random
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import UsageError
from convert.spec import check_run, command_line, sizes_from
from convert.worker import Environment, Workers, limits_of
from validators import pairs
from validators.contest import Bout, Pair, Round, Seat, Seating, Took, Turn, fight, rounds, take_seats, take_turn
from validators.entrants import Entrant, cases_for, entrant, feeds_of
from validators.environment import machine, versions
from validators.inputs import read_user_file
from validators.pairs import CANNOT_TELL, LEAST_BLOCKS, Interval
from validators.runtimes import RUNTIMES, Feed
from validators.verdict import Status
from validators.where import Where

if TYPE_CHECKING:
    import numpy as np

Say = Callable[[str], None]

#: Blocks after which is looked whether all is decided: few looks, since each is a chance to be wrong.
LOOKS = (6, 12, 18, 24)

#: No block begins after this time, once there are enough for an interval.
SECONDS = 60.0

CPU, WALL = "cpu", "wall"


@dataclass(frozen=True, slots=True)
class Versus:
    """One artifact against the first: its time as a share of the first's.

    `verdict` is by the clock that decides. `detectable` is the difference that the first shows against itself on that
    clock, taking turns the same way. `seconds` is the median of one inference, on that clock.
    """

    artifact: Entrant
    verdict: str
    seconds: float
    cpu: Interval
    wall: Interval
    detectable: float
    blocks: int
    pairs: int

    def decided(self, clock: str) -> Interval:
        """Give the interval on a clock."""
        return self.cpu if clock == CPU else self.wall


@dataclass(frozen=True, slots=True)
class Contested:
    """What artifacts that took turns showed."""

    first: Entrant
    first_seconds: float
    others: tuple[Versus, ...]
    clock: str  # that decides
    threads: int
    pinned: tuple[int, ...]
    where: Where = Where.HOST


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of `python -m validators compare`."""

    command: str
    created: str  # ISO 8601, UTC
    seconds: float
    result: Contested
    max_regression: float | None
    statuses: tuple[Status, ...]  # of the others against `max_regression`; empty without one
    versions: dict[str, str]
    machine: dict[str, str]

    @property
    def exit_code(self) -> int:
        """0 when nothing was gated or all is within the limit; 1 otherwise."""
        return 0 if all(status is Status.PASS for status in self.statuses) else 1


@dataclass(frozen=True, slots=True)
class _Meeting:
    """Two seats that take turns, and whether both are in one process."""

    first: int
    second: int
    inside: bool


@dataclass(slots=True)
class _Course:
    """The log-ratios of one meeting, block by block, and what an inference of its second seat took."""

    cpu: list[list[float]] = field(default_factory=list)
    wall: list[list[float]] = field(default_factory=list)
    took: list[tuple[Took, Took]] = field(default_factory=list)

    def add(self, found: Sequence[Pair]) -> None:
        """Add a block's pairs."""
        import numpy as np

        for side, clock in ((self.cpu, CPU), (self.wall, WALL)):
            first, second = (
                np.array([getattr(getattr(pair, seat), clock) for pair in found]) for seat in ("first", "second")
            )
            side.append(pairs.log_ratios(first, second))
        self.took += [(pair.first, pair.second) for pair in found]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who sits in which process and meets whom; the seats beyond the artifacts are the first one's doubles."""

    entrants: tuple[Entrant, ...]  # by seat
    feeds: tuple[tuple[Feed, ...], ...]  # by seat
    rooms: tuple[tuple[int, ...], ...]  # the seats of each process
    meetings: tuple[_Meeting, ...]
    inputs: str
    threads: int


def contest(
    workers: Workers,
    entrants: Sequence[Entrant],
    *,
    threads: int = 1,
    seed: int = 0,
    fixed: Mapping[str, int] | None = None,
    user: Mapping[str, np.ndarray] | None = None,
    most: float | None = None,
    seconds: float = SECONDS,
    say: Say = lambda _: None,
) -> Contested:
    """Let artifacts take turns with the first one until it is decided, or time is up.

    `most` is the regression that has to be ruled out or found, where there is one.

    Raises UsageError where they cannot be compared, LoadError or a WorkerError where one does not run.
    """
    plan = _plan(workers, entrants, threads, seed, fixed or {}, user)
    courses = {meeting: _Course() for meeting in plan.meetings}
    clock = CPU if threads == 1 else WALL
    began = time.monotonic()
    kept_on: tuple[int, ...] = ()
    blocks = 0
    while True:
        say(f"block {blocks + 1}: building all sessions again")
        kept_on = _block(workers, plan, courses, random.Random(seed * 1000 + blocks), blocks)  # noqa: S311
        blocks += 1
        over = blocks >= LOOKS[-1] or (blocks >= LEAST_BLOCKS and time.monotonic() - began > seconds)
        if over or blocks in LOOKS:
            result = _result(plan, courses, len(entrants), clock, kept_on)
            if over or all(_settled(one, clock, most) for one in result.others):
                return result


def _settled(one: Versus, clock: str, most: float | None) -> bool:
    """Whether more blocks would be for nothing: the question that was asked has its answer."""
    if most is None:
        return one.verdict != CANNOT_TELL
    return pairs.regression(one.decided(clock), one.detectable, most) is not Status.NOT_RUN


def _plan(
    workers: Workers,
    entrants: Sequence[Entrant],
    threads: int,
    seed: int,
    fixed: Mapping[str, int],
    user: Mapping[str, np.ndarray] | None,
) -> _Plan:
    """Make the inputs, and say who sits where."""
    import numpy as np

    cases = cases_for(entrants, fixed, user, seed)
    feeds = [feeds_of(entrants[0], one, cases[0]) for one in entrants]
    path = workers.folder / "contest-inputs.npz"
    np.savez(path, **{f"{case.name}/{name}": array for case in cases for name, array in case.arrays.items()})  # type: ignore[arg-type]
    seats = list(entrants)
    rooms: dict[str, list[int]] = {}
    for number, one in enumerate(entrants):
        rooms.setdefault(one.runtime, []).append(number)
    meetings = [
        _Meeting(0, number, one.runtime == entrants[0].runtime) for number, one in enumerate(entrants) if number
    ]
    apart: list[list[int]] = []
    for inside in sorted({meeting.inside for meeting in meetings}):
        double = len(seats)
        seats.append(entrants[0])
        feeds.append(feeds[0])
        if inside:
            rooms[entrants[0].runtime].append(double)
        else:
            apart.append([double])
        meetings.append(_Meeting(0, double, inside))
    return _Plan(
        tuple(seats),
        tuple(feeds),
        tuple(map(tuple, (*rooms.values(), *apart))),
        tuple(meetings),
        str(path),
        threads,
    )


def _block(
    workers: Workers, plan: _Plan, courses: Mapping[_Meeting, _Course], chance: random.Random, number: int
) -> tuple[int, ...]:
    """Start fresh processes, seat all artifacts in an order of chance, let them meet; give the cores they were on."""
    environments = [_room(plan, seats, place) for place, seats in enumerate(plan.rooms)]
    room_of = {seat: environments[place] for place, seats in enumerate(plan.rooms) for seat in seats}
    counts: dict[int, int] = {}
    kept_on: tuple[int, ...] = ()
    try:
        for environment in environments:
            workers.warm(environment)
        for place, seats in enumerate(plan.rooms):
            order = chance.sample(seats, len(seats))
            job = Seating(
                plan.entrants[seats[0]].runtime,
                tuple(Seat(seat, plan.entrants[seat].subject(plan.threads), plan.feeds[seat]) for seat in order),
                plan.inputs,
            )
            seated = workers.run(f"seat-{number}-{place}", take_seats, job, environments[place]).value
            counts |= dict(seated.counts)
            kept_on = seated.pinned
        bouts = {one: Bout(one.first, one.second, (counts[one.first], counts[one.second])) for one in plan.meetings}
        inside = chance.sample([one for one in plan.meetings if one.inside], sum(one.inside for one in plan.meetings))
        across = [meeting for meeting in plan.meetings if not meeting.inside]
        if inside:
            round_ = Round(tuple(bouts[meeting] for meeting in inside), plan.threads)
            fought = workers.run(f"fight-{number}", fight, round_, room_of[0]).value
            for meeting, found in zip(inside, fought.pairs, strict=True):
                courses[meeting].add(found)
        if across:

            def turn(seat: int, count: int, start: int) -> Took:
                job = Turn(seat, count, start, plan.threads)
                return workers.run(f"turn-{number}", take_turn, job, room_of[seat]).value

            met = rounds([bouts[meeting] for meeting in across], turn)
            for meeting, found in zip(across, met, strict=True):
                courses[meeting].add(found)
    finally:
        for environment in environments:
            workers.retire(environment)
    return kept_on


def _room(plan: _Plan, seats: Sequence[int], place: int) -> Environment:
    environment = RUNTIMES[plan.entrants[seats[0]].runtime].environment
    return dataclasses.replace(environment, name=f"contest-{environment.name}-{place}")


def _result(
    plan: _Plan, courses: Mapping[_Meeting, _Course], count: int, clock: str, kept_on: tuple[int, ...]
) -> Contested:
    """Say what all blocks so far show."""
    controls = {
        inside: pairs.detectable(pairs.interval(getattr(courses[_double(plan, inside=inside)], clock)))
        for inside in {meeting.inside for meeting in plan.meetings}
    }
    others = []
    for meeting in plan.meetings[: count - 1]:
        course = courses[meeting]
        cpu, wall = pairs.interval(course.cpu), pairs.interval(course.wall)
        least = controls[meeting.inside]
        others.append(
            Versus(
                plan.entrants[meeting.second],
                pairs.verdict(cpu if clock == CPU else wall, least),
                statistics.median(getattr(second, clock) for _, second in course.took),
                cpu,
                wall,
                least,
                len(course.cpu),
                sum(map(len, course.cpu)),
            )
        )
    first = statistics.median(getattr(one, clock) for meeting in plan.meetings for one, _ in courses[meeting].took)
    return Contested(plan.entrants[0], first, tuple(others), clock, plan.threads, kept_on)


def _double(plan: _Plan, *, inside: bool) -> _Meeting:
    """Find the meeting of the first artifact with itself, in one process or across two."""
    return next(meeting for meeting in reversed(plan.meetings) if meeting.inside == inside)


def compare(
    artifacts: Iterable[str | os.PathLike[str]],
    *,
    inputs: str | os.PathLike[str] = "",
    fix: Iterable[str] = (),
    max_regression: float | None = None,
    threads: int = 1,
    seed: int = 0,
    seconds: float = SECONDS,
    timeout_seconds: float = 1800.0,
    memory_bytes: int = 0,
    say: Say = lambda _: None,
) -> Comparison:
    """Compare how long artifacts of any formats take, each with the first.

    Args:
        artifacts: paths of TFLite, ONNX or TorchScript files or SavedModel folders, two or more; the first is what the
            others are compared with.
        inputs: an `.npz` of inputs by the first one's names; else they are seeded.
        fix: sizes for free dimensions, such as `"batch=1"`.
        max_regression: share by which the others may be slower, such as 0.05.
        threads: of the engines. CPU time decides at 1, wall time at more.
        seconds: no further block begins after this time.
        seed, timeout_seconds, memory_bytes, say: as in `validators.validate`.

    Raises:
        UsageError: there are fewer than two, one is no artifact, or they do not take the same inputs.
        LoadError, WorkerError: one cannot be loaded or run.
    """
    started = time.monotonic()
    paths = [Path(path) for path in artifacts]
    fix = tuple(fix)
    if len(paths) < 2:
        raise UsageError("there is nothing to compare with", fix="name two artifacts or more, what is known first")
    check_run(seed, (threads,), timeout_seconds, memory_bytes)
    if not seconds > 0:
        raise UsageError(f"--seconds {seconds:g} is no time", fix="give seconds above zero")
    fixed = dict(sizes_from(fix))
    user = read_user_file(Path(inputs)) if inputs else None
    with (
        tempfile.TemporaryDirectory() as folder,
        Workers(Path(folder), limits_of(timeout_seconds, memory_bytes)) as workers,
    ):
        entrants = []
        for number, path in enumerate(paths):
            say(f"reading {path}")
            entrants.append(entrant(workers, path, str(number), user))
        workers.retire_all()
        result = contest(
            workers,
            entrants,
            threads=threads,
            seed=seed,
            fixed=fixed,
            user=user,
            most=max_regression,
            seconds=seconds,
            say=say,
        )
    gated = () if max_regression is None else result.others
    return Comparison(
        command_line(
            "validators",
            "compare",
            [
                ("inputs", str(inputs)),
                *(("fix", size) for size in fix),
                ("max-regression", "" if max_regression is None else f"{max_regression * 100:g}%"),
                ("threads", "" if threads == 1 else str(threads)),
                ("seed", str(seed or "")),
                ("seconds", "" if seconds == SECONDS else f"{seconds:g}"),
            ],
        )
        + f" {shlex.join(map(str, paths))}",
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        time.monotonic() - started,
        result,
        max_regression,
        tuple(pairs.regression(one.decided(result.clock), one.detectable, max_regression or 0.0) for one in gated),
        versions(),
        machine(),
    )
