"""Keras models and SavedModels as TensorFlow functions from positions to positions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convert.layout import axes_to
from convert.sources._frozen import Frozen, freeze, inlined, rename_functions, revive
from convert.spec import BATCH, Signature, TensorSpec

if TYPE_CHECKING:
    import tensorflow as tf


class Wanted(Protocol):
    """A model to write, and where."""

    @property
    def model(self) -> Any:
        """The loaded model: Keras's, or a SavedModel's signature."""

    @property
    def signature(self) -> Signature:
        """What the model promises."""

    @property
    def out(self) -> Path:
        """The file or folder to write."""


def input_names(signature: Signature) -> tuple[str, ...]:
    """Name inputs by position among the sorted names, since TensorFlow mangles names that are not identifiers.

    NOTE: Why sorted: a SavedModel's signature is flattened in the order of its names, and sealing writes the promised
    names in their place, which must not change that order.
    """
    return _ranked("input", signature.inputs)


def output_names(signature: Signature) -> tuple[str, ...]:
    """Name outputs in the same way; see `input_names`."""
    return _ranked("output", signature.outputs)


def _ranked(side: str, specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    names = sorted(spec.name for spec in specs)
    return tuple(f"{side}_{names.index(spec.name):04}" for spec in specs)


def function(work: Wanted, signature: Signature) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
    """Wrap the model as a function from positions to positions, and give the specs of what it takes.

    `signature` is the one to serve: images that it has in another layout than the model come so.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec([None if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype, name=name)
        for spec, name in zip(signature.inputs, input_names(signature), strict=True)
    ]
    names = [spec.name for spec in signature.inputs]
    moved = zip(work.signature.inputs, signature.inputs, strict=True)
    back = {own.name: axes_to(served, own.layout) for own, served in moved if own.layout != served.layout}

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        given = dict(zip(names, tensors, strict=True))
        given |= {name: tf.transpose(given[name], axes) for name, axes in back.items()}
        found = answer(work.model, given)
        return {
            position: found[spec.name]
            for position, spec in zip(output_names(signature), signature.outputs, strict=True)
        }

    return serve, specs


def answer(model: Any, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Call a Keras model or a SavedModel's signature by names."""
    from convert.sources._keras import call
    from convert.sources._saved_model import Served

    if isinstance(model, Served):
        return model(inputs)
    with traceable(model):
        return call(model, inputs)


@contextlib.contextmanager
def traceable(model: Any) -> Iterator[None]:
    """Let layers be traced that resize images of free sizes: Keras compares the symbolic size with a number.

    keras#22079; `tf.image.resize` is what Keras's operation calls on TensorFlow.
    """
    import keras

    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation in ("bilinear", "bicubic")
    ]
    for layer in layers:
        layer._resize_images = _resize
    try:
        yield
    finally:
        for layer in layers:
            del layer._resize_images


def _resize(
    images: tf.Tensor, height_factor: int, width_factor: int, data_format: str, interpolation: str
) -> tf.Tensor:
    import tensorflow as tf

    if data_format == "channels_first":
        images = tf.transpose(images, [0, 2, 3, 1])
    shape = tf.shape(images)
    size = [
        known * factor if (known := images.shape[axis]) else shape[axis] * factor
        for axis, factor in ((1, height_factor), (2, width_factor))
    ]
    images = tf.image.resize(images, tf.stack(size), method=interpolation)
    return tf.transpose(images, [0, 3, 1, 2]) if data_format == "channels_first" else images


def save(work: Wanted, signature: Signature, folder: Path) -> None:
    """Write a SavedModel whose default signature is of positions; a signature of another name is kept beside it."""
    import keras
    import tensorflow as tf

    from convert.sources._saved_model import DEFAULT, Served

    serve, specs = function(work, signature)
    if isinstance(work.model, Served):
        module = tf.Module()
        module.served = work.model.loaded
        module.serve = tf.function(serve, input_signature=specs, autograph=False)
        signatures = dict.fromkeys((DEFAULT, work.model.signature), module.serve)
        tf.saved_model.save(module, str(folder), signatures=signatures)
        return
    # NOTE: Why Keras's own archive: a plain tf.Module leaves Keras 3's weights as variables that nothing initialises in
    # a TFLite file made of the folder; TFLiteConverter reports success and the file answers NaN.
    archive = keras.export.ExportArchive()
    archive.track(work.model)
    archive.add_endpoint("serve", serve, input_signature=specs)
    archive.write_out(str(folder), verbose=False)


def nothing_more(_: Any) -> None:
    """Leave the converter as it is."""


def to_tflite(
    work: Wanted, signature: Signature, *, flex: bool = False, adjust: Callable[[Any], None] = nothing_more
) -> None:
    """Convert with TensorFlow's converter to built-in operators, which every stock interpreter runs.

    With `flex`, what has no built-in operator stays one of TensorFlow's own. `adjust` sets what else the converter is
    to do.
    """
    import tensorflow as tf
    from tensorflow.core.framework.graph_debug_info_pb2 import GraphDebugInfo

    # NOTE: Why not through a SavedModel, as from_keras_model does: writing and reading one takes three times as long as
    # all the rest (14 of 19 s of a MobileNetV2), for the same operators and names.
    traced = frozen_function(work, signature)
    # NOTE: Why: else the converter's errors name the line of ours that traced an operator, and not the operator.
    traced.graph_debug_info = GraphDebugInfo()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], traced)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if flex:
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
    adjust(converter)
    work.out.write_bytes(converter.convert())


def frozen(work: Wanted, signature: Signature) -> Frozen:
    """Give the model's graph with its variables as constants, its inputs and outputs in the signature's order."""
    serve, _ = function(work, signature)

    def call(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = serve(*(inputs[spec.name] for spec in signature.inputs))
        return {spec.name: found[name] for spec, name in zip(signature.outputs, output_names(signature), strict=True)}

    return inlined(freeze(call, signature))


def frozen_function(work: Wanted, signature: Signature) -> Any:
    """Give the model as a function with its variables as constants.

    A SavedModel's loops were traced at a free batch, and their lists keep -1 for it even where `signature` fixes the
    batch; TFLite has no such lists (tensorflow#58668), so they are given the size.
    """
    graph = frozen(work, signature)
    leading = {spec.shape[0] for spec in signature.inputs if spec.shape}
    (batch,) = leading if len(leading) == 1 else (BATCH,)
    if isinstance(batch, int):
        _size_lists(graph, batch)
        rename_functions(graph.graph, f"_at_{batch}")
    return revive(graph)


def _size_lists(graph: Frozen, batch: int) -> None:
    """Give the elements of tensor lists whose leading size is open `batch` cases, in place."""
    import tensorflow as tf

    for nodes in graph.bodies:
        constants = {node.name: node for node in nodes if node.op == "Const"}
        lists = [node for node in nodes if node.op.startswith("TensorList")]
        for name in {name.partition(":")[0] for node in lists for name in node.input} & constants.keys():
            tensor = constants[name].attr["value"].tensor
            shape = tf.make_ndarray(tensor)
            if shape.ndim == 1 and shape.size > 1 and shape[0] == -1:
                sized = [batch, *shape[1:]]
                tensor.CopyFrom(tf.make_tensor_proto(sized, dtype=shape.dtype))


def at_batch_one(signature: Signature) -> Signature:
    """Give the signature with the batch fixed to one."""
    return signature.fixed({BATCH: 1})
