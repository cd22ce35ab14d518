"""One side of the bench of latency, timed in a fresh process: `python latency_sides.py SIDE JOB.json RUNS`.

`reported` is what the tool reports; `litert-benchmark` and `iobinding` are what it is held against; `run` is
what an app in Python waits for: it hands inputs over, and reads outputs. Prints wall and CPU seconds of every run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from validators.latency import NANO, Timing, measure
from validators.protocol import pinned
from validators.runtimes import RUNTIMES, cases_of, feed

#: Sides by format: what is reported, what it is held against, and the engine with inputs and outputs.
SIDES = {
    "tflite": ("reported", "litert-benchmark", "run"),
    "onnx": ("reported", "iobinding", "run"),
}

WARM_UP_SHARE = 0.1  # of the runs that count
FEWEST = 10

Timings = dict[str, Any]


def reported(job: Timing, runs: int) -> Timings:
    """Time as reports do, in a process that has imported the engine; how many runs, the protocol says."""
    for name in RUNTIMES[job.runtime].environment.preload:
        importlib.import_module(name)
    block = measure(job)
    wall, cpu = np.load(block.samples) * NANO
    memory = {"load": block.memory.load.resident, "run": block.memory.run.resident}
    return {"wall": wall.tolist(), "cpu": cpu.tolist(), "memory": memory, "unsettled": block.unsettled}


def inputs_of(job: Timing) -> dict[str, np.ndarray]:
    with np.load(job.inputs) as arrays:
        case = next(case for case in cases_of(arrays) if case in job.only)
        return feed(arrays, case, job.feeds)


def whole(job: Timing, runs: int) -> Timings:
    """Time the session that is reported of, where it takes inputs and gives outputs."""
    session, inputs = RUNTIMES[job.runtime].open(job.subject), inputs_of(job)
    return loop(lambda: session.run(inputs), runs)


def iobinding(job: Timing, runs: int) -> Timings:
    """Time ONNX Runtime's `run_with_iobinding` on bound inputs and outputs, as its C API does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(job.subject.file.path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in inputs_of(job).items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return loop(lambda: session.run_with_iobinding(binding), runs)


def loop(run: Callable[[], object], runs: int) -> Timings:
    """Time runs one by one, after a tenth as many that do not count."""
    for _ in range(max(FEWEST, int(runs * WARM_UP_SHARE))):
        run()
    wall, cpu = [], []
    for _ in range(runs):
        computed, started = time.process_time(), time.perf_counter()
        run()
        ended = time.perf_counter()
        cpu.append(time.process_time() - computed)
        wall.append(ended - started)
    return {"wall": wall, "cpu": cpu}


class Watch:
    """A clock in the place of LiteRT's benchmark's `time`, that remembers the CPU time beside what it answers.

    It is asked at the beginning and at the end of what is timed, in turns.
    """

    def __init__(self) -> None:
        self.computed: list[float] = []
        self.shown: list[float] = []

    def perf_counter(self) -> float:
        begins = len(self.shown) % 2 == 0
        before = time.process_time() if begins else 0.0
        now = time.perf_counter()
        self.computed.append(before if begins else time.process_time())
        self.shown.append(now)
        return now


def litert_benchmark(job: Timing, runs: int) -> Timings:
    """Let LiteRT's own benchmark run as it does; it prints hundredths of a millisecond, so its clock is listened to.

    Integer inputs are zeros, where it would take numbers that no embedding has.
    """
    from ai_edge_litert.tools import benchmark_litert_model as tool

    watch = Watch()
    filled = tool.fill_random_input

    def fill(buffer: Any, details: dict[str, Any]) -> None:
        dtype = tool.get_numpy_dtype(details.get("dtype", "float32"))
        if np.issubdtype(dtype, np.integer):
            buffer.write(np.zeros(details.get("shape", [1]), dtype))
        else:
            filled(buffer, details)

    tool.time, tool.fill_random_input = watch, fill
    words = ["--model", job.subject.file.path, "--num_runs", str(runs), "--num_threads", "1"]
    sys.argv = ["litert-benchmark", *words, "--warmup_runs", str(max(FEWEST, int(runs * WARM_UP_SHARE)))]
    tool.run_benchmark(tool.parse_args())
    wall, cpu = (np.diff(np.reshape(clock, (-1, 2))[-runs:])[:, 0].tolist() for clock in (watch.shown, watch.computed))
    return {"wall": wall, "cpu": cpu}


TIMED: dict[str, Callable[[Timing, int], Timings]] = {
    "reported": reported,
    "run": whole,
    "iobinding": iobinding,
    "litert-benchmark": litert_benchmark,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=TIMED)
    parser.add_argument("job")
    parser.add_argument("runs", type=int)
    asked = parser.parse_args()
    job = msgspec.json.decode(Path(asked.job).read_bytes(), type=Timing)
    with pinned(1):
        found = TIMED[asked.side](job, asked.runs)
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
