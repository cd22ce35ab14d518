"""Keras models and SavedModels to ONNX through tf2onnx."""

from __future__ import annotations

from convert.errors import RouteError
from convert.formats import Draft
from convert.rewrites import rescue
from convert.routes import ROUTES, Route, Work
from convert.sources import TENSORFLOW_CONVERTER
from convert.sources._tensorflow import frozen

OPSET = 18  # the highest tf2onnx 1.17 supports
COMPILED = "XlaCallModule"  # TensorFlow's operator around StableHLO


def convert(work: Work) -> Draft:
    """Convert the model's graph, frozen: constants that a function captures are inputs to tf2onnx otherwise.

    Raises RouteError where the graph holds what is compiled already.
    """
    import onnx
    import tf2onnx

    graph = frozen(work, work.signature)
    if any(node.op == COMPILED for nodes in graph.bodies for node in nodes):
        raise RouteError(
            f"the model holds StableHLO ({COMPILED}), as models from JAX and PyTorch do, which tf2onnx does not read",
            fix="convert the model that the SavedModel was made from",
        )
    inputs, outputs = graph.feeds, graph.fetches
    model, _ = tf2onnx.convert.from_graph_def(
        graph.graph, input_names=list(inputs), output_names=list(outputs), opset=OPSET
    )
    rescues = rescue(model)
    onnx.save(model, str(work.out))
    return Draft(str(work.out), work.signature, inputs, outputs, rescues=rescues)


ROUTES.register(
    Route(
        name="tf2onnx",
        title="tf2onnx",
        takes=("keras", "tensorflow"),
        gives="onnx",
        rank=10,
        why="the only exporter of TensorFlow graphs that keeps every free dimension",
        environment=TENSORFLOW_CONVERTER,
        convert=convert,
    )
)
