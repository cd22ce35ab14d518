"""ONNX to TFLite: the graph as a PyTorch module, through litert-torch with the batch fixed to one."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work, has_free_batch, torch_to_tflite_fixed
from convert.routes._litert_torch import LITERT_TORCH, POOR_AT
from convert.routes._onnx_torch import as_torch, rescued


def convert(work: Work) -> Draft:
    """Convert as any PyTorch module, at batch 1."""
    ready, rescues = as_torch(work, "litert-torch")
    return rescued(torch_to_tflite_fixed.convert(ready), rescues)


ROUTES.register(
    Route(
        name="onnx-litert-torch-batch1",
        title="ONNX as a PyTorch module, through litert-torch at batch 1",
        takes=("onnx",),
        gives="tflite",
        rank=60,
        why="for graphs that hold the batch size where it cannot be freed",
        environment=LITERT_TORCH,
        convert=convert,
        applies=has_free_batch,
        fixes=True,
        poor_at=POOR_AT,
    )
)
