"""TFLite files at lower precision by TFLiteConverter's own quantizer, which begins at the TensorFlow model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError, UsageError
from convert.formats.tflite import read
from convert.layout import promised
from convert.precision import QUANTIZERS, Quantizer, Reduced, Reduction
from convert.precision._tflite_contract import sealed
from convert.precision._tflite_data import required, samples
from convert.sources import TENSORFLOW_CONVERTER, load
from convert.sources._tensorflow import to_tflite
from convert.spec import CALIBRATED, FLOAT_IO, FP16, INT8, INT8_DYNAMIC, INT16X8, IO_TYPES, Signature

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Work:
    """A loaded model to convert, and where to."""

    model: Any
    signature: Signature
    out: Path


def quantize(task: Reduction) -> Reduced:
    """Convert the model anew, at the sizes that the float artifact has.

    Raises RouteError where nothing of it becomes what was asked for.
    """
    check(task)
    loaded = load(task.source, task.options)
    out = Path(task.out)
    work = Work(loaded.model, loaded.facts.signature, out)
    signature = as_base(promised(loaded.facts.signature, task.layout), task.base.signature)
    to_tflite(work, signature, adjust=lambda converter: configure(converter, task, signature))
    became = sealed(out, signature, (), ())
    made = read(out).precision
    if made != task.recipe.precision:
        raise RouteError(f"TFLiteConverter finds nothing in this model that it can make {task.recipe.precision}")
    return Reduced(became)


def check(task: Reduction) -> None:
    """Refuse what the recipe asks for and TFLiteConverter cannot do."""
    recipe = task.recipe
    if recipe.kept:
        raise RouteError("TFLiteConverter's quantizer leaves no single layer in another precision")
    if recipe.ranges not in TFLITE_CONVERTER.ranges or recipe.equalised:
        raise RouteError("TFLiteConverter's quantizer finds its ranges by itself, and equalises nothing")
    if recipe.precision in CALIBRATED and "WHILE" in read(Path(task.base.path)).operators:
        # NOTE: Why refused: TensorFlow 2.21 dies of a segmentation fault there, and the loaded model with it.
        raise RouteError("TFLiteConverter's calibrator crashes on loops")
    if recipe.io != FLOAT_IO and recipe.precision != INT8:
        raise UsageError(
            f"--io {recipe.io} means inputs and outputs in 8 bits, which {recipe.precision} files do not have",
            fix=f"leave --io out, or ask for --precision {INT8}",
        )


def as_base(signature: Signature, base: Signature) -> Signature:
    """Fix the free dimensions of a promise that the float artifact fixes."""
    found = {spec.name: spec.shape for spec in base.inputs}
    return signature.fixed(
        {
            dim: size
            for spec in signature.inputs
            for dim, size in zip(spec.shape, found[spec.name], strict=True)
            if isinstance(dim, str) and isinstance(size, int)
        }
    )


def configure(converter: Any, task: Reduction, signature: Signature) -> None:
    """Tell the converter the precision, and where its ranges come from."""
    import tensorflow as tf

    precision = task.recipe.precision
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == FP16:
        converter.target_spec.supported_types = [tf.float16]
    if precision not in CALIBRATED:
        return
    kernels = {
        INT8: tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        INT16X8: tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    # NOTE: Why built-in float kernels too: an operator without an integer kernel would end the conversion.
    converter.target_spec.supported_ops = [kernels[precision], tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.representative_dataset = representative(task, signature)
    if task.recipe.io != FLOAT_IO:
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(task.recipe.io)


def representative(task: Reduction, signature: Signature) -> Callable[[], Iterator[list[np.ndarray]]]:
    """Give the calibration samples as the converter asks for them: in the order of its inputs, again and again."""
    required(task)

    def give() -> Iterator[list[np.ndarray]]:
        for sample in samples(task):
            yield [sample[spec.name].astype(spec.dtype, copy=False) for spec in signature.inputs]

    return give


TFLITE_CONVERTER = QUANTIZERS.register(
    Quantizer(
        name="tflite-converter",
        title="TFLiteConverter's own quantizer",
        format="tflite",
        precisions=(FP16, INT8_DYNAMIC, INT8, INT16X8),
        rank=20,
        why="folds more of a TensorFlow model into integers, and leaves no single layer out",
        environment=TENSORFLOW_CONVERTER,
        quantize=quantize,
        takes=("keras", "tensorflow"),
        keeps=(),
        io=IO_TYPES,
    )
)
