"""LiteRT's `benchmark_model`, of TensorFlow Lite's days and of now: both print the same statistics in microseconds."""

from __future__ import annotations

import re

from validators.benchmarks import BENCHMARKS, Ask, Benchmark, Told
from validators.memory import Marks, Memory

MICRO = 1e-6
MIB = 1 << 20

#: `count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533`,
#: once for the warm-up and once for what counts; without the last three before 2024. Where all runs took the same:
#: `count=2 curr=15(all same)`.
_STATISTICS = re.compile(r"\bcount=(\d+)((?: \w+=[-+.\w]+(?:\(all same\))?)*)")
_INIT = (
    re.compile(r"Inference timings in us: Init: (?P<us>[\d.e+]+)"),
    re.compile(r"Initialized session in (?P<ms>[\d.e+]+) ?ms"),
    re.compile(r"Model initialization: +(?P<ms>[\d.e+]+) ms"),
)
_NUMBER = r"(-?[\d.e+]+)"
_ADDED = (
    re.compile(rf"[Mm]emory footprint(?: delta from the start of the tool)? \(MB\): init={_NUMBER} overall={_NUMBER}"),
    re.compile(rf"Init footprint: +{_NUMBER} MB.*?Overall footprint: +{_NUMBER} MB", re.DOTALL),
)
_PEAK = (
    re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}"),
    re.compile(rf"Peak memory: +{_NUMBER} MB"),
)
_IGNORED = re.compile(r"Unconsumed cmdline flags: *(.*\S)")
_DELEGATED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\)")

NO_CPU = "benchmark_model prints no CPU time"
NO_MEDIAN = "this version of benchmark_model prints an average and no median"
NO_RUNS = "benchmark_model prints no single runs"
NO_PEAK = "benchmark_model was not asked for it, since watching it slows inference"


def words(ask: Ask) -> tuple[str, ...]:
    """Give its arguments.

    NOTE: Why no --report_peak_memory_footprint: a thread of its own watches it and "the performance benchmark result
    could be affected", says its help; what the high-water mark of the process grew by is printed without it.
    """
    return (
        f"--graph={ask.model}",
        f"--num_threads={ask.threads}",
        f"--num_runs={ask.runs}",
        f"--min_secs={ask.seconds:g}",
        f"--max_secs={ask.limit_seconds:g}",
        f"--warmup_runs={ask.warm_up_runs}",
        f"--warmup_min_secs={ask.warm_up_seconds:g}",
        "--use_xnnpack=true",
    )


def read(text: str) -> Told | None:
    """Read what it printed; None where its statistics are not both there."""
    found = [_statistics(count, rest) for count, rest in _STATISTICS.findall(text)]
    load = _load(text)
    if len(found) < 2 or load is None or not found[0]["count"] or not found[-1]["count"]:
        return None
    warm_up, timed = found[0], found[-1]
    percentiles = {5: timed.get("p5"), 50: timed.get("median"), 95: timed.get("p95")}
    memory, peak = _memory(text), next((match for pattern in _PEAK if (match := pattern.search(text))), None)
    untold = {"cpu_median_seconds": NO_CPU, "cpu_spread": NO_CPU, "spread": NO_RUNS}
    untold |= dict.fromkeys(("p90_seconds", "p99_seconds"), "benchmark_model prints the 5th, 50th and 95th alone")
    untold |= {} if percentiles[50] else dict.fromkeys(("median_seconds", "p95_seconds"), NO_MEDIAN)
    untold |= {} if memory else dict.fromkeys(("memory", "peak_added_bytes"), "the tool could not tell on this device")
    untold |= {} if peak else {"process_peak_bytes": NO_PEAK}
    return Told(
        load_seconds=load,
        first_seconds=warm_up["first"] * MICRO,
        runs=int(timed["count"]),
        mean_seconds=timed["avg"] * MICRO,
        fastest_seconds=timed["min"] * MICRO,
        slowest_seconds=timed["max"] * MICRO,
        deviation_seconds=timed["std"] * MICRO,
        percentiles={share: value * MICRO for share, value in percentiles.items() if value},
        warm_up_runs=int(warm_up["count"]),
        memory=memory,
        process_peak_bytes=int(float(peak[1]) * MIB) if peak else None,
        untold=untold,
        notes=_notes(text),
    )


def _statistics(count: str, rest: str) -> dict[str, float]:
    """Read one line of statistics; where all runs took the same, that is every number of it."""
    if "(all same)" in rest or count == "1":
        value = float(re.sub(r"\(all same\)", "", rest).split("=")[-1]) if rest else 0.0
        return {"count": float(count), "std": 0.0} | dict.fromkeys(
            ("first", "min", "max", "avg", "p5", "median", "p95"), value
        )
    return {"count": float(count)} | {name: float(value) for name, value in re.findall(r"(\w+)=([-+.\w]+)", rest)}


def _load(text: str) -> float | None:
    for pattern in _INIT:
        if match := pattern.search(text):
            told = match.groupdict()
            return float(told["us"]) * MICRO if "us" in told else float(told["ms"]) * 1e-3
    return None


def _memory(text: str) -> Memory | None:
    """Read by how much the process's high-water mark of resident memory grew: to be ready, and in all."""
    for pattern in _ADDED:
        if (match := pattern.search(text)) and float(match[2]) > 0:
            init, overall = (max(0, int(float(number) * MIB)) for number in match.groups())
            return Memory(Marks(init, None), Marks(overall, None))
    return None


def _notes(text: str) -> tuple[str, ...]:
    notes = [f"the tool does not know and ignored {match[1]}" for match in _IGNORED.finditer(text)]
    notes += [f"{name} runs {part} of {whole} nodes" for part, whole, name in _DELEGATED.findall(text)]
    return tuple(dict.fromkeys(notes))


BENCHMARKS.register(
    Benchmark(
        "benchmark_model",
        "LiteRT's benchmark_model",
        "tflite",
        words,
        read,
        too_new=("Didn't find op for builtin opcode", "Registration failed", "unsupported schema version"),
    )
)
