"""Write docs/zoo.md from the kept results: what was converted and proven, by which candidate, why the rest failed."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import fingerprint
import reach
from cells import Cell, Store, targets
from expected import FAILURES
from fresh import ENOUGH_DB, ENOUGH_EQUAL
from models import ENTRIES, PAIRS, TITLES, Entry

from convert.formats import FORMATS

#: Folders of the machine that ran it, which are nobody's business.
FOLDERS = re.compile(r"(?<![\w.])/[^\s'\":,;()]*/")

HEAD = """# The zoo

Written by `make zoo`, which builds every model in code, saves it as a user would, converts it from the command line and
checks every proven artifact once more, independently. `make zoo ONLY='mobile*'` runs a slice; results are kept in
`build/zoo/` and taken again while the code of the tool, the frameworks and what builds a model stay the same.

Weights are random, with statistics calibrated so that the outputs vary with the inputs. **R** is the artifact's error
over the source's own rounding, both against float64 (about 1 is right; see [parity.md](parity.md)); where float64
cannot run, the signal to noise in dB stands instead. Latency is the median on one thread of the machine named below,
with its spread; a dash where it was not stable. A failure counts as explained where the tool says what went wrong and
gives advice beyond how to repeat it, without a traceback or a time limit.
"""


def write(path: Path, store: Store) -> None:
    """Write the page from all results that are kept, also those of other code of the tool, which are counted."""
    cells = found_in(store)
    text = "\n".join([HEAD, *summary(cells), *measured(), *by_kind(cells), *failures(cells), *table(cells)])
    path.write_text(text.rstrip() + "\n")


def found_in(store: Store) -> dict[tuple[Entry, str], Cell]:
    """Give every result that is kept, in the order of the models."""
    return {
        (entry, form): cell
        for entry in ENTRIES
        for form in targets(entry)
        if (cell := store.kept(entry, form, stale=True)) is not None
    }


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "none"


def summary(cells: dict[tuple[Entry, str], Cell]) -> list[str]:
    found = list(cells.values())
    pairs = sum(len(targets(entry)) for entry in ENTRIES)
    failed = [cell for cell in found if not cell.proven]
    checks = [cell.checked.get("agreed") for cell in found if cell.proven]
    tools = Counter(cell.tool == fingerprint.of_tool() for cell in found)
    peaks = [cell.parent_bytes for cell in found if cell.parent_bytes]
    ratios = [cell.ratio for cell in found if cell.proven and cell.ratio is not None]
    machine = next((cell.machine for cell in found if cell.machine), {})
    versions = next((cell.versions for cell in found if cell.versions), {})
    networks = len({(entry.builder, entry.arguments) for entry in ENTRIES})
    lines = [
        "## Summary",
        "",
        "| figure | value |",
        "|---|---|",
        f"| models, architectures, kinds of source | {len(ENTRIES)}, {networks}, {len({e.saved for e in ENTRIES})} |",
        f"| pairs of source and target, and how many have run | {pairs}, {len(found)} |",
        f"| proven | {share(len(found) - len(failed), len(found))} |",
        f"| explained, of those not proven | {share(sum(cell.explained for cell in failed), len(failed))} |",
        f"| called right and found wrong by the independent check | {checks.count(False)} of {len(checks)} "
        f"({checks.count(None)} could not be checked) |",
    ]
    if ratios:
        lines.append(f"| R of the proven, median and greatest | {statistics.median(ratios):.2f}, {max(ratios):.2f} |")
    if peaks:
        lines.append(f"| most memory the tool's own process held | {max(peaks) / 2**20:.0f} MiB |")
    if tools[False]:
        lines.append(f"| results made by other code of the tool than this | {tools[False]} |")
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "edgeproof")
    lines += ["", f"Versions: {shown}. Machine: {', '.join(f'{k} {v}' for k, v in machine.items())}.", ""]
    lines += [
        f"The independent check (`tests/zoo/fresh.py`) shares no code with the tool: {ENOUGH_DB:.0f} dB signal to "
        f"noise on fresh inputs against the model as it was built, and {ENOUGH_EQUAL:.0%} of integers equal.",
        "",
    ]
    return lines


def measured() -> list[str]:
    """Give the figures that have commands of their own, where they were measured."""
    figures = {figure: reach.summary(figure) for figure in ("race", "wall")}
    lines = [f"- {text} `python tests/zoo/reach.py {figure}`" for figure, found in figures.items() for text in found]
    return ["## Reach", "", *lines, ""] if lines else []


def by_kind(cells: dict[tuple[Entry, str], Cell]) -> list[str]:
    """Proven of tried, by kind of source and format."""
    forms = [form for form in FORMATS.names() if any(form in goals for goals in PAIRS.values())]
    lines = ["## Proven by kind of source", "", f"| source | {' | '.join(forms)} |", "|---|" + "---|" * len(forms)]
    for kind, title in TITLES.items():
        shown = []
        for form in forms:
            some = [cell for (entry, goal), cell in cells.items() if entry.saved == kind and goal == form]
            shown.append(f"{sum(cell.proven for cell in some)} of {len(some)}" if some else "")
        lines.append(f"| {title} | {' | '.join(shown)} |")
    return [*lines, ""]


def failures(cells: dict[tuple[Entry, str], Cell]) -> list[str]:
    lines = ["## What is not proven", "", "| model | to | reason | explained |", "|---|---|---|---|"]
    failed = [cell for cell in cells.values() if not cell.proven]
    for cell in failed:
        known = FAILURES.get((cell.model, cell.form))
        why = f"{plain(cell.reason)}{f' — {known.reason}' if known else ''}"
        lines.append(f"| {cell.model} | {cell.form} | {why} | {'yes' if cell.explained else 'no'} |")
    return [*lines, ""] if failed else []


def plain(text: str, most: int = 240) -> str:
    """Make the first line of a message fit a table."""
    first = FOLDERS.sub("", next(iter(text.splitlines()), ""))
    return (first[:most] + "..." if len(first) > most else first).replace("|", "\\|")


def table(cells: dict[tuple[Entry, str], Cell]) -> list[str]:
    head = ["## Every cell", "", "| model | source | to | verdict | candidate | R | latency | fixed | rescues |"]
    return [*head, "|---|---|---|---|---|---|---|---|---|", *rows(cells)]


def rows(cells: dict[tuple[Entry, str], Cell]) -> Iterable[str]:
    for (entry, form), cell in cells.items():
        error = f"{cell.ratio:.2f}" if cell.ratio is not None else f"{cell.sqnr_db:.0f} dB" if cell.sqnr_db else "-"
        if not cell.proven:
            error = "-"
        before = sum(1 for tried in cell.tried if "PASS" not in tried)
        candidate = f"{cell.candidate}{f' (after {before})' if before and cell.proven else ''}" if cell.proven else "-"
        yield (
            f"| {entry.name} | {entry.saved} | {form} | {cell.status} | {candidate or '-'} | {error} | {timed(cell)} | "
            f"{', '.join(cell.lost) or '-'} | {plain('; '.join(cell.rescues)) or '-'} |"
        )


def timed(cell: Cell) -> str:
    if cell.latency_seconds is None or not cell.proven:
        return "-"
    micro = cell.latency_seconds * 1e6
    spread = f" ±{cell.latency_spread:.0%}" if cell.latency_spread is not None else ""
    return (f"{micro:.0f} µs" if micro < 10_000 else f"{micro / 1000:.1f} ms") + spread
