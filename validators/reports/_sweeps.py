"""Tables of sweeps, below that of verdicts."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from validators.quantity import bytes_text, seconds_text, short
from validators.report import TargetReport
from validators.swept import THREADS, Swept, SweptPoint


def tables(target: TargetReport) -> Iterator[Table | str]:
    """Draw every sweep of a target: a line that says what it is, and the table of its values."""
    for swept in target.sweeps:
        yield f"{target.label}: {escape(title(swept))}"
        if swept.points:
            yield _weights(swept) if swept.limit_bytes else _times(swept)


def title(swept: Swept) -> str:
    """Say what a sweep is of, and what came of it."""
    if not swept.limit_bytes:
        return f"sweep of {swept.name}" + (f": {swept.reason}" if swept.reason else "")
    words = f"largest {swept.name} within {bytes_text(swept.limit_bytes)}"
    if swept.largest is None:
        return f"{words}: none, {swept.reason}"
    beyond = max(point.value for point in swept.points) == swept.largest
    return f"{words}: {swept.largest}{', and larger ones were not tried' if beyond else ''}"


def _times(swept: Swept) -> Table:
    items = swept.name != THREADS and any(point.items for point in swept.points)
    heads = (swept.name, "wall", "p90", "CPU", *(("per item", "items/s") if items else ()), "memory", "")
    table = _table(heads)
    for point in swept.points:
        each = point.per_item(point.latency.median_seconds) if point.latency else None
        latency = point.latency
        table.add_row(
            str(point.value),
            _steady(point),
            _known(latency.p90_seconds if latency else None),
            _known(latency.cpu_median_seconds if latency else None),
            *((_known(each), "-" if each is None else f"{1 / each:,.0f}") if items else ()),
            _peak(point),
            escape(_reason(point)),
        )
    return table


def _weights(swept: Swept) -> Table:
    table = _table((swept.name, "memory", ""))
    for point in swept.points:
        within = point.peak_bytes is not None and point.peak_bytes <= swept.limit_bytes
        table.add_row(str(point.value), _peak(point), escape(_reason(point) or ("fits" if within else "does not fit")))
    return table


def _table(heads: tuple[str, ...]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=bool(head))
    return table


def _steady(point: SweptPoint) -> str:
    found = point.latency
    if found is None:
        return "NOT_RUN"
    if found.median_seconds is None:
        return "withheld"
    return seconds_text(found.median_seconds) + (f" ±{found.spread / 2:.0%}" if found.spread is not None else "")


def _known(seconds: float | None) -> str:
    return "-" if seconds is None else seconds_text(seconds)


def _peak(point: SweptPoint) -> str:
    return "-" if point.peak_bytes is None else f"+{bytes_text(point.peak_bytes)}"


def _reason(point: SweptPoint) -> str:
    """Say why numbers are missing, in one line."""
    reason = point.reason or (point.latency.withheld if point.latency else "")
    notes = [note for note in point.latency.notes if "threads on" in note] if point.latency else []
    return "; ".join([*([short(reason)] if reason else []), *notes])
