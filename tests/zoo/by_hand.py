"""What one writes by hand: load a model, call one converter, write its file; no proof.

`python by_hand.py CONVERTER MODEL OUT ARGUMENTS`: the saver's arguments as JSON, as saving.py prints them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from models import BY_NAME, Entry
from saving import build, examples


def loaded(entry: Entry, arguments: dict[str, Any]) -> Any:
    """Load the file that the tool is given, or build the model from its code where no converter takes the file's."""
    if entry.saved in ("keras", "h5"):
        import keras

        return keras.models.load_model(arguments["model"], compile=False)
    if entry.saved == "exported":
        import torch

        return torch.export.load(arguments["model"]).module()
    return build(entry)


def one_row(entry: Entry) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make tensors to convert with, the batch at one where it is free: by name where the file was exported so."""
    rows = {
        name: tensor[:1] if text.partition("[")[2].startswith("batch") else tensor
        for text, (name, tensor) in zip(entry.inputs, examples(entry).items(), strict=True)
    }
    return ((), rows) if entry.saved == "exported" else (tuple(rows.values()), {})


def litert_torch(entry: Entry, arguments: dict[str, Any], out: Path) -> None:
    import litert_torch as converter

    rows, named = one_row(entry)
    converter.convert(loaded(entry, arguments), rows, sample_kwargs=named).export(str(out))


def tflite_converter(entry: Entry, arguments: dict[str, Any], out: Path) -> None:
    import tensorflow as tf

    out.write_bytes(tf.lite.TFLiteConverter.from_keras_model(loaded(entry, arguments)).convert())


def torch_onnx(entry: Entry, arguments: dict[str, Any], out: Path) -> None:
    import torch

    rows, named = one_row(entry)
    torch.onnx.export(loaded(entry, arguments), rows, out, kwargs=named, dynamo=True, verbose=False)


def tf2onnx(entry: Entry, arguments: dict[str, Any], out: Path) -> None:
    import tensorflow as tf
    import tf2onnx as converter

    model = loaded(entry, arguments)
    asked = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs]

    @tf.function(input_signature=asked)
    def call(*inputs: Any) -> Any:
        return model(list(inputs) if len(inputs) > 1 else inputs[0])

    converter.convert.from_function(call, asked, opset=18, output_path=str(out))


def torch_script(entry: Entry, arguments: dict[str, Any], out: Path) -> None:
    import torch

    rows, named = one_row(entry)
    torch.jit.save(
        torch.jit.trace(loaded(entry, arguments), rows or None, strict=False, example_kwarg_inputs=named or None), out
    )


def onnx2tf(entry: Entry, arguments: dict[str, Any], out: Path) -> None:
    """Export to ONNX and run onnx2tf with its defaults, in the tool's environment for it."""
    from convert.toolchains import require

    place = require("onnx2tf")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        (tf2onnx if entry.saved in ("keras", "h5") else torch_onnx)(entry, arguments, graph)
        subprocess.run(
            [place.python, "-m", "onnx2tf", "-i", graph, "-o", Path(folder) / "made", "-n"],
            check=True, env=place.environment(), stdout=sys.stderr, timeout=600,
        )  # fmt: skip
        shutil.copy(next(Path(folder, "made").glob("*_float32.tflite")), out)


CONVERTERS = {
    "litert-torch": litert_torch,
    "tflite-converter": tflite_converter,
    "onnx2tf": onnx2tf,
    "torch-onnx": torch_onnx,
    "tf2onnx": tf2onnx,
    "torch-script": torch_script,
}


if __name__ == "__main__":
    CONVERTERS[sys.argv[1]](BY_NAME[sys.argv[2]], json.loads(sys.argv[4]), Path(sys.argv[3]))
