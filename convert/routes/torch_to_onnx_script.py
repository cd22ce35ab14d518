"""PyTorch to ONNX through torch.onnx's older exporter, which reads TorchScript."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from convert.errors import RouteError
from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._torch_jit import trace
from convert.routes.torch_script import compiled
from convert.sources._measure import example, trial_sizes
from convert.spec import Signature
from convert.worker import Environment

if TYPE_CHECKING:
    import torch

#: NOTE: Why a process of its own: like the newer exporter, it changes PyTorch's global state.
TORCH_ONNX_SCRIPT = Environment("torch-onnx-script", ("torch", "torch.onnx", "onnx"))

OPSET = 20  # the newest that the older exporter writes (torch/onnx/_constants.py)


def convert(work: Work) -> Draft:
    """Export the compiled module, which keeps its loops and branches, or where that fails a record of one run."""
    import torch

    # A record would otherwise hold attention's fused kernels, which ONNX has no names for.
    torch.backends.mha.set_fastpath_enabled(value=False)
    signature = work.signature
    sizes = trial_sizes(signature)
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs)
    reasons = []
    for make in (compiled, trace):
        try:
            script = make(work.model, signature)
            _export(script, work, tensors)
        except Exception as error:  # noqa: BLE001  whatever it is, the other way may do
            reasons.append(f"{make.__name__}: {error}")
            continue
        inputs, outputs = _names(signature)
        return Draft(str(work.out), signature, inputs, outputs)
    raise RouteError("; ".join(reason.split("\n")[0] for reason in reasons))


def _names(signature: Signature) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs = tuple(f"edgeproof_input_{position}" for position in range(len(signature.inputs)))
    outputs = tuple(f"edgeproof_output_{position}" for position in range(len(signature.outputs)))
    return inputs, outputs


def _export(script: torch.jit.ScriptModule, work: Work, tensors: tuple[torch.Tensor, ...]) -> None:
    import torch

    inputs, outputs = _names(work.signature)
    specs = (*zip(inputs, work.signature.inputs, strict=True), *zip(outputs, work.signature.outputs, strict=True))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it announces its own retirement
        torch.onnx.export(
            script,
            tensors,
            str(work.out),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={
                name: {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} for name, spec in specs
            },
        )


ROUTES.register(
    Route(
        name="torch-onnx-script",
        title="torch.onnx (TorchScript)",
        takes=("torch",),
        gives="onnx",
        rank=20,
        why="for loops and branches on data, which torch.export refuses and TorchScript keeps",
        environment=TORCH_ONNX_SCRIPT,
        convert=convert,
    )
)
