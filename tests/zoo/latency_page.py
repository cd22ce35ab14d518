"""Write the measured part of docs/latency.md, between its markers, from the kept results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from latency_results import (
    AGREED,
    CONTESTS,
    FORMATS,
    LAYERS,
    ROUNDS,
    SUBJECTS,
    Agreement,
    Contest,
    agreement,
    contest,
    tool_of,
)
from latency_sides import SIDES

from validators.pairs import CANNOT_TELL, FASTER, SAME, SLOWER

BEGIN, END = "<!-- made by make bench-latency: begin -->", "<!-- made by make bench-latency: end -->"

#: What the other tools are called in the tables.
TITLES = {"litert-benchmark": "`litert-benchmark`", "iobinding": "`run_with_iobinding`"}

VERDICTS = (SLOWER, FASTER, SAME, CANNOT_TELL)

KIB = 1024

#: Inferences that take less are told apart: a call from Python alone takes a hundredth of it.
LONG_SECONDS = 1e-3


def write(path: Path) -> None:
    """Replace what stands between the markers."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} must have each of these once: {BEGIN} {END}")
    timed = [found for model in SUBJECTS for form in FORMATS if (found := agreement(model, form)) is not None]
    fought = [found for extra, times in CONTESTS.items() for seed in range(times) if (found := contest(extra, seed))]
    head, rest = text.split(BEGIN)
    lines = [*agreed(timed), *around(timed), *memory(timed), *compared(fought), *made_by(timed, fought)]
    made = "\n".join([BEGIN, "", *(lines or ["Nothing has been measured.", ""]), END])
    path.write_text(head + made + rest.split(END)[1])


def agreed(found: list[Agreement]) -> Iterator[str]:
    """Put what is reported beside what the other tool measured."""
    if not found:
        return
    yield f"Medians of {ROUNDS} rounds; in brackets the lowest and highest ratio of a round."
    yield ""
    yield "| model | format | held against | reported | the other | ratio, CPU time | ratio, wall time | differs by |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        name = f"| {one.model} | {one.form} | {TITLES[SIDES[one.form][1]]} "
        if one.error or not one.rounds:
            yield f"{name}| {one.error or 'not measured'} | | | | |"
            continue
        other = SIDES[one.form][1]
        ours, theirs = one.median("reported", "cpu"), one.median(other, "cpu")
        ratios = " | ".join(spread(one.ratios("reported", other, clock)) for clock in ("cpu", "wall"))
        yield f"{name}| {seconds(ours)} | {seconds(theirs)} | {ratios} | {seconds(one.difference('reported', other))} |"
    yield ""
    whole = [one for one in found if one.rounds and not one.error]
    long = [one for one in whole if one.median(SIDES[one.form][1], "cpu") >= LONG_SECONDS]
    shares = [f"{sum(map(within, some))} of {len(some)}" for some in (long, whole)]
    yield f"Within {AGREED:.0%} in CPU time: {shares[0]} that take {seconds(LONG_SECONDS)} or more, {shares[1]} in all."
    yield ""


def within(one: Agreement) -> bool:
    """Whether what is reported is as near to the other tool's as it is to be."""
    return abs(one.ratio("reported", SIDES[one.form][1], "cpu") - 1) <= AGREED


def around(found: list[Agreement]) -> Iterator[str]:
    """Say what an app in Python waits for beyond what is reported: inputs, outputs and the call around both."""
    some = [one for one in found if one.rounds and not one.error and all("run" in turn for turn in one.rounds)]
    if not some:
        return
    yield "| model | format | reported | with inputs and outputs, from Python | ratio, CPU time | differs by |"
    yield "|---|---|---|---|---|---|"
    for one in some:
        ours, whole = (seconds(one.median(side, "cpu")) for side in ("reported", "run"))
        ratio, more = spread(one.ratios("run", "reported", "cpu")), seconds(one.difference("run", "reported"))
        yield f"| {one.model} | {one.form} | {ours} | {whole} | {ratio} | {more} |"
    yield ""


def memory(found: list[Agreement]) -> Iterator[str]:
    """Say how far the memory that was added differs from process to process."""
    some = [one for one in found if one.rounds and not one.error]
    if not some:
        return
    yield f"| model | format | added by load | differs by | added by inference | differs by ({ROUNDS} processes) |"
    yield "|---|---|---|---|---|---|"
    for one in some:
        cells = []
        for part in ("load", "run"):
            values = [turn["reported"].memory[part] for turn in one.rounds]
            middle = sorted(values)[len(values) // 2]
            apart = f"{(max(values) - min(values)) / middle:.2%}" if middle else "-"
            cells += [f"{middle / KIB:,.0f} KiB", apart]
        yield f"| {one.model} | {one.form} | {' | '.join(cells)} |"
    yield ""


def compared(found: list[Contest]) -> Iterator[str]:
    """Say what comparisons of known answer said, and how long they took."""
    if not found:
        return
    yield f"| {LAYERS} equal layers against | {' | '.join(VERDICTS)} | ratios | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for extra in CONTESTS:
        some = [one for one in found if one.extra == extra and not one.error]
        if not some:
            continue
        name = f"{extra:.0%} more" if extra else "itself"
        counts = " | ".join(str(sum(one.verdict == word for one in some)) for word in VERDICTS)
        ratios = between(f"{one.ratio:.3f}" for one in some)
        yield f"| {name} | {counts} | {ratios} | {between(f'{one.seconds:3.0f}' for one in some)} |"
    yield ""


def between(words: Iterable[str]) -> str:
    """Give the ends of some numbers that are as long as each other."""
    found = sorted(words)
    return found[0].strip() if found[0] == found[-1] else f"{found[0].strip()} to {found[-1].strip()}"


def made_by(timed: list[Agreement], fought: list[Contest]) -> Iterator[str]:
    """Say with what it was measured, and what of it is of other code."""
    if timed:
        newest = timed[-1]
        shown = ", ".join(f"{name} {version}" for name, version in newest.versions.items() if name in ENGINES)
        yield f"Versions: {shown}. Machine: {', '.join(f'{name} {value}' for name, value in newest.machine.items())}."
        yield ""
    stale = sum(one.tool != tool_of() for one in (*timed, *fought))
    if stale:
        yield f"Results made by other code of the tool than this: {stale} of {len(timed) + len(fought)}."
        yield ""


#: Of all versions, those that run here.
ENGINES = ("python", "ai-edge-litert", "onnxruntime", "numpy")


def spread(ratios: list[float]) -> str:
    return f"{ratios[len(ratios) // 2]:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"


def seconds(value: float) -> str:
    return f"{value * 1e6:.1f} µs" if abs(value) < 1e-3 else f"{value * 1e3:.3f} ms"


def told(result: Agreement) -> str:
    """Say in one line what was found of a file."""
    if result.error:
        return f"{result.model:28} {result.form:7} {result.error}"
    other = SIDES[result.form][1]
    cpu, wall = (result.ratio("reported", other, clock) for clock in ("cpu", "wall"))
    ours = seconds(result.median("reported", "cpu"))
    return f"{result.model:28} {result.form:7} {ours}, {cpu:.3f} of {other} in CPU time, {wall:.3f} in wall time"


def said(result: Contest) -> str:
    """Say in one line what a comparison said."""
    ends = f"{result.ratio:.3f} ({result.low:.3f} to {result.high:.3f}), detectable {result.detectable:.3f}"
    name = f"{result.extra:.0%} more, seed {result.seed}"
    return f"{name}: {result.error or result.verdict} {ends}, {result.seconds:.0f} s"
