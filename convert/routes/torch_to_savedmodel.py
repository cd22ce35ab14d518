"""PyTorch to SavedModels: litert-torch's StableHLO, called by TensorFlow."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._litert_torch import LITERT_TORCH
from convert.routes._stablehlo import to_saved_model


def convert(work: Work) -> Draft:
    """Convert the module."""
    return to_saved_model(work)


ROUTES.register(
    Route(
        name="torch-stablehlo",
        title="litert-torch's StableHLO in TensorFlow",
        takes=("torch",),
        gives="savedmodel",
        rank=10,
        why="the exact graph, where TensorFlow itself lacks an operator; one case at a time",
        environment=LITERT_TORCH,
        convert=convert,
    )
)
