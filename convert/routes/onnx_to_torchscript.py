"""ONNX to TorchScript: the graph as a PyTorch module, exported and compiled."""

from __future__ import annotations

import dataclasses

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work, torch_script
from convert.routes._onnx_torch import as_torch, exported, rescued
from convert.sources import TORCH


def convert(work: Work) -> Draft:
    """Export with the free dimensions free, and compile the exported graph, which reads sizes as it runs."""
    ready, rescues = as_torch(work)
    return rescued(torch_script.convert(dataclasses.replace(ready, model=exported(ready))), rescues)


ROUTES.register(
    Route(
        name="onnx-torch-script",
        title="ONNX as a PyTorch module, exported and compiled",
        takes=("onnx",),
        gives="torchscript",
        rank=10,
        why="export keeps sizes that a trace can bake in",
        environment=TORCH.environment,
        convert=convert,
        last=True,
    )
)
