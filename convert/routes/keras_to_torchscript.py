"""Keras to TorchScript: the model runs on Keras's PyTorch backend and is traced there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.formats import Draft
from convert.routes import ROUTES, Route, Work
from convert.routes._torch_jit import save_frozen
from convert.sources import UNASKED
from convert.sources._measure import example, trial_sizes
from convert.sources._torch import identifier, shown_as
from convert.worker import Environment

if TYPE_CHECKING:
    import torch

    from convert.spec import Signature

KERAS_TORCH = Environment("keras-torch", ("torch", "keras"), (("KERAS_BACKEND", "torch"),), without=UNASKED)


def convert(work: Work) -> Draft:
    """Trace the model at an example's sizes; Keras's own layers read the batch size at run time."""
    import torch

    signature = work.signature
    sizes = trial_sizes(signature)
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs)
    module = wrap(work.model, signature)
    # Tracing refuses constants that require gradients.
    module.requires_grad_(requires_grad=False)
    with torch.no_grad():
        traced = torch.jit.trace(module, tensors, check_trace=False)
    save_frozen(traced, work.out)
    inputs = tuple(identifier(spec.name) for spec in signature.inputs)
    return Draft(str(work.out), signature, inputs, tuple(spec.name for spec in signature.outputs))


def wrap(model: Any, signature: Signature) -> torch.nn.Module:
    """Wrap a Keras model on the torch backend as a module from positions to positions."""
    import torch

    from convert.sources._keras import call

    names = tuple(spec.name for spec in signature.inputs)

    class KerasModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = call(self.model, dict(zip(names, tensors, strict=True)))
            # Keras on PyTorch gives int64 where it gives int32 on TensorFlow (top_k).
            return tuple(found[spec.name].to(getattr(torch, spec.dtype)) for spec in signature.outputs)

    shown_as(KerasModule, names)
    return KerasModule().eval()


ROUTES.register(
    Route(
        name="keras-torch-trace",
        title="Keras on PyTorch, traced",
        takes=("keras",),
        gives="torchscript",
        rank=10,
        why="Keras 3 computes the same on both backends; exact on MobileNetV2",
        environment=KERAS_TORCH,
        convert=convert,
    )
)
