"""What both Keras sources share: loading safely, on the backend the worker runs, and naming what goes in and out."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError, MissingInputs, UsageError
from convert.sources._measure import agreed, measure_tied
from convert.spec import BATCH, RECURRENT, LoadOptions, ModelFacts, SourceFile, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import keras
    import numpy as np

    from convert.sources import LoadedModel


def load_keras(file: SourceFile, options: LoadOptions, suffix: str, path: Path | None = None) -> LoadedModel:
    """Load a whole Keras model without compiling it, refusing code inside the file unless the user trusts it.

    `path` is what to read where it is not the file itself. Layers that read text are split off. Raises LoadError where
    Keras cannot load it, UsageError where it holds Python code.
    """
    import keras

    from convert.sources import LoadedModel

    try:
        with _named_with(suffix, path or Path(file.path)) as named_path:
            model = keras.saving.load_model(named_path, compile=False, safe_mode=not options.trust)
    except Exception as error:
        raise _explained(error, file) from error
    if not getattr(model, "inputs", None):
        model = with_inputs(model, file, options)
    elif isinstance(model, keras.Sequential):
        # A sequential model that was built from its file and never called knows its inputs and not its input.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    model, notes, vocabularies = without_text(model, file)
    rows = embedding_rows(model)
    own = tuple(
        _spec(name, tensor, rows.get(id(tensor)) or vocabularies.get(name))
        for name, tensor in named(model.input, _input_names(model)).items()
    )
    inputs = agreed(own, options.inputs)
    # NOTE: Why measured: Keras states output shapes with None for every free axis, not which input's axis it follows.
    signature = measure_tied(lambda arrays: run(model, arrays), inputs)
    return LoadedModel(model, ModelFacts(signature, model.count_params(), notes, traits(model)))


def with_inputs(model: Any, file: SourceFile, options: LoadOptions) -> keras.Model:
    """Give a model that does not say what it takes the inputs that the user states.

    Raises MissingInputs where none are stated, LoadError where the model cannot be called on them.
    """
    import keras

    if not options.inputs:
        raise MissingInputs(
            f"{file.path} is a subclassed or unbuilt Keras model, which does not say what its inputs are",
            fix="state them with --input, for example --input 'image:float32[batch,32,32,3]', or save it with "
            "model.export('folder') and convert that folder",
        )
    inputs = {
        spec.name: keras.Input(
            batch_shape=tuple(None if isinstance(dim, str) else dim for dim in spec.shape),
            dtype=spec.dtype,
            name=spec.name,
        )
        for spec in options.inputs
    }
    try:
        return keras.Model(inputs, model(next(iter(inputs.values())) if len(inputs) == 1 else inputs))
    except Exception as error:
        raise LoadError(
            f"{file.path} cannot be called on {', '.join(map(str, options.inputs))}: {summary(error, 2)}",
            fix="correct --input; several inputs go in as a dictionary of their names",
        ) from error


def without_text(model: keras.Model, file: SourceFile) -> tuple[keras.Model, tuple[str, ...], dict[str, int]]:
    """Split off the layers that read text; give the rest, what the app must do itself, and sizes of vocabularies.

    What such a layer returns becomes an input of its name. Raises UsageError where no numbers come out of the text.
    """
    import keras

    given = named(model.input, _input_names(model))
    if not any(_is_text(tensor) for tensor in given.values()):
        return model, (), {}
    cut = [
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
        and any(_is_text(tensor) for tensor in keras.tree.flatten(layer.input))
        and not any(_is_text(tensor) for tensor in keras.tree.flatten(layer.output))
    ]
    fix = "build a model of the part that takes numbers, save it, and convert that"
    if not cut or any(len(keras.tree.flatten(layer.output)) != 1 for layer in cut):
        raise UsageError(f"{file.path} takes text, which no device format holds, and cannot be split", fix=fix)
    kept = {name: tensor for name, tensor in given.items() if not _is_text(tensor)}
    try:
        rest = keras.Model({layer.name: layer.output for layer in cut} | kept, model.output)
    except ValueError as error:
        raise UsageError(f"{file.path} takes text and cannot be split: {summary(error, 2)}", fix=fix) from error
    sizes = {layer.name: int(layer.vocabulary_size()) for layer in cut if hasattr(layer, "vocabulary_size")}
    notes = tuple(
        f"{layer.name} ({type(layer).__name__}"
        + (f", {sizes[layer.name]:,} words" if layer.name in sizes else "")
        + f") reads text and was split off: the app computes it and feeds the input {layer.name}"
        for layer in cut
    )
    return rest, notes, sizes


def _is_text(tensor: Any) -> bool:
    return str(tensor.dtype) == "string"


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
    import keras

    structure = model.input
    if is_nested(structure):
        given: Any = keras.tree.pack_sequence_as(structure, [inputs[name] for name in _input_names(model)])
    elif isinstance(structure, Mapping):
        given = {key: inputs[key] for key in structure}
    elif isinstance(structure, (list, tuple)):
        given = [inputs[name] for name in _input_names(model)]
    else:
        (given,) = inputs.values()
    return named(model(given, training=False), output_names(model))


def output_names(model: keras.Model) -> tuple[str, ...]:
    """Name a model's outputs: dictionary keys, else the names of the layers they come from, made unique."""
    if is_nested(model.output):
        return _paths(model.output)
    if isinstance(model.output, Mapping):
        return tuple(model.output)
    names = list(model.output_names)
    return tuple(f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names))


def named(structure: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Give a structure of tensors as a flat dictionary; `names` are for what has no keys."""
    import keras

    if is_nested(structure):
        return dict(zip(_paths(structure), keras.tree.flatten(structure), strict=True))
    if isinstance(structure, Mapping):
        return dict(structure)
    tensors = list(structure) if isinstance(structure, (list, tuple)) else [structure]
    return dict(zip(names, tensors, strict=True))


def is_nested(structure: Any) -> bool:
    """Whether a structure of tensors holds other structures."""
    inner = structure.values() if isinstance(structure, Mapping) else structure
    return isinstance(structure, (Mapping, list, tuple)) and any(isinstance(x, (Mapping, list, tuple)) for x in inner)


def _paths(structure: Any) -> tuple[str, ...]:
    """Name the tensors of a nested structure by the keys and positions that lead to them, joined by dots."""
    import keras

    return tuple(".".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(structure))


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
    if is_nested(model.input):
        return _paths(model.input)
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
            fix="where its code is, save it with model.export('folder') and convert that folder",
        )
    return LoadError(
        f"Keras {keras.__version__} cannot load {file.path}: {type(error).__name__}: {summary(error)}",
        fix="load it with the Keras that saved it and save it again in the .keras format",
    )
