"""Time TFLite or ONNX files in turns, forwards and backwards, in CPU time on one thread: `python paired.py FILE...`.

Turns cancel what a busy machine does to all alike: sequential medians of one file differ by up to 30 %, these by 5 %.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 40
#: A turn is as many inferences as take this long, so that the clock's grain does not count.
TURN_SECONDS = 0.004
WARM_UP = 10

#: Sizes of free dimensions of ONNX files; TFLite files state one beside.
FREE = {"batch": 1, "height": 32, "width": 32}
OTHER_FREE = 16

#: ONNX Runtime's names of the dtypes that models take.
KINDS = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def opened(path: str) -> Callable[[], object]:
    """Load a file, give it inputs, and return what runs it once."""
    return onnx(path) if path.endswith(".onnx") else tflite(path)


def onnx(path: str) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    random, inputs = np.random.default_rng(5), {}
    for spec in session.get_inputs():
        shape = [size if isinstance(size, int) else FREE.get(size, OTHER_FREE) for size in spec.shape]
        floats = spec.type == "tensor(float)"
        values = random.standard_normal(shape) if floats else random.integers(0, 2, shape)
        inputs[spec.name] = values.astype(KINDS[spec.type])
    return lambda: session.run(None, inputs)


def tflite(path: str) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    random = np.random.default_rng(5)
    for detail in interpreter.get_input_details():
        floats = np.issubdtype(detail["dtype"], np.floating)
        values = random.standard_normal(detail["shape"]) if floats else random.integers(0, 2, detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    return interpreter.invoke


def timed(paths: list[str]) -> list[list[float]]:
    """Give, for each file, the CPU seconds of one inference in every turn."""
    sessions = [opened(path) for path in paths]
    turns = []
    for session in sessions:
        for _ in range(WARM_UP):
            session()
        started = time.process_time()
        for _ in range(WARM_UP):
            session()
        one = max((time.process_time() - started) / WARM_UP, 1e-7)
        turns.append(max(1, int(TURN_SECONDS / one)))
    found: list[list[float]] = [[] for _ in paths]
    for _ in range(ROUNDS):
        order = list(range(len(paths)))
        sums = [0.0] * len(paths)
        for index in [*order, *reversed(order)]:
            started = time.process_time()
            for _ in range(turns[index]):
                sessions[index]()
            sums[index] += (time.process_time() - started) / turns[index] / 2
        for index in order:
            found[index].append(sums[index])
    return found


if __name__ == "__main__":
    print("\n" + json.dumps(timed(sys.argv[1:])))
