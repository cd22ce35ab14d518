"""Sizes and times as people write them."""

from __future__ import annotations

import math
import re

from convert.errors import UsageError

#: Bytes in each unit; those with an i count by 1024. Capitals make no difference.
UNITS: dict[str, int] = {
    "B": 1,
    **{f"{prefix}B": int(1000**power) for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}iB": int(1024**power) for power, prefix in enumerate("KMGT", 1)},
}

PATTERN = r"^\s*(\d+(?:\.\d+)?)\s*([KkMmGgTt]?[Ii]?[Bb])\s*$"
FORM = 'write a size with its unit, as "12 MiB" or "300 KB"'


def bytes_from(text: str, name: str) -> int:
    """Read `12 MiB`; raises UsageError, naming what it is of, for what is no size."""
    match = re.match(PATTERN, text)
    factor = {unit.lower(): count for unit, count in UNITS.items()}.get(match[2].lower()) if match else None
    if match is None or factor is None or not math.isfinite(float(match[1])):
        raise UsageError(f"{name} {text!r} is no size", fix=FORM)
    return round(float(match[1]) * factor)


def bytes_text(count: float) -> str:
    """Write a size for people."""
    return next(
        f"{count / UNITS[unit]:.4g} {unit}"
        for unit in ("GiB", "MiB", "KiB", "B")
        if count >= UNITS[unit] or unit == "B"
    )


def short(text: str, most: int = 110) -> str:
    """Give the beginning of the first line of a text, marked where there is more of it."""
    first, _, rest = text.partition("\n")
    return first if len(first) <= most and not rest else f"{first[: most - 4].rstrip()} ..."


def seconds_text(seconds: float) -> str:
    """Write a time for people."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"
