"""PyTorch to TorchScript by compiling the module's source, which keeps its control flow."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from convert.errors import RouteError
from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._torch_jit import save_frozen
from convert.sources import TORCH
from convert.sources._torch import arguments
from convert.spec import Signature

if TYPE_CHECKING:
    import torch


def convert(work: Work) -> Draft:
    """Compile the module, or take it as it is where it is TorchScript already, and freeze a copy."""
    save_frozen(compiled(work.model, work.signature), work.out)
    inputs = tuple(spec.name for spec in work.signature.inputs)
    return Draft(str(work.out), work.signature, inputs, tuple(spec.name for spec in work.signature.outputs))


def compiled(module: torch.nn.Module, signature: Signature) -> torch.jit.ScriptModule:
    """Compile a module; gives a copy of what is TorchScript already.

    Raises RouteError where its arguments are not the signature's inputs in their order.
    """
    import torch

    if isinstance(module, torch.fx.GraphModule):
        module = compilable(module)
    scripted = copy.deepcopy(module) if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)
    inputs = tuple(spec.name for spec in signature.inputs)
    if arguments(scripted)[: len(inputs)] != inputs:
        raise RouteError(
            f"the compiled forward takes ({', '.join(arguments(scripted))}), the signature promises "
            f"({', '.join(inputs)}) in this order"
        )
    return scripted


#: Checks of export that compute nothing.
CHECKS = (
    *("aten._assert_tensor_metadata.default", "aten._assert_scalar.default"),
    "aten.sym_constrain_range_for_size.default",
)

#: Keyword arguments in exported graphs whose types TorchScript's compiler does not know.
KEYWORDS = ("device", "layout", "pin_memory")


def compilable(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Copy an exported graph so that TorchScript compiles it: operators without overloads, sizes read by `size`.

    NOTE: Why not traced: exported graphs read sizes with `aten.sym_size`, which a trace records as constants.
    """
    import torch

    graph = copy.deepcopy(module.graph)
    graph.set_codegen(torch.fx.graph.CodeGen())
    for node in list(graph.nodes):
        if node.op == "call_module" and str(node.target).startswith("_guards"):
            graph.erase_node(node)
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if str(node.target) in CHECKS:
            graph.erase_node(node)
        elif node.target is torch.ops.aten.sym_size.int:
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_method("size", node.args))
            graph.erase_node(node)
        else:
            node.kwargs = {key: value for key, value in node.kwargs.items() if key not in KEYWORDS}
            node.target = node.target.overloadpacket
    graph.eliminate_dead_code()
    return torch.fx.GraphModule(module, graph)


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
