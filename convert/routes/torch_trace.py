"""PyTorch to TorchScript by recording one run."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._torch_jit import save_frozen, trace
from convert.sources import TORCH
from convert.sources._torch import identifier


def convert(work: Work) -> Draft:
    """Trace the module; one whose inputs steer its control flow is refused."""
    save_frozen(trace(work.model, work.signature), work.out)
    inputs = tuple(identifier(spec.name) for spec in work.signature.inputs)
    return Draft(str(work.out), work.signature, inputs, tuple(spec.name for spec in work.signature.outputs))


ROUTES.register(
    Route(
        name="torch-trace",
        title="torch.jit.trace",
        takes=("torch",),
        gives="torchscript",
        rank=20,
        why="for modules the TorchScript compiler refuses",
        environment=TORCH.environment,
        convert=convert,
    )
)
