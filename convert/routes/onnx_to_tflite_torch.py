"""ONNX to TFLite: the graph as a PyTorch module, through litert-torch with the batch left free."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work, torch_to_tflite
from convert.routes._litert_torch import LITERT_TORCH, POOR_AT
from convert.routes._onnx_torch import as_torch, rescued


def convert(work: Work) -> Draft:
    """Convert as any PyTorch module."""
    ready, rescues = as_torch(work, "litert-torch")
    return rescued(torch_to_tflite.convert(ready), rescues)


ROUTES.register(
    Route(
        name="onnx-litert-torch",
        title="ONNX as a PyTorch module, through litert-torch",
        takes=("onnx",),
        gives="tflite",
        rank=50,
        why="reads operators that onnx2tf does not, and keeps the layout of images",
        environment=LITERT_TORCH,
        convert=convert,
        poor_at=POOR_AT,
    )
)
