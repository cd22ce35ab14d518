"""Build a model of the zoo, save it as a user would, and keep fresh inputs with what the framework answers to them.

`python saving.py NAME FOLDER` does it and prints, as JSON, the arguments that `python -m convert` takes for the file.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fresh import keep_answers
from models import BUILDABLE, Entry
from places import HERE

from convert.spec import TensorSpec, signature_file

#: Sizes of free dimensions in the example a program is exported with; 1 would be taken for a constant.
TRIAL = {"batch": 2}
OTHER_TRIAL = 16


def build(entry: Entry) -> Any:
    """Call what builds the model."""
    module, _, name = entry.builder.partition(":")
    if module.startswith("keras_"):
        import keras

        keras.utils.set_random_seed(11)
    return getattr(importlib.import_module(module), name)(*entry.arguments, **dict(entry.options))


def specs(entry: Entry) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.parse(text) for text in entry.inputs)


def examples(entry: Entry) -> dict[str, Any]:
    """Make tensors that fit an entry's inputs, free dimensions at their trial sizes."""
    import torch

    made = {}
    for spec in specs(entry):
        shape = spec.sized({name: TRIAL.get(name, OTHER_TRIAL) for name in spec.free})
        made[spec.name] = torch.from_numpy(np.full(shape, spec.low if spec.low is not None else 1, spec.dtype))
    return made


def free_axes(entry: Entry) -> dict[str, dict[int, Any]]:
    """Say which axes of each input are free, as torch.export takes it."""
    import torch

    dims = {name: torch.export.Dim(name) for spec in specs(entry) for name in spec.free}
    return {
        spec.name: {axis: dims[dim] for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in specs(entry)
    }


def architecture(entry: Entry) -> str:
    module, _, name = entry.builder.partition(":")
    return f"{HERE / module}.py:{name}"


def keras_file(entry: Entry, model: Any, path: Path) -> dict[str, object]:
    file = path.with_suffix(".h5" if entry.saved.endswith("h5") else ".keras")
    model.save(file)
    return {"model": str(file), "input": entry.inputs}


def saved_model(entry: Entry, model: Any, path: Path) -> dict[str, object]:
    """Save as Keras 3 exports, as Keras 2 saves, or as TensorFlow saves a module with a signature."""
    import tensorflow as tf

    if entry.builder.startswith("tf_models"):
        tf.saved_model.save(model, path, signatures={"serving_default": model.serve})
    elif entry.builder.startswith("keras2"):
        model.save(path, save_format="tf")
    elif entry.builder.endswith("hand_subclassed"):
        named = {name: tf.TensorSpec([None, 3], tf.float32, name) for name in ("zeta", "alpha")}
        model.export(path, input_signature=[named], verbose=False)
    else:
        model.export(path, verbose=False)
    return {"model": str(path), "input": entry.inputs}


def hub_module(entry: Entry, model: Any, path: Path) -> dict[str, object]:
    """Pack a SavedModel as hubs hand it out."""
    saved_model(entry, model, path)
    file = path.with_suffix(".tar.gz")
    with tarfile.open(file, "w:gz") as archive:
        for member in sorted(path.iterdir()):
            archive.add(member, member.name)
    return {"model": str(file), "input": entry.inputs}


def exported(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    import torch

    program = torch.export.export(module, (), examples(entry), dynamic_shapes=free_axes(entry))
    file = path.with_suffix(".pt2")
    torch.export.save(program, file, extra_files=signature_file(*entry.inputs, outputs=entry.outputs))
    return {"model": str(file)}


def torchscript(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    import torch

    if entry.saved == "scripted":
        made = torch.jit.script(module)
    else:
        made = torch.jit.trace(module, tuple(examples(entry).values()), strict=False)
    file = path.with_suffix(".pt")
    torch.jit.save(made, file, _extra_files=signature_file(*entry.inputs, outputs=entry.outputs))
    return {"model": str(file)}


def weights(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    """Save the state dictionary alone, in PyTorch's format or in safetensors'."""
    if entry.saved == "safetensors":
        from safetensors.torch import save_file

        file = path.with_suffix(".safetensors")
        save_file(module.state_dict(), file)
    else:
        import torch

        file = path.with_suffix(".pth")
        torch.save(module.state_dict(), file)
    return {"model": str(file), "architecture": architecture(entry), "input": entry.inputs}


def pickled(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    import torch

    file = path.with_suffix(".pt")
    torch.save(module, file)
    return {"model": str(file), "trust": True, "input": entry.inputs, "PYTHONPATH": str(HERE)}


def lightning(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    """Write the dictionary that Lightning's trainer writes: the network is an attribute of the trained module."""
    import torch

    file = path.with_suffix(".ckpt")
    checkpoint = {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": value for name, value in module.state_dict().items()},
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 14, "depth": 2, "learning_rate": 1e-3},
    }
    torch.save(checkpoint, file)
    return {"model": str(file), "architecture": architecture(entry), "input": entry.inputs}


def hugging_face(entry: Entry, model: Any, path: Path) -> dict[str, object]:
    model.save_pretrained(path)
    return {"model": str(path), "input": entry.inputs}


def onnx_file(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    """Export with torch.onnx, or with tf2onnx where the model is Keras's."""
    file = path.with_suffix(".onnx")
    if entry.saved == "keras_onnx":
        import tensorflow as tf
        import tf2onnx

        asked = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in module.inputs]

        # tf2onnx's own way from a Keras model reads attributes that Keras 3 does not have (tf2onnx#2319).
        @tf.function(input_signature=asked)
        def call(*inputs: Any) -> Any:
            return module(list(inputs) if len(inputs) > 1 else inputs[0])

        tf2onnx.convert.from_function(call, asked, opset=18, output_path=str(file))
    else:
        import torch

        program = torch.export.export(module, (), examples(entry), dynamic_shapes=free_axes(entry))
        torch.onnx.export(program, dynamo=True, verbose=False).save(file)
    return {"model": str(file), "input": entry.inputs}


def tflite_file(entry: Entry, module: Any, path: Path) -> dict[str, object]:
    """Convert with litert-torch, or with TensorFlow's converter where the model is Keras's."""
    file = path.with_suffix(".tflite")
    if entry.saved == "keras_tflite":
        import tensorflow as tf

        file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(module).convert())
    else:
        import litert_torch

        litert_torch.convert(module, tuple(examples(entry).values())).export(str(file))
    return {"model": str(file)}


SAVERS: dict[str, Callable[[Entry, Any, Path], dict[str, object]]] = {
    **dict.fromkeys(("keras", "h5", "keras2_h5"), keras_file),
    **dict.fromkeys(("savedmodel", "keras2_savedmodel", "tf_module"), saved_model),
    "tf_hub": hub_module,
    "exported": exported,
    **dict.fromkeys(("scripted", "traced"), torchscript),
    **dict.fromkeys(("weights", "safetensors"), weights),
    "pickled": pickled,
    "lightning": lightning,
    "hugging_face": hugging_face,
    **dict.fromkeys(("onnx", "keras_onnx"), onnx_file),
    **dict.fromkeys(("tflite", "keras_tflite"), tflite_file),
}


def save(entry: Entry, folder: Path) -> dict[str, object]:
    """Build one model and write its file and its answers; give the arguments for `python -m convert`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build(entry)
    arguments = SAVERS[entry.saved](entry, model, folder / entry.file_name)
    keep_answers(entry, model, folder / "fresh.npz")
    return arguments


if __name__ == "__main__":
    # Converters and exporters print to stdout; the answer is the last line.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    print("\n" + json.dumps(save(BUILDABLE[sys.argv[1]], Path(sys.argv[2]))))
