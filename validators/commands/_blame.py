"""What blaming found as text for people, and as JSON."""

from __future__ import annotations

import msgspec

from validators.blame import Entry, Guilt, Report

SHOWN = 14  # places of the error curve, around the guilty one
BAR = 24  # characters of the longest bar, which stands for an error of 1; each decade less takes 3


def as_json(report: Report) -> str:
    """Give everything, indented."""
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def as_text(report: Report) -> str:
    """Name the guilty layer, what speaks against it, and the error along the graph."""
    lines = [f"{report.artifact}: {report.status.value}, {report.reason}"]
    if report.guilty is None:
        lines.append("nothing is to blame" if report.exit_code == 0 else "no layer was blamed")
    else:
        lines += _guilty(report.guilty)
    if report.curve:
        lines += ["", f"error along the graph, over the rms of {report.basis}, on {', '.join(report.cases)}:"]
        lines += _curve(report.curve, report.guilty)
        lines += [f"  ({how})" for how in report.taps]
    if report.reproduction is not None:
        cut = report.reproduction
        lines += [
            "",
            f"{cut.artifact} holds {', '.join(cut.operators)} alone; on {cut.inputs} it errs {cut.error:.2g} "
            f"against {cut.expected}",
        ]
    elif report.reproduction_reason:
        lines += ["", f"the operator could not be cut out: {report.reproduction_reason}"]
    return "\n".join(lines) + "\n"


def _guilty(guilty: Guilt) -> list[str]:
    where = f", {guilty.line}" if guilty.line else ""
    alone = "" if guilty.error_alone is None else f", {guilty.error_alone:.2g} by itself"
    layer = guilty.layer or "a layer without a name"
    lines = [
        f"error enters at {layer} ({guilty.reference}{where})",
        f"  in the artifact: {guilty.operator} {guilty.tensor}",
        f"  error {guilty.error_before:.2g} before, {guilty.error_after:.2g} after{alone}: {guilty.ratio:.3g} times "
        f"what is usual there (bound {guilty.bound:.3g})",
    ]
    if len(guilty.layers) > 1:
        lines.append(f"  of the source, it covers: {', '.join(guilty.layers)}")
    if guilty.or_before:
        lines.append(f"  or, unseen, before it: {', '.join(guilty.or_before)}")
    return lines


def _curve(curve: tuple[Entry, ...], guilty: Guilt | None) -> list[str]:
    place = next((at for at, entry in enumerate(curve) if guilty and entry.tensor == guilty.tensor), len(curve) - 1)
    start = max(0, min(place - SHOWN // 2, len(curve) - SHOWN))
    shown = curve[start : start + SHOWN]
    wide = max(len(entry.layer or entry.reference) for entry in shown)
    lines = [f"  ... {start} before"] if start else []
    for at, entry in enumerate(shown, start):
        mark = ">" if guilty and at == place else " "
        lines.append(
            f"{mark} {entry.layer or entry.reference:<{wide}}  {entry.error:8.1e}  {_bar(entry.error)}".rstrip()
        )
    rest = len(curve) - start - len(shown)
    return [*lines, f"  ... {rest} after"] if rest else lines


def _bar(error: float) -> str:
    import math

    return "#" * max(0, min(BAR, BAR + round(3 * math.log10(error)))) if error else ""
