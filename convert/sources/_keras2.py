"""HDF5 files that Keras 2 wrote: options that Keras 3 no longer takes are left out where they are at their defaults."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convert.errors import LoadError
from convert.spec import SourceFile

CONFIG = "model_config"  # the attribute of the file that describes the model

#: Options that Keras 2 wrote for every layer of its kind and Keras 3 refuses, with the only value that can be left out.
DROPPED = {"groups": 1, "time_major": False}

#: Layers for which Keras 2 wrote the options of one kernel although they have two, which have options of their own;
#: these only say how weights begin and are trained.
TWO_KERNELS = ("SeparableConv1D", "SeparableConv2D")
ONE_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")

#: Layers of Keras 3 that still have groups.
GROUPED = ("Conv1D", "Conv2D", "Conv3D")

#: Layers in which Keras 2 wrapped TensorFlow functions called on a model's tensors; Keras 3 has none of them.
WRAPPED = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer")


@contextlib.contextmanager
def readable(model: SourceFile) -> Iterator[Path]:
    """Give a path to the file, or to a copy without what Keras 3 refuses.

    Raises LoadError where the model uses what Keras 3 does not have.
    """
    import h5py  # type: ignore[import-untyped]

    path = Path(model.path)
    try:
        with h5py.File(path, "r") as file:
            config = json.loads(file.attrs.get(CONFIG, "{}"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is a damaged HDF5 file: {error}", fix="copy or download it again") from error
    wrapped = sorted({what for layer in _layers(config) if (what := _wrapped(layer))})
    if wrapped:
        raise LoadError(
            f"{path} wraps TensorFlow functions as Keras 2 did, which Keras 3 cannot load: {', '.join(wrapped)}",
            fix="with the Keras 2 that made it, save it as a folder, model.save('folder'), and convert that folder",
        )
    changed = [_modernise(layer) for layer in list(_layers(config))]
    if not any(changed):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.h5"
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs[CONFIG] = json.dumps(config)
        yield copy


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Yield the descriptions of a model's layers, those within other layers and models too."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), dict):
            yield config
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers(value)


def _wrapped(layer: dict[str, Any]) -> str:
    """Name the function that a layer wraps, or nothing where it is a layer of its own."""
    return str(layer["config"].get("function", layer["class_name"])) if layer["class_name"] in WRAPPED else ""


def _modernise(layer: dict[str, Any]) -> bool:
    """Leave out, in place, what Keras 3 refuses; say whether there was any."""
    config = layer["config"]
    found = [name for name, value in DROPPED.items() if config.get(name, ...) == value]
    if layer["class_name"] in GROUPED:
        found = [name for name in found if name != "groups"]
    if layer["class_name"] in TWO_KERNELS:
        found += [name for name in ONE_KERNEL if name in config]
    for name in found:
        del config[name]
    return bool(found)
