"""A verdict as text for people, and as JSON."""

from __future__ import annotations

import msgspec

from validators.verdict import OutputParity, Status, Verdict


def as_text(title: str, verdict: Verdict) -> str:
    """Give the status and its reason, every output's figures, and what else was found."""
    lines = [f"{title}: {verdict.status.value}, {verdict.reason}"]
    lines += [f"  {output.name}: {_figures(output)}" for output in verdict.outputs]
    lines += [f"  {found.check}: {found.message}" for found in verdict.findings if found.message != verdict.reason]
    return "\n".join(lines) + "\n"


def _figures(output: OutputParity) -> str:
    words = [output.status.value, output.reason]
    if output.max_abs:
        words.append(f"largest error {output.max_abs:.2g}")
    if output.sqnr_db is not None:
        words.append(f"{output.sqnr_db:.0f} dB")
    if output.worst is not None and output.status is not Status.PASS:
        worst = output.worst
        words.append(
            f"worst on case {worst.case} at {list(worst.index)}: {worst.actual:g}, expected {worst.expected:g}"
        )
    return ", ".join(words)


def as_json(verdict: Verdict) -> str:
    """Give the whole verdict, indented."""
    return msgspec.json.format(msgspec.json.encode(verdict)).decode() + "\n"


def exit_code(verdict: Verdict) -> int:
    """0 when it passed, 1 otherwise."""
    return 0 if verdict.status is Status.PASS else 1
