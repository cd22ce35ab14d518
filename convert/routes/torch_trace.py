"""PyTorch to TorchScript by recording one run."""

from __future__ import annotations

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._torch_jit import save_frozen
from convert.sources import TORCH
from convert.sources._measure import example, trial_sizes
from convert.sources._torch import identifier, positional


def convert(work: Work) -> Draft:
    """Trace the module on an example; a branch that depends on the data is baked in, which parity is there to see."""
    import torch

    signature = work.signature
    sizes = trial_sizes(signature)
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs)
    with torch.no_grad():
        traced = torch.jit.trace(positional(work.model, signature), tensors, check_trace=False)
    save_frozen(traced, work.out)
    inputs = tuple(identifier(spec.name) for spec in signature.inputs)
    return Draft(str(work.out), signature, inputs, tuple(spec.name for spec in signature.outputs))


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
