"""Keras to ONNX through tf2onnx."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._tensorflow import function, input_names, output_names
from convert.sources import KERAS

OPSET = 18  # the highest tf2onnx 1.17 supports


def convert(work: Work) -> Draft:
    """Convert the model as a function of positions."""
    import tensorflow as tf
    import tf2onnx

    serve, specs = function(work, work.signature)
    graph = tf.function(serve, input_signature=specs, autograph=False)
    tf2onnx.convert.from_function(graph, input_signature=specs, opset=OPSET, output_path=str(work.out))
    return Draft(str(work.out), work.signature, input_names(work.signature), output_names(work.signature))


ROUTES.register(
    Route(
        name="tf2onnx",
        title="tf2onnx",
        takes=("keras", "tensorflow"),
        gives="onnx",
        rank=10,
        why="the only exporter of TensorFlow graphs that keeps every free dimension",
        environment=KERAS.environment,
        convert=convert,
    )
)
