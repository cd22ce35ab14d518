"""The report as a table for people."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from convert.recipe import Calibration, Recipe
from validators.budget import words_of as budget_words
from validators.costs import NOT_ASKED, Costs
from validators.latency import Measurement
from validators.profiles import Profile
from validators.quantity import seconds_text as _seconds
from validators.report import Attempt, Point, Report, Stage, TargetReport
from validators.reports import RENDERINGS, Rendering
from validators.reports._sweeps import tables as sweep_tables
from validators.self_test import words_of
from validators.verdict import Finding, PathParity, Status

COLUMNS = (
    *("target", "verdict", "route"),
    *("R", "max error", "SQNR dB"),
    *("latency", "p90", "load", "first", "memory", "size"),
)
STYLES = {Status.PASS: "green", Status.FAIL: "bold red", Status.NOT_RUN: "yellow"}
TOLD = ("state", "rows", "propagation")  # checks that may pass and still have something to say, of one tensor then
LAYERS_SHOWN = 6  # of those a recipe keeps; the report has all
OPERATORS_SHOWN = 10  # of a profile, those that take most of the time; the report has all

#: Costs whose absence is told; that an engine has no delegate, or that nobody asked for instructions, is no news.
COUNTED = ("weight_bytes", "activation_bytes", "macs", "instructions")

WIDEST = 240  # columns: the table takes what it needs, and a narrow terminal wraps it rather than losing numbers


def render(report: Report) -> str:
    """Draw the verdict table and, below it, what did not go as hoped."""
    console = Console(
        file=io.StringIO(),
        width=WIDEST,
        force_terminal=_colours(),
        highlight=False,
        emoji=False,
    )
    console.print(_heading(report))
    console.print(_table(report))
    for target in report.targets:
        for line in _remarks(target):
            console.print(line, soft_wrap=True)
        for part in sweep_tables(target):
            console.print(part)
        if target.profile is not None and target.profile.operators:
            console.print(f"{target.label}: profile: {escape(_profiled_how(target.profile))}", soft_wrap=True)
            console.print(_profiled(target.profile))
    if report.calibration is not None:
        console.print(_calibrated(report.calibration), soft_wrap=True)
    for note in (*report.model.notes, *report.reference.notes):
        console.print(f"note: {escape(note)}", soft_wrap=True)
    if report.policy:
        console.print(f"policy: {escape(report.policy)}", soft_wrap=True)
    if report.path:
        console.print(f"report: {escape(report.path)}", soft_wrap=True)
    file = console.file
    return file.getvalue() if isinstance(file, io.StringIO) else ""


def _colours() -> bool:
    return os.isatty(1) and "NO_COLOR" not in os.environ


def _heading(report: Report) -> str:
    model = report.model
    return (
        f"[bold]{escape(report.source.path)}[/bold]: {escape(report.source.detail)}, {model.parameters:,} parameters\n"
        f"{escape(str(model.signature))}\n"
        f"{report.reference.cases} cases, reference {report.reference.runtime}, oracle "
        f"{escape(report.reference.oracle)}"
    )


def _calibrated(calibration: Calibration) -> str:
    """Say what the ranges come from."""
    ranges = ", ".join(f"{item.name} {item.low:.4g} to {item.high:.4g}" for item in calibration.ranges)
    said = f"calibrated on {calibration.count} samples of {calibration.origin}: {ranges}"
    if not calibration.release:
        said += "; generated data, NOT FOR RELEASE"
    return "\n".join(escape(line) for line in (said, *(f"calibration: {note}" for note in calibration.notes)))


def _table(report: Report) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("target", "verdict", "route") else "right", no_wrap=True)
    for target in report.targets:
        style = STYLES[target.status]
        attempt = target.attempts[target.kept] if target.kept is not None else None
        table.add_row(
            f"{target.target} {target.precision}",
            f"[{style}]{target.status.value}[/{style}]",
            escape(attempt.plan) if attempt else "-",
            *_numbers(attempt),
            *_times(target.latency[0] if target.latency else None),
            _bytes(target.artifact.file_bytes) if target.artifact else "-",
        )
        for measurement in target.latency[1:]:
            table.add_row(f"  {measurement.threads} threads", "", "", "", "", "", *_times(measurement), "")
    return table


def _numbers(attempt: Attempt | None) -> list[str]:
    """Give the worst output's ratio, scaled error and SQNR; of a reduced precision the SQNR on real inputs."""
    outputs = attempt.parity.outputs if attempt is not None and attempt.parity is not None else ()
    if not outputs:
        return ["-", "-", "-"]
    worst = max(outputs, key=lambda output: (output.status is Status.FAIL, output.ratio or 0.0, output.scaled_max))
    ratio = "-" if worst.ratio is None else f"{worst.ratio:.3g}"
    if attempt is not None and attempt.quality is not None:
        return [ratio, "-", "-" if attempt.quality.sqnr_db is None else f"{attempt.quality.sqnr_db:.0f}"]
    if worst.sqnr_db is not None:
        return [ratio, f"{worst.scaled_max:.1e}", f"{worst.sqnr_db:.0f}"]
    return [ratio, f"{worst.scaled_max:.1e}" if worst.max_abs else "0", "-" if worst.max_abs else "exact"]


def _times(measurement: Measurement | None) -> list[str]:
    if measurement is None:
        return ["-"] * 5
    return [
        _typical(measurement),
        "-" if measurement.p90_seconds is None else _seconds(measurement.p90_seconds),
        "-" if measurement.load_seconds is None else _seconds(measurement.load_seconds),
        "-" if measurement.first_seconds is None else _seconds(measurement.first_seconds),
        "-" if measurement.peak_added_bytes is None else f"+{_bytes(measurement.peak_added_bytes)}",
    ]


def _typical(measurement: Measurement) -> str:
    """Give the median, or the mean where a device's tool tells no median."""
    if measurement.median_seconds is not None:
        return _steady(measurement.median_seconds, measurement.spread)
    if measurement.mean_seconds is not None:
        return f"mean {_seconds(measurement.mean_seconds)}"
    return "withheld" if measurement.withheld else "-"


def _steady(median: float, spread: float | None) -> str:
    """Give the median with half the interquartile range on either side of it."""
    return _seconds(median) + (f" ±{spread / 2:.0%}" if spread is not None else "")


def _remarks(target: TargetReport) -> list[str]:
    """Say in words what the table cannot: reasons, failed candidates, changes of the contract."""
    lines = []
    name = target.label
    style = STYLES[target.status]
    if target.status is not Status.PASS:
        lines.append(f"[{style}]{name} {target.status.value}[/{style}]: {escape(_first_line(target.reason))}")
    for index, attempt in enumerate(target.attempts):
        if attempt.latency is not None or attempt.unraced:
            lines.append(f"{name}: {escape(_raced(attempt, kept=index == target.kept))}")
        if index == target.kept:
            if target.status is Status.PASS and attempt.structure and "as promised" not in attempt.structure.reason:
                lines.append(f"{name}: {escape(attempt.structure.reason)}")
            if target.status is Status.PASS and attempt.quality is not None:
                lines += [f"{name}: {escape(said)}" for said in (attempt.quality.reason, *attempt.quality.notes)]
                notes = attempt.parity.findings if attempt.parity else ()
                lines += [f"{name}: {escape(finding.message)}" for finding in notes if finding.check == "ideal"]
            lines += [f"{name}: {escape(said)}" for said in _paths(attempt.parity.paths if attempt.parity else ())]
            if target.status is Status.PASS and attempt.parity is not None:
                lines += [f"{name}: {escape(said)}" for said in _told(attempt.parity.findings)]
            if target.status is Status.PASS and attempt.recipe is not None and attempt.artifact is not None:
                lines += [f"{name}: {escape(note)}" for note in attempt.artifact.notes]
                lines += _kept(name, attempt.recipe, {item.layer: item.operator for item in target.given_up})
            if target.status is not Status.PASS and attempt.fix:
                lines.append(f"  fix: {escape(attempt.fix)}")
            continue
        if attempt.status is Status.PASS:
            continue
        reached = "could not convert" if attempt.reached is Stage.CONVERT else f"failed at {attempt.reached.value}"
        fix = f"\n  fix: {attempt.fix}" if attempt.fix else ""
        lines.append(f"{name}: candidate {attempt.plan} {reached}: {escape(_first_line(attempt.reason) + fix)}")
    lines += [
        f"{name}: latency at {measured.threads} thread(s) withheld: {escape(measured.withheld)}"
        for measured in target.latency
        if measured.withheld
    ]
    lines += [
        f"{name}: {escape(_how(measured) if measured.device is None else _how_on_device(measured))}"
        for measured in target.latency
    ]
    lines += [f"{name}: {escape(said)}" for said in _costs(target.costs)]
    lines += [f"{name}: {escape(said)}" for said in _advice(target.profile)]
    if target.latency_reason:
        lines.append(f"{name}: no latency: {escape(target.latency_reason)}")
    lines += [f"{name}: {escape(remark)}" for remark in target.remarks]
    lines += _front(name, target.points)
    if target.artifact is not None:
        lines += [f"{name}: rescue: {escape(rescue)}" for rescue in target.artifact.rescues]
        needs = target.attempts[target.kept].requires if target.kept is not None else ()
        lines.append(f"{name}: {escape(', '.join((target.artifact.path, *needs)))}")
    if target.self_test is not None:
        lines += [f"{name}: self-test: {escape(said)}" for said in words_of(target.self_test)]
    if target.regression is not None and target.regression.status is Status.PASS:
        lines.append(f"{name}: against the baseline: {escape(target.regression.reason)}")
    lines += [f"{name}: {escape(said)}" for said in budget_words(target.budgets, target.reason)]
    if target.golden:
        lines.append(f"{name}: golden vectors: {escape(target.golden)}")
    if target.recipe_path:
        lines.append(f"{name}: repeat it without a search with --recipe {escape(target.recipe_path)}")
    return lines


def _paths(paths: tuple[PathParity, ...]) -> list[str]:
    """Say how an artifact did on other kernels than those that proved it."""
    passed = [path for path in paths if path.status is Status.PASS]
    shown = ", ".join(f"{path.title} ({_worst(path)}{path.cases} cases)" for path in passed)
    lines = [f"right on {shown}"] if passed else []
    return lines + [
        f"on {path.title} {path.status.value}: {_first_line(path.reason)}"
        for path in paths
        if path.status is not Status.PASS
    ]


def _worst(path: PathParity) -> str:
    """Give the greatest R of a path's outputs, where there is one."""
    ratios = [output.ratio for output in path.outputs if output.ratio is not None]
    return f"R {max(ratios):.3g}, " if ratios else ""


def _told(findings: Iterable[Finding]) -> Iterator[str]:
    """Say what passing checks found of single tensors, of each check the first."""
    found = [finding for finding in findings if finding.check in TOLD and finding.tensor]
    for check in TOLD:
        messages = [finding.message for finding in found if finding.check == check]
        if messages:
            more = f" (and {len(messages) - 1} more, see the report)" if len(messages) > 1 else ""
            yield f"{messages[0]}{more}"


def _kept(name: str, recipe: Recipe, operators: Mapping[str, str]) -> list[str]:
    """Name the layers that are not quantized as the rest; what they are is told where a search looked at them."""
    by_precision: dict[str, list[str]] = {}
    for kept in recipe.kept:
        by_precision.setdefault(kept.precision, []).append(_called(kept.layer, operators.get(kept.layer, "")))
    return [
        f"{name}: kept in {precision}: {escape(', '.join(layers[:LAYERS_SHOWN]))}"
        + (f" and {len(layers) - LAYERS_SHOWN} more" if len(layers) > LAYERS_SHOWN else "")
        for precision, layers in by_precision.items()
    ]


def _called(layer: str, operator: str) -> str:
    """Name a layer, with its operator where the name does not tell it, as `arith.constant12;...` does not."""
    kind = operator.partition(" ")[0]
    told = all(word in layer.lower() for word in re.findall("[a-z]{2,}", kind.lower()))
    return layer if told else f"{layer} ({kind})"


def _front(name: str, points: tuple[Point, ...]) -> list[str]:
    """List what a search found that nothing else beats, the smallest first."""
    lines = []
    for point in sorted((point for point in points if point.front), key=lambda point: point.file_bytes):
        quality = "-" if point.sqnr_db is None else f"{point.sqnr_db:.1f} dB"
        agreed = "" if point.agreement is None else f", {point.agreement:.1%} agree"
        latency = "" if point.latency_seconds is None else f", {_seconds(point.latency_seconds)}"
        verdict = "kept" if point.kept else "passes" if point.passed else "does not pass"
        words = f"{_bytes(point.file_bytes)}{latency}, {quality}{agreed}: {point.recipe.describe()} ({verdict})"
        lines.append(f"{name}: searched: {escape(words)}")
    return lines


def _how(measured: Measurement) -> str:
    """Say how a latency was measured, and its CPU time, in one line."""
    cpu = "CPU time withheld" if measured.cpu_median_seconds is None else f"CPU {_seconds(measured.cpu_median_seconds)}"
    far = f", {measured.outliers:,} far out and counted" if measured.outliers else ""
    tail = "" if measured.p99_seconds is None else f", p99 {_seconds(measured.p99_seconds)}"
    processes = f" in {measured.processes} processes" if measured.processes > 1 else ""
    cores = f", on core {', '.join(map(str, measured.pinned))}" if measured.pinned else ", not pinned"
    return "; ".join(
        (
            f"timed at {measured.threads} thread(s), protocol {measured.protocol}: {cpu}{tail}, "
            f"{measured.runs:,} runs{processes}{far}, load and first of {len(measured.openings)} process(es){cores}",
            *measured.notes,
        )
    )


def _how_on_device(measured: Measurement) -> str:
    """Say where and how a latency was measured on a device, and what its tool does not tell."""
    tail = "".join(
        f", {name} {_seconds(value)}"
        for name, value in (("mean", measured.mean_seconds), ("p95", measured.p95_seconds))
        if value is not None
    )
    cores = f"on core {', '.join(map(str, measured.pinned))}" if measured.pinned else "not pinned"
    untold: dict[str, list[str]] = {}
    for field, reason in measured.untold.items():
        if reason != measured.withheld:
            untold.setdefault(reason, []).append(field)
    return "; ".join(
        (
            f"timed on a device ({measured.where.value}): {measured.device}, at {measured.threads} thread(s), protocol "
            f"{measured.protocol}{tail}, {measured.runs:,} runs in {measured.processes} process(es), {cores}",
            *measured.notes,
            *(f"no {', '.join(fields)}: {reason}" for reason, fields in untold.items()),
        )
    )


def _costs(costs: Costs | None) -> list[str]:
    """Say what an artifact costs on any machine, and what of it could not be counted."""
    if costs is None:
        return []
    told = [f"{_bytes(costs.file_bytes)} file"]
    told += [] if costs.weight_bytes is None else [f"{_bytes(costs.weight_bytes)} weights"]
    told += [] if costs.activation_bytes is None else [f"{_bytes(costs.activation_bytes)} activations"]
    told += [] if costs.macs is None else [f"{costs.macs:,} multiply-accumulates"]
    if costs.delegated_share is not None and costs.partitions is not None:
        told.append(f"XNNPACK takes {costs.delegated_share:.0%} of the operators in {costs.partitions} part(s)")
    if costs.instructions is not None:
        told.append(f"{costs.instructions:,} instructions ({costs.instruction_set})")
    at = ", ".join(f"{name} {size}" for name, size in costs.sizes)
    lines = [f"costs{f' at {at}' if at else ''}: {', '.join(told)}"]
    missing: dict[str, list[str]] = {}
    for field in COUNTED:
        if field in costs.reasons and costs.reasons[field] != NOT_ASKED:
            missing.setdefault(costs.reasons[field], []).append(field.replace("_", " "))
    return lines + [f"not counted: {', '.join(fields)}: {_first_line(why)}" for why, fields in missing.items()]


def _profiled_how(profile: Profile) -> str:
    """Say how a profile was taken."""
    return (
        f"{profile.engine}, where: {profile.where}, {profile.threads} thread(s), {profile.runs} runs, "
        f"{len(profile.operators)} operators, {_seconds(profile.seconds)} in all"
    )


def _profiled(profile: Profile) -> Table:
    """Draw the operators that take most of the time."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("operator", "share", "time", "layer"):
        table.add_column(column, justify="right" if column in ("share", "time") else "left")
    for operator in profile.top(OPERATORS_SHOWN):
        kind = f"{operator.kind} (not delegated)" if operator.delegated is False else operator.kind
        layer = escape(operator.layer) if operator.layer else "-"
        table.add_row(escape(kind), f"{operator.share:.0%}", _seconds(operator.seconds), layer)
    rest = len(profile.operators) - OPERATORS_SHOWN
    if rest > 0:
        share = 1 - sum(operator.share for operator in profile.top(OPERATORS_SHOWN))
        table.add_row(f"{rest} more", f"{share:.0%}", "", "")
    return table


def _advice(profile: Profile | None) -> list[str]:
    """Say what a profile shows to be slow and what would help, or why there is no profile."""
    if profile is None:
        return []
    if profile.reason:
        return [f"no profile: {_first_line(profile.reason)}"]
    return [f"profile: {said}" for said in (*(hint.words for hint in profile.hints), *profile.notes)]


def _raced(attempt: Attempt, *, kept: bool) -> str:
    """Say what a race measured of one candidate."""
    size = f", {_bytes(attempt.artifact.file_bytes)}" if attempt.artifact else ""
    if attempt.latency is None or attempt.latency.median_seconds is None:
        reason = attempt.unraced or (attempt.latency.withheld if attempt.latency else "")
        return f"race: {attempt.plan} not timed: {_first_line(reason)}"
    steady = _steady(attempt.latency.median_seconds, attempt.latency.spread)
    fixed = "".join(f", {name} fixed to {count}" for name, count in attempt.fixed)
    return f"race: {attempt.plan} {steady}{size}{fixed}{' (kept)' if kept else ''}"


def _first_line(text: str) -> str:
    """Give the first line, marked where there is more of it in the report."""
    first, _, rest = text.partition("\n")
    return f"{first} ..." if rest else first


def _bytes(count: int) -> str:
    if count < 1 << 20:
        return f"{count / (1 << 10):.1f} KiB"
    return f"{count / (1 << 20):.1f} MiB"


RENDERINGS.register(Rendering("terminal", "table", render))
