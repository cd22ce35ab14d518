"""Full int8 as one gets it by hand: one quantizer called with its defaults, no proof, no search.

`python by_defaults.py TOOL JOB`, where JOB is JSON: `source` (a Keras file), `float` (the proven float artifact),
`calibration` (an .npz) and `out`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


def rows(path: str) -> Iterator[dict[str, np.ndarray]]:
    """Give the samples of an archive, a batch of one each."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: values[index : index + 1] for name, values in arrays.items()}


def tflite_converter(job: dict[str, str]) -> None:
    """Quantize the Keras model itself, as TensorFlow's guide to quantization after training does."""
    import keras
    import tensorflow as tf

    model = keras.models.load_model(job["source"], compile=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (list(row.values()) for row in rows(job["calibration"]))
    Path(job["out"]).write_bytes(converter.convert())


def ai_edge_quantizer(job: dict[str, str]) -> None:
    """Quantize the float file with the recipe for full int8.

    The tool's calibrator stops at constants that nothing reads and that have no data ("Tensor data is null").
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    from convert.formats.tflite import read_model, write_model

    ready, model = Path(f"{job['out']}.ready"), read_model(Path(job["float"]))
    for graph in model.subgraphs:
        used = {int(i) for op in graph.operators or () for i in (*op.inputs, *op.outputs)} | {*graph.inputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in used:
                tensor.shape, tensor.shapeSignature = [0], None
    write_model(ready, model)
    interpreter = Interpreter(str(ready))
    signature = next(iter(interpreter.get_signature_list()))
    takes = interpreter.get_signature_runner(signature).get_input_details()
    samples = [
        {name: value.astype(takes[name]["dtype"]) for name, value in row.items()} for row in rows(job["calibration"])
    ]
    tool = quantizer.Quantizer(str(ready), recipe.static_wi8_ai8())
    ranges = tool.calibrate({signature: samples})
    tool.quantize(ranges).export_model(job["out"], overwrite=True)


def onnx_runtime(job: dict[str, str]) -> None:
    """Pre-process the float file as the documentation advises, and quantize it."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = rows(job["calibration"])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    # Symbolic shape inference leaves what it could not do in the working folder.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        ready = Path(folder) / "ready.onnx"
        try:
            quant_pre_process(job["float"], ready)
        except Exception as error:  # noqa: BLE001  symbolic shape inference refuses some graphs: then without it
            print(f"symbolic shape inference fails: {error}", file=sys.stderr)
            quant_pre_process(job["float"], ready, skip_symbolic_shape=True)
        quantize_static(ready, job["out"], Reader())


TOOLS: dict[str, Callable[[dict[str, str]], None]] = {
    "TFLiteConverter": tflite_converter,
    "ai-edge-quantizer": ai_edge_quantizer,
    "ONNX Runtime": onnx_runtime,
}

#: Those that make each format.
OF_FORMAT = {"tflite": ("TFLiteConverter", "ai-edge-quantizer"), "onnx": ("ONNX Runtime",)}


if __name__ == "__main__":
    TOOLS[sys.argv[1]](json.loads(sys.argv[2]))
