"""What sweeps are asked for and what they gave: an artifact at each size of a free dimension, or number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from convert.errors import UnknownName, UsageError
from convert.spec import BATCH, Signature
from validators.latency import Measurement

THREADS = "threads"  # what is swept beside free dimensions

#: The largest batch that is tried: where so many fit, memory is no reason to stop.
MOST_BATCH = 1 << 16

FORM = "write it as NAME=VALUE,VALUE, for example --sweep batch=1,2,4,8 or --sweep threads=1,2,4"


@dataclass(frozen=True, slots=True)
class Sweep:
    """A free dimension, or threads, and the values it takes."""

    name: str
    values: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}={','.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class SweptPoint:
    """One value: what was measured there, or the `reason` for which nothing was.

    `items` are those of one inference, as its batch has; None where that is not known. `peak_bytes` is the peak memory
    that the artifact added.
    """

    value: int
    items: int | None = None
    latency: Measurement | None = None
    peak_bytes: int | None = None
    reason: str = ""

    def per_item(self, seconds: float | None) -> float | None:
        """Give the share of one item of the time of an inference."""
        return None if seconds is None or not self.items else seconds / self.items


@dataclass(frozen=True, slots=True)
class Swept:
    """One sweep; or, where `limit_bytes` is not 0, the search for the `largest` batch whose peak memory is within it.

    Memory is taken to grow with the batch: what is between two that were tried was not.
    """

    name: str
    points: tuple[SweptPoint, ...]
    reason: str = ""  # why nothing was tried, or no batch fits
    limit_bytes: int = 0
    largest: int | None = None


def sweeps_from(texts: Iterable[str]) -> tuple[Sweep, ...]:
    """Read `batch=1,2,4`; raises UsageError for what cannot be read or is stated twice."""
    found: dict[str, Sweep] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name, parts = name.strip(), [part.strip() for part in values.split(",")]
        if not equals or not name or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
            raise UsageError(f"cannot read --sweep {text!r}", fix=FORM)
        if name in found:
            raise UsageError(f"--sweep states {name!r} twice", fix="state all its values at once")
        found[name] = Sweep(name, tuple(dict.fromkeys(map(int, parts))))
    return tuple(found.values())


def require_free(sweeps: Iterable[Sweep], limit_bytes: int, signature: Signature) -> None:
    """Raise UsageError for a sweep of what the model has not left free."""
    for name in (*(sweep.name for sweep in sweeps), *([BATCH] if limit_bytes else [])):
        if name not in (*signature.free, THREADS):
            error = UnknownName.among("free dimension", name, (*signature.free, THREADS))
            if not signature.free:
                error.fix = f"the model has none; {THREADS} can be swept of every model"
            raise error


def largest(try_one: Callable[[int], SweptPoint], limit_bytes: int) -> tuple[tuple[SweptPoint, ...], int | None]:
    """Find the largest batch within a limit by doubling, then by bisection; give what was tried, in order of size.

    A batch that cannot be measured does not fit.
    """
    tried: dict[int, SweptPoint] = {}

    def fits(batch: int) -> bool:
        tried[batch] = point = try_one(batch)
        return point.peak_bytes is not None and point.peak_bytes <= limit_bytes

    low, high = 0, 1
    while high <= MOST_BATCH and fits(high):
        low, high = high, 2 * high
    while high <= MOST_BATCH and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return tuple(tried[batch] for batch in sorted(tried)), low or None
