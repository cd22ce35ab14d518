"""ONNX to TorchScript: the graph as a PyTorch module, traced."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work, torch_trace
from convert.routes._onnx_torch import as_torch, rescued
from convert.sources import TORCH


def convert(work: Work) -> Draft:
    """Trace on an example; the module keeps sizes recorded, and refuses conditions that depend on the data."""
    ready, rescues = as_torch(work)
    return rescued(torch_trace.convert(ready), rescues)


ROUTES.register(
    Route(
        name="onnx-torch-trace",
        title="ONNX as a PyTorch module, traced",
        takes=("onnx",),
        gives="torchscript",
        rank=20,
        why="for graphs that torch.export refuses",
        environment=TORCH.environment,
        convert=convert,
        last=True,
    )
)
