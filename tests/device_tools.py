"""Recorded output of benchmark tools, and scripts that stand for the tools on a fake device."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

_FOLDER = tempfile.TemporaryDirectory()


def fake_adb() -> Path:
    """Give the fake adb as a program of the interpreter that runs here, which may start much faster than `python3`."""
    path = Path(_FOLDER.name) / "adb"
    if not path.exists():
        _, _, rest = (Path(__file__).parent / "fake_adb.py").read_text().partition("\n")
        path.write_text(f"#!{sys.executable} -SI\n{rest}")
        path.chmod(0o755)
    return path


#: TensorFlow Lite's, up to 2023.
CLASSIC = """STARTING!
Log parameter values verbosely: [0]
Min num runs: [64]
Num threads: [1]
Graph: [model/net.tflite]
#threads used for CPU inference: [1]
Loaded model model/net.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
The input model file size (MB): 16.9009
Initialized session in 31.48ms.
Running benchmark for at least 3 iterations and at least 0.1 seconds but terminate if exceeding 10 seconds.
count=5 first=41230 curr=20410 min=20377 max=41230 avg=24671.2 std=8280

Running benchmark for at least 64 iterations and at least 1 seconds but terminate if exceeding 10 seconds.
count=64 first=20401 curr=20512 min=20344 max=21876 avg=20488.9 std=211

Inference timings in us: Init: 31480, First inference: 41230, Warmup (avg): 24671.2, Inference (avg): 20488.9
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory \
footprint of the model at runtime. Take the information at your discretion.
Memory footprint delta from the start of the tool (MB): init=17.5 overall=26.25
"""

#: LiteRT's of today.
TODAY = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
WARN: Unconsumed cmdline flags: --no_such_flag=1
INFO: Min num runs: [64]
INFO: Num threads: [1]
INFO: Graph: [model/net.tflite]
VERBOSE: Replacing 62 out of 64 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 partitions.
INFO: The input model file size (MB): 3.27774
INFO: Initialized session in 4.478ms.
INFO: Running benchmark for at least 3 iterations and at least 0.1 seconds but terminate if exceeding 10 seconds.
INFO: count=214 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18 p5=459 median=463 p95=478

INFO: Running benchmark for at least 64 iterations and at least 1 seconds but terminate if exceeding 10 seconds.
INFO: count=2112 first=463 curr=459 min=442 max=979 avg=464.545 std=13 p5=460 median=462 p95=478

INFO: [./litert/tools/benchmark_litert_model.h:81]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
INFO: [./litert/tools/benchmark_litert_model.h:84] Warmup (first):       1.03 ms
INFO: [./litert/tools/benchmark_litert_model.h:86] Warmup (avg):         0.47 ms (214 runs)
INFO: [./litert/tools/benchmark_litert_model.h:88] Inference (avg):      0.46 ms (2112 runs)
INFO: [./litert/tools/benchmark_litert_model.h:92] Inference (min):      0.44 ms
INFO: [./litert/tools/benchmark_litert_model.h:94] Inference (max):      0.98 ms
INFO: [./litert/tools/benchmark_litert_model.h:96] Inference (std):      0.01
INFO: [./litert/tools/benchmark_litert_model.h:103] Throughput:           525.55 MB/s
INFO: [./litert/tools/benchmark_litert_model.h:112]
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:114] Init footprint:       8.94 MB
INFO: [./litert/tools/benchmark_litert_model.h:116] Overall footprint:    11.50 MB
INFO: [./litert/tools/benchmark_litert_model.h:123] Peak memory usage not available. (peak_mem_mb <= 0)
INFO: [./litert/tools/benchmark_litert_model.h:126] ======================================
"""

#: ONNX Runtime's, since 1.24; before it said "Average inference time cost: 9.15 ms".
PERF_TEST = """Setting intra_op_num_threads to 1
Session creation time cost: 0.0417 s
First inference time cost: 12 ms
Total inference time cost: 10.0021 s
Total inference requests: 1093
Average inference time cost total: 9.151052 ms
Total inference run time: 10.0077 s
Number of inferences per second: 109.216
Avg CPU usage: 12 %
Peak working set size: 66453504 bytes
Avg CPU usage:12
Peak working set size:66453504
Runs:1093
Min Latency: 0.00881 s
Max Latency: 0.0140212 s
P50 Latency: 0.0091377 s
P90 Latency: 0.00928 s
P95 Latency: 0.00951 s
P99 Latency: 0.0112 s
P999 Latency: 0.0140212 s
"""

TOO_NEW = """INFO: Loaded model model/net.tflite
ERROR: Didn't find op for builtin opcode 'FULLY_CONNECTED' version '13'. An older version of this builtin might be \
supported. Are you using an old TFLite binary with a newer model?
ERROR: Registration failed.
ERROR: Failed to initialize the interpreter
ERROR: Benchmarking failed.
"""

#: A tool that really runs the model with LiteRT and prints what LiteRT's tool prints.
REAL = """#!{python}
import sys, time
from statistics import fmean, median, pstdev
import numpy as np
from ai_edge_litert.interpreter import Interpreter

options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
began = time.perf_counter()
model = Interpreter(options["graph"], num_threads=int(options["num_threads"]))
model.allocate_tensors()
print(f"INFO: Initialized session in {{(time.perf_counter() - began) * 1e3}}ms.", file=sys.stderr)
rng = np.random.default_rng(0)
for one in model.get_input_details():
    model.set_tensor(one["index"], rng.random(one["shape"]).astype(one["dtype"]))

def run(least, seconds):
    took = []
    while len(took) < least or sum(took) < seconds * 1e6:
        began = time.perf_counter()
        model.invoke()
        took.append((time.perf_counter() - began) * 1e6)
    low, high = np.percentile(took, [5, 95])
    print(f"INFO: count={{len(took)}} first={{took[0]}} curr={{took[-1]}} min={{min(took)}} max={{max(took)}} "
          f"avg={{fmean(took)}} std={{pstdev(took)}} p5={{low}} median={{median(took)}} p95={{high}}\\n",
          file=sys.stderr)

run(int(options["warmup_runs"]), float(options["warmup_min_secs"]))
run(int(options["num_runs"]), float(options["min_secs"]))
"""


def tool(path: Path, text: str = "", *, code: int = 0, stream: int = 1, before: str = "") -> Path:
    """Write a script that prints a text and ends with a code."""
    path.write_text(f"#!/bin/sh\n{before}\ncat >&{stream} <<'END'\n{text}END\nexit {code}\n")
    return path
