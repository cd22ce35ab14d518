"""What reduced files lose, in one way for all of them: `python loss.py INPUTS FLOAT FILE...` prints JSON.

Outputs of each file are compared with those of the float file, which is proven, on the same rows. It shares no code
with the tool's own judging. Each file gets the signal to quantization noise of its worst output in dB, the share of
rows with the same greatest output, and the size; or `error`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from by_defaults import rows

Arrays = dict[str, np.ndarray]


def runner(path: str) -> Callable[[Arrays], Arrays]:
    return litert(path) if path.endswith(".tflite") else onnx_runtime(path)


def litert(path: str) -> Callable[[Arrays], Arrays]:
    """Run a TFLite file on floats, whatever it takes and gives itself."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    signature = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    takes, gives = signature.get_input_details(), signature.get_output_details()

    def call(inputs: Arrays) -> Arrays:
        if set(inputs) != set(takes) and len(takes) == 1:
            inputs = dict(zip(takes, inputs.values(), strict=True))
        made = signature(**{name: stored(value, takes[name]) for name, value in inputs.items()})
        return {name: meant(value, gives[name]) for name, value in made.items()}

    return call


def stored(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not np.issubdtype(value.dtype, np.floating) or np.issubdtype(detail["dtype"], np.floating):
        return value.astype(detail["dtype"])
    kind = np.iinfo(detail["dtype"])
    return np.clip(np.round(value / scale) + zero, kind.min, kind.max).astype(detail["dtype"])


def meant(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    return (value.astype(np.float64) - zero) * scale if scale else value.astype(np.float64)


def onnx_runtime(path: str) -> Callable[[Arrays], Arrays]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in session.get_outputs()]
    kinds = {spec.name: spec.type for spec in session.get_inputs()}

    def call(inputs: Arrays) -> Arrays:
        given = {name: value.astype(np.int32) if "int32" in kinds[name] else value for name, value in inputs.items()}
        return {name: value.astype(np.float64) for name, value in zip(names, session.run(names, given), strict=True)}

    return call


def measured(path: str, exact: list[Arrays], given: list[Arrays]) -> dict[str, Any]:
    call = runner(path)
    actual = [call(row) for row in given]
    worst, agreement = math.inf, None
    for name, first in exact[0].items():
        found = paired_with(name, first, exact, actual)
        expected, got = (np.stack([row[key] for row in many]) for key, many in ((name, exact), (found, actual)))
        noise, signal = np.square(got - expected).sum(), np.square(expected).sum()
        worst = min(worst, 10 * math.log10(signal / noise) if noise and signal else math.inf)
        if name == next(iter(exact[0])) and first.ndim == 2 and first.shape[1] > 1:
            agreement = float((expected.argmax(-1) == got.argmax(-1)).mean())
    size = Path(path).stat().st_size
    return {"sqnr_db": worst if math.isfinite(worst) else None, "agreement": agreement, "bytes": size}


def paired_with(name: str, first: np.ndarray, exact: list[Arrays], actual: list[Arrays]) -> str:
    """Find a file's output of that name; where it renamed them, the most alike of its shape."""
    if name in actual[0]:
        return name
    alike = [other for other, value in actual[0].items() if value.shape == first.shape]
    if not alike:
        raise ValueError(f"no output has the shape of {name}, {first.shape}")

    def distance(other: str) -> float:
        return sum(np.abs(got[other] - row[name]).sum() for row, got in zip(exact, actual, strict=True))

    return min(alike, key=distance)


def main(inputs: str, base: str, *paths: str) -> None:
    given = list(rows(inputs))
    run = runner(base)
    exact = [run(row) for row in given]
    found = {}
    for path in paths:
        try:
            found[path] = measured(path, exact, given)
        except Exception as error:  # noqa: BLE001  a file made by hand may not even load, and that is a result
            found[path] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
