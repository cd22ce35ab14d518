"""Converting a PyTorch module of fixed sizes with litert-torch."""

from __future__ import annotations

import logging
from dataclasses import replace

from convert.errors import RouteError
from convert.formats import Draft
from convert.routes import Work
from convert.sources._measure import example
from convert.sources._torch import graph_of_torchscript, positional
from convert.spec import BATCH, GRID_SAMPLE, RECURRENT, Signature, TensorSpec
from convert.worker import Environment

#: What its files are slow at: recurrences are unrolled (litert-torch#53), 1.35 times onnx2tf's latency for an LSTM;
#: grid_sample takes 6 times onnx2tf's.
POOR_AT = (RECURRENT, GRID_SAMPLE)

LITERT_TORCH = Environment("litert-torch", ("litert_torch", "ai_edge_litert.schema_py_generated", "flatbuffers"))


def require_only_batch(signature: Signature) -> None:
    """Raise RouteError where a dimension other than the batch is free, which litert-torch cannot hold."""
    others = [name for name in signature.free if name != BATCH]
    if others:
        specs = [spec for spec in signature.inputs if set(others) & set(spec.free)]
        raise RouteError(
            f"litert-torch cannot leave {', '.join(others)} free (litert-torch#685, #711)",
            fix=f"give it a size with --input, for example in '{specs[0]}'",
        )


def convert_at(work: Work, batch: int) -> tuple[Signature, tuple[str, ...]]:
    """Convert with the batch fixed to `batch`; give the signature the file can keep and what changed, as notes.

    litert-torch names inputs `args_0`, ... and outputs `output_0`, ... in their order.
    """
    import litert_torch
    import torch

    logging.getLogger().setLevel(logging.ERROR)
    require_only_batch(work.signature)
    module = work.model
    if isinstance(module, torch.jit.ScriptModule):
        module = graph_of_torchscript(module, work.signature.inputs)
    tensors = tuple(torch.from_numpy(example(spec, {BATCH: batch})) for spec in work.promised.inputs)
    with torch.no_grad():
        edge = litert_torch.convert(positional(module, work.signature, work.permutations), tensors)
    edge.export(str(work.out))
    return narrowed(work.promised)


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
