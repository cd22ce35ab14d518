"""Write the measured part of docs/precision.md, between its markers, from the kept results."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from by_defaults import OF_FORMAT
from page import plain
from precision_results import FORMATS, PRECISION, SEARCH_SECONDS, SUBJECTS, File, Result, read, tool_of

from validators.tolerance import MIN_SQNR_DB

BEGIN, END = "<!-- made by make bench-precision: begin -->", "<!-- made by make bench-precision: end -->"

#: What a file may weigh of its float file's size, where every layer is quantized.
SMALL = 0.30


def write(path: Path) -> None:
    """Replace what stands between the markers."""
    found = [result for name in SUBJECTS for form in FORMATS if (result := read(name, form)) is not None]
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} must have each of these once: {BEGIN} {END}")
    head, rest = text.split(BEGIN)
    made = "\n".join([BEGIN, "", *summary(found), *(line for form in FORMATS for line in table(found, form)), END])
    path.write_text(head + made + rest.split(END)[1])


def summary(found: list[Result]) -> list[str]:
    if not found:
        return ["Nothing has been measured.", ""]
    whole = [result for result in found if result.whole and result.ours.bytes]
    small = [result for result in whole if share(result) <= SMALL]
    compared = [result for result in found if result.best_by_hand is not None and result.ours.sqnr_db is not None]
    unbeaten = [result for result in compared if not result.beaten]
    timed = [result for result in found if result.ours.latency_share is not None]
    slower = [result for result in timed if (result.ours.latency_share or 0) > 1]
    rescued = [result for result in found if result.status == "PASS" and result.tries]
    hand = [made for result in found for made in result.by_hand.values()]
    below = [made for made in hand if made.sqnr_db is not None and made.sqnr_db < MIN_SQNR_DB[PRECISION]]
    lines = [
        "| figure | value |",
        "|---|---|",
        f"| models, and pairs of model and format | {len({result.model for result in found})}, {len(found)} |",
        f"| {PRECISION} passes the gate | {of([r for r in found if r.status == 'PASS'], found)} |",
        f"| of those, rescued by the search | {len(rescued)}, {sum(bool(r.kept) for r in rescued)} with layers kept |",
        f"| at most {SMALL:.0%} of the float size, where every layer is quantized | {of(small, whole)} |",
        f"| no worse in SQNR than the best of the others' defaults | {of(unbeaten, compared)} |",
        f"| files by others' defaults below {MIN_SQNR_DB[PRECISION]:g} dB; that cannot be made or run | "
        f"{len(below)} of {len(hand)}; {sum(bool(made.error) for made in hand)} |",
        f"| ours slower than the float file on this machine | {of(slower, timed)} |",
    ]
    stale = sum(result.tool != tool_of() for result in found)
    if stale:
        lines.append(f"| results made by other code of the tool than this | {stale} |")
    newest = found[-1]
    versions = ", ".join(f"{name} {version}" for name, version in newest.versions.items() if name != "edgeproof")
    machine = ", ".join(f"{name} {value}" for name, value in newest.machine.items())
    return [*lines, "", f"Versions: {versions}. Machine: {machine}. Searches had {SEARCH_SECONDS} s.", ""]


def of(part: list[Result], whole: list[Result]) -> str:
    missing = [f"{r.model} ({r.form})" for r in whole if r not in part] if len(part) * 2 > len(whole) else []
    return f"{len(part)} of {len(whole)}" + (f"; not: {', '.join(missing)}" if missing else "")


def share(result: Result) -> float:
    return result.ours.bytes / result.float_bytes


def table(found: list[Result], form: str) -> list[str]:
    """Give the table of one format."""
    some = [result for result in found if result.form == form]
    tools = OF_FORMAT[form]
    head = ["model", "family", "float file", *tools, "edgeproof", "same answer", "R", "ranges", "kept", "gate", "s"]
    lines = [f"### {form}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row(result, tools))} |" for result in some]
    lines.append("")
    for result in some:
        if result.status != "PASS":
            lines.append(f"- {result.model}: {plain(result.reason)}")
        lines += [f"- {result.model}, {tool}: {plain(m.error)}" for tool, m in result.by_hand.items() if m.error]
    return [*lines, ""] if lines[-1] else lines


def row(result: Result, tools: tuple[str, ...]) -> list[str]:
    ranges = result.ranges + (", equalised" if result.equalised else "")
    agreement = result.ours.agreement
    return [
        result.model,
        SUBJECTS[result.model],
        size(result.float_bytes) if result.float_bytes else "-",
        *(cell(result, result.by_hand.get(tool)) for tool in tools),
        f"**{cell(result, result.ours)}**" if result.ours.sqnr_db is not None else "-",
        "-" if agreement is None else f"{agreement:.0%}",
        "-" if result.ratio is None else f"{result.ratio:.2f}",
        ranges or "-",
        kept(result),
        result.status + (", beaten" if result.beaten else ""),
        f"{result.seconds:.0f}",
    ]


def cell(result: Result, made: File | None) -> str:
    """Give SQNR, share of the float size, and share of the float latency."""
    if made is None:
        return ""
    if made.sqnr_db is None:
        return "fails" if made.error else "-"
    latency = "" if made.latency_share is None else f", {made.latency_share:.2f}x"
    return f"{made.sqnr_db:.1f} dB, {made.bytes / result.float_bytes:.0%}{latency}"


def kept(result: Result) -> str:
    if not result.kept:
        return "none" if result.ranges else "-"
    counts = Counter(precision for _, precision in result.kept)
    names = ", ".join(f"`{shortened(name)}`" for name, _ in result.kept[:2])
    more = ", ..." if len(result.kept) > 2 else ""
    return f"{', '.join(f'{count} in {precision}' for precision, count in counts.items())}: {names}{more}"


def shortened(name: str, most: int = 40) -> str:
    last = re.sub(r"[|`]", "", name.rstrip("/;").split(";")[0].split("/")[-1] or name)
    return last if len(last) <= most else f"...{last[-most:]}"


def size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"
