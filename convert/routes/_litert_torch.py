"""Converting a PyTorch module with litert-torch, which only knows fixed sizes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import RouteError
from convert.formats import Draft
from convert.formats.tflite import read
from convert.routes import Work
from convert.routes._free_sizes import free_sizes, recognisable_sizes
from convert.routes._module_names import shorten_names
from convert.sources._measure import example
from convert.sources._torch import graph_of_torchscript, positional
from convert.spec import RECURRENT, Signature, TensorSpec
from convert.torch_rewrites import rescued
from convert.worker import Environment

#: What its files are slow at: recurrences are unrolled (litert-torch#53), 1.35 times onnx2tf's latency for an LSTM.
POOR_AT = (RECURRENT,)

#: Operators, and how many of them, by which its lowering of grid_sample shows; a rewrite of it is many times faster.
SLOW = {"GATHER_ND": 4, "FLOOR": 2}

if TYPE_CHECKING:
    import numpy as np
    import torch

LITERT_TORCH = Environment("litert-torch", ("litert_torch", "ai_edge_litert.schema_py_generated", "flatbuffers"))


def convert_free(work: Work, signature: Signature) -> Draft:
    """Convert a model whose file is to keep `signature`, which may fix dimensions that the model leaves free.

    Free dimensions are converted at recognisable sizes and freed afterwards. litert-torch names inputs `args_0`, ...
    and outputs `output_0`, ... in their order.
    """
    import torch

    logging.getLogger().setLevel(logging.ERROR)
    module = work.model
    if isinstance(module, torch.jit.ScriptModule):
        module = graph_of_torchscript(module, work.signature.inputs)
    sizes = recognisable_sizes(signature.free, taken_sizes(module, signature))
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs)
    rewritten = _lower(positional(module, work.signature, work.permutations), tensors, work.out)
    freed = free_sizes(work.out, sizes, signature, tables(module)) if sizes else ()
    kept, notes = narrowed(signature)
    return replace(draft(work, kept, notes), rescues=(*rewritten, *freed))


def _lower(module: torch.nn.Module, tensors: tuple[torch.Tensor, ...], out: Path) -> tuple[str, ...]:
    """Write a module's file, again with its graph rewritten where litert-torch fails or does poorly; says what was.

    NOTE: Why only then: exporting a graph to look at it takes as long as a small model's conversion.
    """
    try:
        operators = _write(module, tensors, out)
    except Exception:
        rewritten, said = rescued(module, tensors)
        if not said:
            raise
        _write(rewritten, tensors, out)
        return said
    if all(operators.get(name, 0) >= count for name, count in SLOW.items()):
        rewritten, said = rescued(module, tensors)
        if said:
            faster = out.with_name(f"rewritten-{out.name}")
            _write(rewritten, tensors, faster)
            faster.replace(out)
        return said
    return ()


def _write(module: torch.nn.Module, tensors: tuple[torch.Tensor, ...], out: Path) -> dict[str, int]:
    """Convert and write; gives how many operators of each kind there are.

    Raises RouteError where some were left that TFLite only names and cannot run.
    """
    import litert_torch
    import torch

    with torch.no_grad():
        litert_torch.convert(module, tensors).export(str(out))
    operators = read(out).operators
    left = [name for name in operators if name.startswith("STABLEHLO_")]
    if left:
        raise RouteError(f"litert-torch left {', '.join(left)} in the graph, which no runtime has")
    shorten_names(out)
    return operators


def taken_sizes(module: torch.nn.Module, signature: Signature) -> set[int]:
    """Give the sizes that weights, inputs and outputs have already."""
    fixed = {dim for spec in (*signature.inputs, *signature.outputs) for dim in spec.shape if isinstance(dim, int)}
    return fixed | {size for tensor in module.state_dict().values() for size in getattr(tensor, "shape", ())}


def tables(module: torch.nn.Module) -> list[np.ndarray]:
    """Give the weights and buffers in which a row may stand for a position, and those that may be frequencies."""
    tensors = [*module.parameters(), *module.buffers()]
    flat = [
        tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() == 3 and 1 in tensor.shape[:2] else tensor
        for tensor in tensors
    ]
    return [tensor.detach().numpy() for tensor in flat if tensor.dim() in (1, 2)]


def narrowed(signature: Signature) -> tuple[Signature, tuple[str, ...]]:
    """Give the signature with 64-bit numbers as litert-torch writes them, 32 bits wide, and a note for each."""
    notes = []

    def narrow(spec: TensorSpec) -> TensorSpec:
        if spec.dtype not in ("int64", "float64"):
            return spec
        smaller = spec.dtype.replace("64", "32")
        notes.append(f"{spec.name} is {smaller}, the source's is {spec.dtype}")
        return replace(spec, dtype=smaller)

    return Signature(tuple(map(narrow, signature.inputs)), tuple(map(narrow, signature.outputs))), tuple(notes)


def draft(work: Work, signature: Signature, notes: tuple[str, ...]) -> Draft:
    """Describe the file litert-torch wrote: its names for the tensors are positions."""
    inputs = tuple(f"args_{position}" for position in range(len(signature.inputs)))
    outputs = tuple(f"output_{position}" for position in range(len(signature.outputs)))
    return Draft(str(work.out), signature, inputs, outputs, notes)
