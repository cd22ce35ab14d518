"""ONNX to SavedModels: the graph as a PyTorch module, through StableHLO."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._litert_torch import LITERT_TORCH
from convert.routes._onnx_torch import as_torch, rescued
from convert.routes._stablehlo import to_saved_model


def convert(work: Work) -> Draft:
    """Convert as any PyTorch module."""
    ready, rescues = as_torch(work, "litert-torch")
    return rescued(to_saved_model(ready), rescues)


ROUTES.register(
    Route(
        name="onnx-stablehlo",
        title="ONNX as a PyTorch module, through StableHLO in TensorFlow",
        takes=("onnx",),
        gives="savedmodel",
        rank=20,
        why="the exact graph, where TensorFlow itself lacks an operator; one case at a time",
        environment=LITERT_TORCH,
        convert=convert,
    )
)
