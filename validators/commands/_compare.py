"""A comparison as text for people, and as JSON."""

from __future__ import annotations

import msgspec

from validators.entrants import Entrant
from validators.pairs import CANNOT_TELL, SAME, Interval
from validators.verdict import Status
from validators.versus import CPU, Comparison, Versus


def as_text(found: Comparison) -> str:
    """Give every artifact's verdict with its intervals, what decided, and what could have been detected."""
    result = found.result
    lines = [f"{_named(result.first)}: {_seconds(result.first_seconds)}"]
    for place, one in enumerate(result.others):
        lines.append(f"{_named(one.artifact)}: {_seconds(one.seconds)}, {said(one, result.clock)}")
        lines += [f"  {clock} time: {_share(interval)}" for clock, interval in (("CPU", one.cpu), ("wall", one.wall))]
        lines.append(
            f"  {one.pairs} pairs in {one.blocks} blocks; {result.first.path} against itself shows up to "
            f"{one.detectable:.1%}, so less cannot be told"
        )
        if found.max_regression is not None:
            lines.append(f"  {gated(found.statuses[place], found.max_regression)}")
    decides = "CPU" if result.clock == CPU else "wall"
    cores = f"core {', '.join(map(str, result.pinned))}" if result.pinned else "no core of their own"
    lines.append(f"{result.threads} thread(s), {decides} time decides, on {cores} ({result.where.value})")
    return "\n".join(lines) + "\n"


def said(one: Versus, clock: str) -> str:
    """Give the verdict in words, with the ratio it rests on."""
    ratio = one.decided(clock).ratio
    if one.verdict in (SAME, CANNOT_TELL):
        return f"{one.verdict} ({ratio - 1:+.1%})"
    return f"{one.verdict} by {abs(ratio - 1):.1%}" if ratio < 2 else f"{one.verdict}, {ratio:.3g} times as long"


def gated(status: Status, most: float) -> str:
    """Say whether it is within the regression that is allowed."""
    words = {
        Status.PASS: f"no more than {100 * most:g} % slower",
        Status.FAIL: f"more than {100 * most:g} % slower",
        Status.NOT_RUN: f"whether it is more than {100 * most:g} % slower cannot be told",
    }
    return f"{status.value}: {words[status]}"


def _share(interval: Interval) -> str:
    return f"{interval.ratio:.3f} of it, 95 % interval {interval.low:.3f} to {interval.high:.3f}"


def _named(one: Entrant) -> str:
    return f"{one.path} ({one.format} {one.precision}, {one.engine})"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def as_json(found: Comparison) -> str:
    """Give all of it, indented, with the exit code."""
    answer = {**msgspec.to_builtins(found), "exit_code": found.exit_code}
    return msgspec.json.format(msgspec.json.encode(answer)).decode() + "\n"
