"""Keras models as TensorFlow functions and SavedModels with a signature of positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from convert.layout import axes_to
from convert.routes import Work
from convert.spec import BATCH, Signature

if TYPE_CHECKING:
    import tensorflow as tf


def input_names(signature: Signature) -> tuple[str, ...]:
    """Name inputs by position, since TensorFlow mangles names that are not identifiers."""
    return tuple(f"input_{position}" for position in range(len(signature.inputs)))


def output_names(signature: Signature) -> tuple[str, ...]:
    """Name outputs by position; see `input_names`."""
    return tuple(f"output_{position}" for position in range(len(signature.outputs)))


def function(work: Work, signature: Signature) -> tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]:
    """Wrap the model as a function from positions to positions, and give the specs of what it takes.

    `signature` is the one to serve: images that it has in another layout than the model come so.
    """
    import tensorflow as tf

    from convert.sources._keras import call

    specs = [
        tf.TensorSpec([None if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype, name=name)
        for spec, name in zip(signature.inputs, input_names(signature), strict=True)
    ]
    names = [spec.name for spec in signature.inputs]
    moved = zip(work.signature.inputs, signature.inputs, strict=True)
    back = {own.name: axes_to(served, own.layout) for own, served in moved if own.layout != served.layout}

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        named = dict(zip(names, tensors, strict=True))
        named |= {name: tf.transpose(named[name], axes) for name, axes in back.items()}
        found = call(work.model, named)
        return {
            position: found[spec.name]
            for position, spec in zip(output_names(signature), signature.outputs, strict=True)
        }

    return serve, specs


def save(work: Work, signature: Signature, folder: Path) -> None:
    """Write a SavedModel of the model whose default signature is of positions."""
    import keras

    serve, specs = function(work, signature)
    # NOTE: Why Keras's own archive: a plain tf.Module leaves Keras 3's weights as variables that the TFLite file reads
    # and nothing initialises; the converter reports success and the file answers NaN.
    archive = keras.export.ExportArchive()
    archive.track(work.model)
    archive.add_endpoint("serve", serve, input_signature=specs)
    archive.write_out(str(folder), verbose=False)


def to_tflite(work: Work, signature: Signature) -> None:
    """Convert with TensorFlow's converter to built-in operators only, which every stock interpreter runs."""
    import tempfile

    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        save(work, signature, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        work.out.write_bytes(converter.convert())


def at_batch_one(signature: Signature) -> Signature:
    """Give the signature with the batch fixed to one."""
    return signature.fixed({BATCH: 1})
