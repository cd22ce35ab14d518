"""ONNX to SavedModels: the graph as a PyTorch module, and that operator by operator in TensorFlow's."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._onnx_torch import as_torch, rescued
from convert.routes.torch_to_savedmodel_graph import TORCH
from convert.torch_tensorflow import to_tensorflow


def convert(work: Work) -> Draft:
    """Convert as any PyTorch module, with every free dimension left free."""
    ready, rescues = as_torch(work)
    return rescued(to_tensorflow(ready.model, ready.signature, ready.out), rescues)


ROUTES.register(
    Route(
        name="onnx-tensorflow",
        title="ONNX as a PyTorch module, in TensorFlow's operators",
        takes=("onnx",),
        gives="savedmodel",
        rank=10,
        why="TensorFlow's own kernels, a whole batch at once, every dimension free",
        environment=TORCH,
        convert=convert,
    )
)
