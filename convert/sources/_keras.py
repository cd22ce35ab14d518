"""What both Keras sources share: loading safely, on the backend the worker runs, and naming what goes in and out."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError, UsageError
from convert.sources._measure import agreed, measure
from convert.spec import BATCH, RECURRENT, LoadOptions, ModelFacts, SourceFile, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import keras
    import numpy as np

    from convert.sources import LoadedModel


def load_keras(file: SourceFile, options: LoadOptions, suffix: str) -> LoadedModel:
    """Load a whole Keras model without compiling it, refusing code inside the file unless the user trusts it.

    Raises LoadError where Keras cannot load it, UsageError where it holds Python code.
    """
    import keras

    from convert.sources import LoadedModel

    try:
        with _named_with(suffix, Path(file.path)) as path:
            model = keras.saving.load_model(path, compile=False, safe_mode=not options.trust)
    except Exception as error:
        raise _explained(error, file) from error
    if not getattr(model, "inputs", None):
        raise LoadError(
            f"{file.path} is a subclassed Keras model, which does not say what its inputs are",
            fix="build it with the functional API, or call it once on keras.Input tensors and save that model",
        )
    rows = embedding_rows(model)
    own = tuple(
        _spec(name, tensor, rows.get(id(tensor))) for name, tensor in named(model.input, _input_names(model)).items()
    )
    inputs = agreed(own, options.inputs)
    # NOTE: Why measured: Keras states output shapes with None for every free axis, not which input's axis it follows.
    signature = measure(lambda arrays: run(model, arrays), inputs)
    return LoadedModel(model, ModelFacts(signature, model.count_params(), traits=traits(model)))


def traits(model: keras.Model) -> tuple[str, ...]:
    """Name the traits of a model that the classes of its layers show."""
    import keras

    recurrent = (keras.layers.RNN, keras.layers.Bidirectional)
    return (RECURRENT,) if any(isinstance(layer, recurrent) for layer in model._flatten_layers()) else ()


def run(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a model in inference mode on named arrays and give its outputs by name, in the model's order."""
    import keras

    outputs = call(model, inputs)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def call(model: keras.Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Call a model in inference mode with named arrays or tensors and give its outputs by name."""
    structure = model.input
    if isinstance(structure, Mapping):
        given: Any = {key: inputs[key] for key in structure}
    elif isinstance(structure, (list, tuple)):
        given = [inputs[name] for name in _input_names(model)]
    else:
        (given,) = inputs.values()
    return named(model(given, training=False), output_names(model))


def output_names(model: keras.Model) -> tuple[str, ...]:
    """Name a model's outputs: dictionary keys, else the names of the layers they come from, made unique."""
    if isinstance(model.output, Mapping):
        return tuple(model.output)
    names = list(model.output_names)
    return tuple(f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names))


def named(structure: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Give a single tensor, a list or a dictionary of them as a dictionary; `names` are for what has no keys."""
    if isinstance(structure, Mapping):
        if any(isinstance(value, (Mapping, list, tuple)) for value in structure.values()):
            raise LoadError(
                "the model's inputs or outputs are nested dictionaries", fix="save it with a flat dictionary of tensors"
            )
        return dict(structure)
    tensors = list(structure) if isinstance(structure, (list, tuple)) else [structure]
    return dict(zip(names, tensors, strict=True))


@contextlib.contextmanager
def _named_with(suffix: str, path: Path) -> Iterator[Path]:
    """Give a path to the file that ends in `suffix`, since Keras chooses its reader by the name, not the content."""
    if path.suffix == suffix:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        alias = Path(folder) / f"model{suffix}"
        alias.symlink_to(path.resolve())
        yield alias


def _input_names(model: keras.Model) -> tuple[str, ...]:
    return tuple(model.input) if isinstance(model.input, Mapping) else tuple(t.name for t in model.inputs)


def embedding_rows(model: keras.Model) -> dict[int, int]:
    """Find how many rows the embeddings have that read an input directly, by the input tensor's identity."""
    import keras

    rows: dict[int, int] = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            for node in layer._inbound_nodes:  # the only way to the inputs of a layer that is called more than once
                for tensor in node.input_tensors:
                    rows[id(tensor)] = min(layer.input_dim, rows.get(id(tensor), layer.input_dim))
    return rows


def _spec(name: str, tensor: Any, rows: int | None) -> TensorSpec:
    shape = tuple(
        (BATCH if axis == 0 else f"{name}_{axis}") if size is None else int(size)
        for axis, size in enumerate(tensor.shape)
    )
    bounds = (0, rows - 1) if rows and "int" in str(tensor.dtype) else (None, None)
    return TensorSpec(name, str(tensor.dtype), shape, *bounds)


def _explained(error: Exception, file: SourceFile) -> LoadError | UsageError:
    import keras

    text = str(error)
    if "unsafe deserialization" in text or "safe_mode" in text:
        return UsageError(
            f"{file.path} holds Python code (a Lambda layer), which loading would run",
            fix="replace the Lambda layer by a Keras layer, or add --trust when you know who made the file",
        )
    if "No model config found" in text or "layer_names" in text or "weights file" in text.lower():
        return LoadError(
            f"{file.path} holds weights only, no model: {summary(error, 1)}",
            fix="save the whole model with model.save('model.keras')",
        )
    if "Could not locate class" in text or "Unknown layer" in text:
        return LoadError(
            f"{file.path} uses a class Keras does not know: {summary(error, 2)}",
            fix="build the model from Keras's own layers; custom classes cannot be loaded from a file alone",
        )
    return LoadError(
        f"Keras {keras.__version__} cannot load {file.path}: {type(error).__name__}: {summary(error)}",
        fix="load it with the Keras that saved it and save it again in the .keras format",
    )
