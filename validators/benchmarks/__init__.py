"""Benchmark tools that run on a device: one file each, which says how to call it and reads what it prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from convert.errors import UsageError
from convert.registry import Registry
from validators.memory import Memory

__all__ = ["BENCHMARKS", "Ask", "Benchmark", "Told", "benchmark_for"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What one run of a tool is to do: at least so many runs over so many seconds, and an end after the limit."""

    model: str  # its path, from the folder the tool runs in
    threads: int
    runs: int
    seconds: float
    limit_seconds: float
    warm_up_runs: int
    warm_up_seconds: float
    sizes: tuple[tuple[str, int], ...] = ()  # of the model's free dimensions


@dataclass(frozen=True, slots=True)
class Told:
    """What one run of a tool printed, in seconds and bytes; None where it does not say, and `untold` why not.

    `untold` is by the name of a field of `validators.latency.Measurement`.
    """

    load_seconds: float
    first_seconds: float
    runs: int
    mean_seconds: float
    fastest_seconds: float | None = None
    slowest_seconds: float | None = None
    deviation_seconds: float | None = None
    percentiles: dict[int, float] = field(default_factory=dict)  # seconds by hundredths; 50 is the median
    warm_up_runs: int = 0
    memory: Memory | None = None  # that it added
    process_peak_bytes: int | None = None
    untold: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A tool that times artifacts of one format.

    `words` are the arguments it is called with. `read` takes all that it printed and gives what it told, or None where
    that cannot be read. `too_new` are words it says of a model that is newer than itself.
    """

    name: str
    title: str
    format: str
    words: Callable[[Ask], tuple[str, ...]]
    read: Callable[[str], Told | None]
    too_new: tuple[str, ...] = ()
    sizes: bool = False  # whether it can be told the sizes of free dimensions


BENCHMARKS: Registry[Benchmark] = Registry("benchmark tool", "validators.benchmarks")


def benchmark_for(form: str) -> Benchmark:
    """Give the tool that times a format on a device; raises UsageError where none is known."""
    for benchmark in BENCHMARKS:
        if benchmark.format == form:
            return benchmark
    able = ", ".join(sorted(benchmark.format for benchmark in BENCHMARKS))
    raise UsageError(f"no tool is known that times {form} on a device", fix=f"leave out --device; it is for {able}")
