"""PyTorch modules as SavedModels: lowered to StableHLO by litert-torch, which TensorFlow runs as one operator.

Lowering needs PyTorch and writing needs TensorFlow, which never share a process: this module is also the program that
writes, `python -m convert.routes._stablehlo FOLDER OUT`.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from convert.errors import RouteError
from convert.formats import Draft
from convert.routes import Work
from convert.sources._tensorflow import input_names, output_names
from convert.spec import BATCH, Signature
from convert.torch_rewrites import rescued

if TYPE_CHECKING:
    import torch

VERSION = "1"  # of the folder that TensorFlow Serving loads
LOWERED, GRAPH, WEIGHTS = "lowered.json", "graph.mlir", "weights.npz"
ERROR_LINES = 3  # of the writing program's log, shown to the user


@dataclass(frozen=True, slots=True)
class Lowered:
    """A graph of fixed sizes: what its arguments are, and what it returns."""

    signature: Signature  # to serve
    arguments: tuple[int | str, ...]  # a position among the inputs, or the name of a weight
    shapes: tuple[tuple[int, ...], ...]  # of the results
    dtypes: tuple[str, ...]
    by_row: bool  # whether to call it for every case of the batch


def to_saved_model(work: Work) -> Draft:
    """Lower the module at batch 1 and write a SavedModel that calls it for every case of a free batch.

    Raises RouteError where the batch does not lead every input and output, or another dimension is free.
    """
    import tempfile

    signature = work.signature
    others = [name for name in signature.free if name != BATCH]
    if others:
        raise RouteError(
            f"litert-torch cannot leave {', '.join(others)} free (litert-torch#685, #711)",
            fix=f"give it a size with --fix {others[0]}=16",
        )
    specs = (*signature.inputs, *signature.outputs)
    if signature.free and any(spec.shape[:1] != (BATCH,) or BATCH in spec.shape[1:] for spec in specs):
        raise RouteError("the batch does not lead every input and output, so its cases cannot be computed one by one")
    with tempfile.TemporaryDirectory() as folder:
        rewritten = lower(work, Path(folder))
        words = [sys.executable, "-m", __name__, folder, str(work.out / VERSION)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join([line for line in done.stderr.splitlines() if line.strip()][-ERROR_LINES:])
        raise RouteError(f"TensorFlow could not write the lowered graph: {last}")
    notes = ("the batch is computed case by case",) if signature.free else ()
    return Draft(str(work.out), signature, input_names(signature), output_names(signature), notes, rewritten)


def lower(work: Work, folder: Path) -> tuple[str, ...]:
    """Write the module's StableHLO, its weights and what they mean into `folder`; says what had to be rewritten."""
    import numpy as np
    import torch
    from litert_converter.mlir import passmanager  # type: ignore[import-untyped]

    from convert.sources._measure import example
    from convert.sources._torch import graph_of_torchscript, positional

    signature = work.signature
    module = work.model
    if isinstance(module, torch.jit.ScriptModule):
        module = graph_of_torchscript(module, signature.inputs)
    tensors = tuple(torch.from_numpy(example(spec, {BATCH: 1})) for spec in signature.inputs)
    lowered, rewritten = _lowered(positional(module, signature), tensors)
    with lowered.ctx:
        passes = passmanager.PassManager.parse("builtin.module(inline, cse, canonicalize, cse)")
        passes.run(lowered.module.operation)
    # TensorFlow does not know the dialect `arith`, in which canonicalizing writes constants.
    text = lowered.module.operation.get_asm().replace("arith.constant", "stablehlo.constant")
    (folder / GRAPH).write_text(text, encoding="utf-8")
    arguments = [entry.input_spec for entry in lowered.input_signature]
    weights = {spec.name: lowered.state_dict[spec.name].detach().numpy() for spec in arguments if spec.is_parameter}
    np.savez(folder / WEIGHTS, **weights)
    facts = Lowered(
        signature=signature,
        arguments=tuple(spec.name if spec.is_parameter else spec.i for spec in arguments),
        shapes=tuple(tuple(map(int, entry.shape)) for entry in lowered.output_signature),
        dtypes=tuple(str(entry.dtype).removeprefix("torch.") for entry in lowered.output_signature),
        by_row=bool(signature.free),
    )
    (folder / LOWERED).write_bytes(msgspec.json.encode(facts))
    return rewritten


def _lowered(module: torch.nn.Module, tensors: tuple[torch.Tensor, ...]) -> tuple[Any, tuple[str, ...]]:
    """Lower a module, rewritten where litert-torch would get it wrong, or where it fails; says what was rewritten."""
    import torch
    from litert_torch.backend import export

    def lowered(asked: torch.nn.Module) -> Any:
        with torch.no_grad():
            program = torch.export.export(asked, tensors, strict=False)
            return export.exported_program_to_mlir(program.run_decompositions(), inline_constants=False)

    safe, said = rescued(module, tensors, only_wrong=True)
    try:
        return lowered(safe), said
    except Exception:
        rewritten, said = rescued(module, tensors)
        if not said:
            raise
        return lowered(rewritten), said


def write(folder: Path, out: Path) -> None:
    """Write what `lower` left as a SavedModel with a signature of positions; needs TensorFlow only."""
    import numpy as np
    import tensorflow as tf

    lowered = msgspec.json.decode((folder / LOWERED).read_bytes(), type=Lowered)
    with np.load(folder / WEIGHTS) as weights:
        variables = {name: tf.Variable(weights[name], trainable=False) for name in weights.files}
    call = _caller(lowered, variables, (folder / GRAPH).read_text(encoding="utf-8"))
    names = output_names(lowered.signature)
    wanted = [spec.dtype for spec in lowered.signature.outputs]
    specs = [
        tf.TensorSpec([None if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype, name=name)
        for spec, name in zip(lowered.signature.inputs, input_names(lowered.signature), strict=True)
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        if lowered.by_row:
            results = [
                tf.TensorSpec(shape[1:], dtype) for shape, dtype in zip(lowered.shapes, lowered.dtypes, strict=True)
            ]
            found = tf.map_fn(
                lambda row: [tensor[0] for tensor in call([part[None] for part in row])],
                list(tensors),
                fn_output_signature=results,
            )
        else:
            found = call(list(tensors))
        return {name: tf.cast(tensor, dtype) for name, tensor, dtype in zip(names, found, wanted, strict=True)}

    module = tf.Module()
    module.weights = list(variables.values())
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(out), signatures={"serving_default": module.serve})


def _caller(lowered: Lowered, variables: dict[str, Any], graph: str) -> Any:
    from tensorflow.compiler.tf2xla.python import xla

    def call(tensors: list[Any]) -> Any:
        arguments = [tensors[name] if isinstance(name, int) else variables[name] for name in lowered.arguments]
        return xla.call_module(
            arguments,
            version=xla.call_module_maximum_supported_version(),
            Tout=list(lowered.dtypes),
            Sout=[list(shape) for shape in lowered.shapes],
            module=graph,
            platforms=["CPU"],
        )

    return call


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
