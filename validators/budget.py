"""What an artifact may cost at most: each limit of a policy's `[budget]`, held against what a report says of it.

A time is a median that is known between two ends: it is within its limit, or beyond it, where both ends are, and
otherwise cannot be told. What is counted is exact. What was not measured, or is withheld, passes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.errors import UsageError
from validators.costs import NOT_ASKED
from validators.interval import Interval, Intervals
from validators.quantity import FORM, bytes_from, bytes_text
from validators.verdict import Finding, Status

if TYPE_CHECKING:
    from validators.latency import Measurement
    from validators.report import TargetReport


@dataclass(frozen=True, slots=True)
class Limit:
    """One statement of a policy: in seconds, bytes, a share or a count, and as it was written in which table."""

    value: float
    stated: str
    place: str


@dataclass(frozen=True, slots=True)
class Budgeted:
    """One limit and what it was held against, in seconds, bytes, a share or a count; None where that is not known."""

    key: str
    status: Status
    reason: str
    limit: float
    place: str  # of the policy that states it
    low: float | None = None
    high: float | None = None
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is nothing to hold a limit against, and what to do."""

    reason: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The ends between which something is, equal where it is exact, and words for it."""

    low: float
    high: float
    words: str


@dataclass(frozen=True, slots=True)
class Unit:
    """How a limit is written in a policy: in what, `factor` of which is one second, byte or share, and up to what.

    `say` writes a value for people, finely enough to be seen beyond its limit. `sized`: text with a unit is read too.
    """

    name: str
    say: Callable[[float], str]
    factor: float = 1.0
    most: float = math.inf
    sized: bool = False

    def read(self, held: Any, name: str) -> tuple[float, str]:
        """Give a stated limit as a number, and in words; raises UsageError for what is no limit."""
        if self.sized and isinstance(held, str):
            return float(bytes_from(held, f"{name} =")), held.strip()
        if isinstance(held, bool) or not isinstance(held, (int, float)) or not math.isfinite(held):
            noun, fix = ("size", f"{FORM}, or a number of bytes") if self.sized else ("number", "give a finite number")
            raise UsageError(f"{name} is {held!r}, and is a {noun}", fix=fix)
        if not 0 <= held <= self.most:
            fix = "give a number from 0 up" if self.most == math.inf else f"give a share from 0 to {self.most:g}"
            raise UsageError(f"{name} is {held!r}", fix=fix)
        return held * self.factor, f"{held:,} {self.name}".strip()


MS = Unit("ms", lambda seconds: f"{seconds * 1e3:.4g} ms", factor=1e-3)
BYTES = Unit("bytes", bytes_text, sized=True)
SHARE = Unit("", lambda share: f"{share:.4g}", most=1.0)
COUNT = Unit("", lambda count: f"{count:,.0f}")

#: Reads of a target, at a number of threads where a policy states one, what a limit is held against.
Reading = Callable[["TargetReport", int | None], Known | Missing]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that may be limited: the key of a policy, what it is, and how it is read from a report."""

    key: str
    unit: Unit
    title: str  # for people, and in the schema of policies
    read: Reading
    least: bool = False  # whether the limit is one from below


def _exact(unit: Unit, title: str, value: float) -> Known:
    said = f"{value:,.0f} bytes" if unit.sized else unit.say(value)
    return Known(value, value, f"{title} {said}")


def _size(target: TargetReport, _: int | None) -> Known | Missing:
    if target.artifact is None:
        return Missing("it is not known")
    return _exact(BYTES, "size", target.artifact.file_bytes)


def _constant(key: str, unit: Unit, title: str, *, least: bool = False) -> Item:
    """Limit one of the costs that do not vary, by its field in `Costs`."""

    def read(target: TargetReport, _: int | None) -> Known | Missing:
        costs = target.costs
        if costs is None:
            return Missing("the report has no costs", "run it again with this version")
        value = getattr(costs, key)
        if value is not None:
            return _exact(unit, title, value)
        reason = costs.reasons.get(key, f"it is not known of {target.target}")
        return Missing(reason, f"add --{key}" if reason == NOT_ASKED else "")

    return Item(key, unit, title, read, least)


def measured(
    unit: Unit,
    title: str,
    value: Callable[[Measurement], float | None],
    interval: Callable[[Intervals], Interval | None],
    withheld: Callable[[Measurement], Missing],
) -> Reading:
    """Read what was measured with its ends; `withheld` says why there are none."""

    def read(target: TargetReport, threads: int | None) -> Known | Missing:
        found = timed(target, threads)
        if isinstance(found, Missing):
            return found
        middle = value(found)
        between = None if found.intervals is None else interval(found.intervals)
        if middle is None or between is None:
            return withheld(found)
        at = f" at {found.threads} thread(s)"
        sure = f"{between.confidence:.0%} interval " if between.confidence is not None else ""
        ends = f"({sure}{unit.say(between.low)} to {unit.say(between.high)}){at}"
        return Known(between.low, between.high, f"{title} {unit.say(middle)} {ends}")

    return read


def timed(target: TargetReport, threads: int | None) -> Measurement | Missing:
    """Find the measurement at a number of threads, the first one where none is stated."""
    if not target.latency:
        reason = target.latency_reason or "it was not timed"
        return Missing(f"nothing was measured: {reason}", "leave the timing in" if reason == "not asked for" else "")
    for one in target.latency:
        if threads in (None, one.threads):
            return one
    return Missing(f"it was not timed at {threads} thread(s)", f"add --threads {threads}")


NO_INTERVAL = Missing("the report states no interval: another version wrote it", "run it again")
STEADIER = "end other work on this machine and run it again, or with --protocol release"


def _unsteady(reason: str) -> Missing:
    return Missing(f"withheld: {reason}", STEADIER) if reason else NO_INTERVAL


def _unopened(found: Measurement) -> Missing:
    if found.intervals is None:
        return NO_INTERVAL
    return Missing(f"{len(found.openings)} opening(s) make no interval, 5 do", "use --protocol default or release")


#: What may be limited; what is added here, policies, their schema and `judge` know.
ITEMS = (
    Item(
        "latency_ms",
        MS,
        "median wall time of one inference",
        measured(MS, "wall time", lambda m: m.median_seconds, lambda i: i.wall, lambda m: _unsteady(m.withheld)),
    ),
    Item(
        "cpu_ms",
        MS,
        "median CPU time, of all threads, of one inference",
        measured(MS, "CPU time", lambda m: m.cpu_median_seconds, lambda i: i.cpu, lambda m: _unsteady(m.cpu_withheld)),
    ),
    Item(
        "cold_start_ms",
        MS,
        "median of load and first inference together, in a fresh process",
        measured(MS, "load and first inference", lambda m: m.cold_start_seconds, lambda i: i.cold_start, _unopened),
    ),
    Item(
        "memory_bytes",
        BYTES,
        "peak resident memory that it adds",
        measured(BYTES, "peak memory", lambda m: m.peak_added_bytes, lambda i: i.memory, lambda _: NO_INTERVAL),
    ),
    Item(
        "file_bytes",
        BYTES,
        "size of the artifact, with all that belongs to it",
        _size,
    ),
    _constant("weight_bytes", BYTES, "constants as stored"),
    _constant("activation_bytes", BYTES, "peak of what is computed from the inputs, these included"),
    _constant("macs", COUNT, "multiply-accumulates of one inference"),
    _constant("instructions", COUNT, "executed instructions of one inference"),
    _constant("delegated_share", SHARE, "share of the operators that the delegate takes", least=True),
    _constant("partitions", COUNT, "parts of the graph that the delegate takes"),
)

KEYS = {item.key: item for item in ITEMS}

#: Which of several measurements the limits are of, by its number of threads.
THREADS = "threads"


def budgeted(target: TargetReport, limits: Mapping[str, Limit]) -> tuple[Budgeted, ...]:
    """Hold a target against every limit that is stated for it."""
    threads = int(limits[THREADS].value) if THREADS in limits else None
    return tuple(_decided(item, limits[item.key], item.read(target, threads)) for item in ITEMS if item.key in limits)


def _decided(item: Item, limit: Limit, found: Known | Missing) -> Budgeted:
    """Decide by both ends; what is between them, nobody can tell."""
    bound = f"at {'least' if item.least else 'most'} {limit.stated} by {limit.place}"
    if isinstance(found, Missing):
        reason = f"{item.key}: {found.reason}; {bound}"
        return Budgeted(item.key, Status.NOT_RUN, reason, limit.value, limit.place, fix=found.fix)
    within, beyond = (
        (found.low >= limit.value, found.high < limit.value)
        if item.least
        else (found.high <= limit.value, found.low > limit.value)
    )
    status = Status.PASS if within else Status.FAIL if beyond else Status.NOT_RUN
    unknown = ", so whether it is within cannot be told" if status is Status.NOT_RUN else ""
    reason = f"{item.key}: {found.words}, {bound}{unknown}"
    fix = "more runs tell more: --protocol release" if unknown else ""
    return Budgeted(item.key, status, reason, limit.value, limit.place, found.low, found.high, fix)


def findings(budgets: Iterable[Budgeted]) -> list[Finding]:
    """Give what limits found as findings of a verdict, each with its fix."""
    return [
        Finding("budget", one.status, f"{one.reason} (fix: {one.fix})" if one.fix else one.reason) for one in budgets
    ]


def words_of(budgets: Iterable[Budgeted], said: str) -> list[str]:
    """Say in one line what is within its limit, then of every other what became of it and its fix.

    A reason that is all of what was `said` before is not said again.
    """
    kept, lines = [], []
    for one in budgets:
        fix = f"; fix: {one.fix}" if one.fix else ""
        if one.status is Status.PASS and one.low is not None and one.high is not None:
            item = KEYS[one.key]
            end = one.low if item.least else one.high
            kept.append(f"{one.key} {item.unit.say(end)} (limit {item.unit.say(one.limit)})")
        elif fix or not said.endswith(one.reason):
            lines.append(f"{'over budget' if one.status is Status.FAIL else 'budget not told'}: {one.reason}{fix}")
    return [f"within budget: {', '.join(kept)}"] * bool(kept) + lines
