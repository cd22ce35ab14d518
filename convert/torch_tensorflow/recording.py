"""The half that needs PyTorch: exports a module with its free dimensions free, and records what it does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.formats import Draft
from convert.sources._measure import example, trial_sizes
from convert.sources._tensorflow import input_names, output_names
from convert.sources._torch import graph_of_torchscript, positional
from convert.spec import Signature
from convert.torch_tensorflow.program import DTYPE, NUMBER, VALUE, WEIGHTS, Program, Step
from convert.worker import summary

if TYPE_CHECKING:
    import torch

VERSION = "1"  # of the folder that TensorFlow Serving loads
ERROR_LINES = 3  # of the writing program's log, shown to the user

#: Arguments that say where and how a tensor lies in memory.
PLACES = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking", "implicit", "requires_grad"})


def to_tensorflow(module: torch.nn.Module, signature: Signature, out: Path) -> Draft:
    """Write a SavedModel that computes what `module` does, operator by operator.

    Raises RouteError for an operator that is not known here, for state the model changes, and where PyTorch's export
    fixes a dimension that the signature leaves free.
    """
    if importlib.util.find_spec("tensorflow") is None:  # before the minutes that an export may take
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record(exported(module, signature), signature, folder)
        words = [sys.executable, "-m", "convert.torch_tensorflow.writing", name, str(out / VERSION)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join([line for line in done.stderr.splitlines() if line.strip()][-ERROR_LINES:])
        raise RouteError(f"TensorFlow could not write the graph: {last}")
    return Draft(str(out), signature, input_names(signature), output_names(signature))


def exported(module: torch.nn.Module, signature: Signature) -> torch.export.ExportedProgram:
    """Export a module to a graph of core ATen operators, the signature's free dimensions free."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        module = graph_of_torchscript(module, signature.inputs)
    sizes = trial_sizes(signature)
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs)
    # NOTE: Why AUTO and not named dimensions: export refuses those wherever it cannot prove that a network takes every
    # size, a convolution with strides for one; whether it fixed one is looked at below.
    dims = tuple(
        {axis: torch.export.Dim.AUTO for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in signature.inputs
    )
    with torch.no_grad():
        program = torch.export.export(
            positional(module, signature),
            tensors,
            dynamic_shapes=dims,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        ).run_decompositions()
    shapes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder"}
    for spec, name in zip(signature.inputs, program.graph_signature.user_inputs, strict=True):
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and isinstance(shapes[name][axis], int):
                raise RouteError(
                    f"PyTorch's export fixes {dim} at {shapes[name][axis]}", fix=f"give it a size with --fix {dim}=16"
                )
    return program


def record(program: torch.export.ExportedProgram, signature: Signature, folder: Path) -> None:
    """Write a program's steps and weights into a folder."""
    import numpy as np

    contract = program.graph_signature
    if contract.buffers_to_mutate or contract.user_inputs_to_mutate:
        changed = ", ".join((contract.buffers_to_mutate or contract.user_inputs_to_mutate).values())
        raise RouteError(f"the model changes {changed} as it runs, which a SavedModel's signature cannot")
    names = contract.inputs_to_parameters | contract.inputs_to_buffers | contract.inputs_to_lifted_tensor_constants
    held = {**program.constants, **program.state_dict}
    weights = {node: held[name].detach().cpu().numpy() for node, name in names.items()}
    np.savez(folder / WEIGHTS, **weights)
    outputs = tuple(map(str, contract.user_outputs))
    steps = tuple(step_of(node) for node in needed(program.graph, outputs))
    Program(signature, tuple(map(str, contract.user_inputs)), tuple(weights), steps, outputs).save(folder)


def needed(graph: torch.fx.Graph, outputs: tuple[str, ...]) -> list[torch.fx.Node]:
    """Give the calls that the outputs come from, in order: the others only check sizes."""
    used, found = set(outputs), []
    for node in reversed(graph.nodes):
        if node.op == "call_function" and node.name in used:
            used |= {source.name for source in node.all_input_nodes}
            found.append(node)
    return found[::-1]


def step_of(node: torch.fx.Node) -> Step:
    """Record one call."""
    import torch

    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else (value,)
    tensors = [one for one in values if isinstance(one, torch.Tensor)]
    target = node.target
    name = str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))
    return Step(
        name=node.name,
        operator=name,
        args=[plain(arg) for arg in node.args],
        kwargs={key: plain(arg) for key, arg in node.kwargs.items() if key not in PLACES and arg is not None},
        dtypes=tuple(str(one.dtype).removeprefix("torch.") for one in tensors),
        shapes=tuple(tuple(size if isinstance(size, int) else None for size in one.shape) for one in tensors),
    )


def plain(value: Any) -> Any:
    """Give an argument as JSON can hold it."""
    import torch

    if isinstance(value, torch.fx.Node):
        return {VALUE: value.name}
    if isinstance(value, torch.dtype):
        return {DTYPE: str(value).removeprefix("torch.")}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return {NUMBER: str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
        return None
    raise RouteError(f"an argument is a {type(value).__name__} ({summary(value)}), which has no place in a graph")
