"""ONNX to SavedModels: the graph as a PyTorch module, through StableHLO."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._litert_torch import LITERT_TORCH
from convert.routes._onnx_torch import as_torch
from convert.routes._stablehlo import to_saved_model


def convert(work: Work) -> Draft:
    """Convert as any PyTorch module."""
    return to_saved_model(as_torch(work))


ROUTES.register(
    Route(
        name="onnx-stablehlo",
        title="ONNX as a PyTorch module, through StableHLO in TensorFlow",
        takes=("onnx",),
        gives="savedmodel",
        rank=20,
        why="the only way from ONNX to TensorFlow's graphs",
        environment=LITERT_TORCH,
        convert=convert,
    )
)
