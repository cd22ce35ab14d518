"""PyTorch to TorchScript by compiling the module's source, which keeps its control flow."""

from __future__ import annotations

import copy

from convert.errors import RouteError
from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._torch_jit import save_frozen
from convert.sources import TORCH
from convert.sources._torch import arguments


def convert(work: Work) -> Draft:
    """Compile the module, or take it as it is where it is TorchScript already, and freeze a copy."""
    import torch

    module = work.model
    if isinstance(module, torch.fx.GraphModule):
        raise RouteError("an exported graph has no source to compile")
    scripted = copy.deepcopy(module) if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)
    inputs = tuple(spec.name for spec in work.signature.inputs)
    if arguments(scripted)[: len(inputs)] != inputs:
        raise RouteError(
            f"the compiled forward takes ({', '.join(arguments(scripted))}), the signature promises "
            f"({', '.join(inputs)}) in this order"
        )
    save_frozen(scripted, work.out)
    return Draft(str(work.out), work.signature, inputs, tuple(spec.name for spec in work.signature.outputs))


ROUTES.register(
    Route(
        name="torch-script",
        title="torch.jit.script",
        takes=("torch",),
        gives="torchscript",
        rank=10,
        why="compiling keeps branches and loops that tracing bakes in",
        environment=TORCH.environment,
        convert=convert,
    )
)
