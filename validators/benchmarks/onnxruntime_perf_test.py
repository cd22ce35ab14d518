"""ONNX Runtime's `onnxruntime_perf_test`, built for the device; it prints seconds, and percentiles of all runs."""

from __future__ import annotations

import math
import re

from validators.benchmarks import BENCHMARKS, Ask, Benchmark, Told

_NUMBER = r"([\d.e+-]+)"
_LOAD = re.compile(rf"Session creation time cost: *{_NUMBER} s")
_FIRST = re.compile(rf"First inference time cost: *{_NUMBER} ms")
_RUNS = re.compile(r"Total inference requests: *(\d+)")
_MEAN = re.compile(rf"Average inference time cost(?: total)?: *{_NUMBER} ms")  # "total" since 1.24
_PEAK = re.compile(r"Peak working set size: *(\d+) bytes")
_ENDS = re.compile(rf"(Min|Max) Latency: *{_NUMBER} s")
_PERCENTILE = re.compile(rf"\bP(50|90|95|99) Latency: *{_NUMBER} s")

NO_CPU = "onnxruntime_perf_test prints a share of all cores and no CPU time"
NO_RUNS = "onnxruntime_perf_test prints no quartiles"
NO_DEVIATION = "onnxruntime_perf_test prints no standard deviation"
NO_ADDED = "onnxruntime_perf_test prints the peak of its whole process, not what the model added"


def words(ask: Ask) -> tuple[str, ...]:
    """Give its arguments: inputs of its own making, one stream, a fixed time, since it stops by runs or by time."""
    return (
        *("-e", "cpu", "-I", "-s"),
        *("-x", str(ask.threads), "-y", "1"),
        *("-m", "duration", "-t", str(math.ceil(max(ask.seconds, min(ask.limit_seconds, 60.0))))),
        *(word for name, size in ask.sizes for word in ("-f", f"{name}:{size}")),
        ask.model,
    )


def read(text: str) -> Told | None:
    """Read what it printed; None where its summary is not there."""
    load, first, runs, mean = (pattern.search(text) for pattern in (_LOAD, _FIRST, _RUNS, _MEAN))
    if not load or not first or not runs or not mean or not int(runs[1]):
        return None
    ends = {name: float(value) for name, value in _ENDS.findall(text)}
    percentiles = {int(share): float(value) for share, value in _PERCENTILE.findall(text)}
    peak = _PEAK.search(text)
    untold = {"cpu_median_seconds": NO_CPU, "cpu_spread": NO_CPU, "spread": NO_RUNS, "deviation_seconds": NO_DEVIATION}
    untold |= dict.fromkeys(("memory", "peak_added_bytes"), NO_ADDED)
    missing = "this version of onnxruntime_perf_test did not print it"
    named = {50: "median_seconds", 90: "p90_seconds", 95: "p95_seconds", 99: "p99_seconds"}
    untold |= {name: missing for share, name in named.items() if share not in percentiles}
    untold |= {} if "Min" in ends else dict.fromkeys(("fastest_seconds", "slowest_seconds"), missing)
    untold |= {} if peak else {"process_peak_bytes": missing}
    return Told(
        load_seconds=float(load[1]),
        first_seconds=float(first[1]) * 1e-3,
        runs=int(runs[1]),
        mean_seconds=float(mean[1]) * 1e-3,
        fastest_seconds=ends.get("Min"),
        slowest_seconds=ends.get("Max"),
        percentiles=percentiles,
        warm_up_runs=1,
        process_peak_bytes=int(peak[1]) if peak else None,
        untold=untold,
        notes=("the first inference is printed in whole milliseconds",),
    )


BENCHMARKS.register(
    Benchmark(
        "onnxruntime_perf_test",
        "ONNX Runtime's onnxruntime_perf_test",
        "onnx",
        words,
        read,
        too_new=("Unsupported model IR version", "is under development", "is not a registered function/op"),
        sizes=True,
    )
)
