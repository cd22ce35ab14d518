"""Time TFLite or ONNX files in turns, forwards and backwards, in CPU time on one thread.

`python paired.py [INPUTS.npz] FILE...`; without inputs, noise at the sizes that the files state, with them their first
row, by name or else by position. Turns cancel what a
busy machine does to all alike: sequential medians of one file differ by up to 30 %, these by 5 %.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROUNDS = 40
#: A turn is as many inferences as take this long, so that the clock's grain does not count.
TURN_SECONDS = 0.004
WARM_UP = 10

Arrays = dict[str, np.ndarray]

#: ONNX Runtime's names of the dtypes that models take.
KINDS = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def opened(path: str, row: Arrays | None) -> Callable[[], object]:
    """Load a file, give it inputs, and return what runs it once."""
    return onnx(path, row) if path.endswith(".onnx") else tflite(path, row)


def onnx(path: str, row: Arrays | None) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {}
    for spec in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in spec.shape]
        values = noise(shape, spec.type == "tensor(float)") if row is None else row[spec.name]
        inputs[spec.name] = values.astype(KINDS[spec.type])
    return lambda: session.run(None, inputs)


def tflite(path: str, row: Arrays | None) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    inputs = {}
    for position, (name, detail) in enumerate(named_inputs(interpreter).items()):
        floats = np.issubdtype(detail["dtype"], np.floating)
        if row is None:
            values = noise(detail["shape"], floats)
        else:
            values = laid_out(row[name] if name in row else list(row.values())[position], detail)
            interpreter.resize_tensor_input(detail["index"], values.shape)
        inputs[detail["index"]] = values.astype(detail["dtype"])
    interpreter.allocate_tensors()
    for index, values in inputs.items():
        interpreter.set_tensor(index, values)
    return interpreter.invoke


def laid_out(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Give the values with channels last or first where only so they fit what the file states."""
    wanted = [int(size) for size in detail["shape_signature"]]
    axes = list(range(values.ndim))
    for order in (axes, [0, *axes[2:], 1], [0, axes[-1], *axes[1:-1]]) if values.ndim > 2 else (axes,):
        turned = values.transpose(order)
        if all(size in (-1, length) for size, length in zip(wanted, turned.shape, strict=True)):
            return np.ascontiguousarray(turned)
    raise SystemExit(f"inputs of {values.shape} do not fit {detail['name']}, {wanted}")


def named_inputs(interpreter: Any) -> dict[str, dict[str, Any]]:
    """Give the details of a file's inputs by the names in its signature, where it has one."""
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {detail["name"]: detail for detail in interpreter.get_input_details()}
    return interpreter.get_signature_runner(next(iter(signatures))).get_input_details()


def noise(shape: Any, floats: bool) -> np.ndarray:
    random = np.random.default_rng(5)
    return random.standard_normal(shape) if floats else random.integers(0, 2, shape)


def timed(paths: list[str], row: Arrays | None = None) -> list[list[float]]:
    """Give, for each file, the CPU seconds of one inference in every turn."""
    sessions = [opened(path, row) for path in paths]
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


def first_row(path: str) -> Arrays:
    with np.load(path) as file:
        return {name: file[name][:1] for name in file.files}


if __name__ == "__main__":
    given = sys.argv[1].endswith(".npz")
    print("\n" + json.dumps(timed(sys.argv[1 + given :], first_row(sys.argv[1]) if given else None)))
