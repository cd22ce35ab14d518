"""PyTorch as the reference, in the source's precision or in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.sources import TORCH, load
from convert.sources._state import as_it_was
from convert.sources._torch import graph_of_torchscript, run
from convert.spec import Signature
from convert.worker import summary
from validators.runtimes import RUNTIMES, Arrays, Runtime, Session, Subject

if TYPE_CHECKING:
    import numpy as np
    import torch


class TorchSession(Session):
    """A module that runs on named arrays."""

    def __init__(self, module: torch.nn.Module, signature: Signature, dtype: str) -> None:
        self._module = module
        self._names = tuple(spec.name for spec in signature.outputs)
        self._dtype = dtype

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the module; floating inputs are cast up first where it computes in float64."""
        import torch

        before = torch.get_default_dtype()
        # Constants that a forward makes as it runs follow PyTorch's default.
        torch.set_default_dtype(torch.float64 if self._dtype else before)
        try:
            return run(self._module, widened(inputs, self._dtype), self._names)
        finally:
            torch.set_default_dtype(before)


def open_torch(subject: Subject) -> TorchSession:
    """Load the module, and make it compute in float64 where asked."""
    import torch

    torch.set_num_threads(subject.threads)
    model = load(subject.file, subject.options)
    module = model.model
    if subject.dtype == "float64":
        module = in_float64(module, model.facts.signature)
    return TorchSession(module, model.facts.signature, subject.dtype)


def widened(inputs: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """Cast floating inputs to `dtype`, or leave them where it is empty."""
    if not dtype:
        return dict(inputs)
    return {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in inputs.items()}


def in_float64(module: torch.nn.Module, signature: Signature) -> torch.nn.Module:
    """Copy a module so that it computes in float64 throughout.

    Weights and buffers are cast; an exported graph's constants and explicit dtypes are rewritten too. TorchScript whose
    weights are frozen into constants goes through such a graph. Raises LoadError where none of this runs.
    """
    import torch

    attempts: list[Callable[[], torch.nn.Module]] = [lambda: widen(copy.deepcopy(module))]
    if isinstance(module, torch.jit.ScriptModule):
        attempts.append(lambda: widen(graph_of_torchscript(module, signature.inputs)))
    reasons = []
    for attempt in attempts:
        try:
            widest = attempt()
            with as_it_was(widest):
                tried = TorchSession(widest, signature, "float64").run(trial(signature))
        except Exception as error:  # noqa: BLE001  any failure means the same: this attempt cannot run in float64
            reasons.append(f"{type(error).__name__}: {summary(error, 2)}")
            continue
        narrow = [name for name, array in tried.items() if array.dtype.kind == "f" and array.dtype != "float64"]
        if not narrow:
            return widest
        reasons.append(f"output {narrow[0]} stayed {tried[narrow[0]].dtype}")
    raise LoadError(f"the model does not run in float64: {reasons[-1]}")


def trial(signature: Signature) -> dict[str, np.ndarray]:
    """Make one set of inputs to see whether a model runs at all."""
    from convert.sources._measure import example, trial_sizes

    sizes = trial_sizes(signature)
    return {spec.name: example(spec, sizes) for spec in signature.inputs}


def widen(module: torch.nn.Module) -> torch.nn.Module:
    """Cast a module's weights to float64 in place and, in an exported graph, everything that names a dtype."""
    import torch

    module.double()
    if not isinstance(module, torch.fx.GraphModule):
        return module
    for name, value in list(vars(module).items()):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(module, name, value.double())
    for node in module.graph.nodes:
        node.args = torch.fx.node.map_aggregate(node.args, _widened_dtype)
        node.kwargs = torch.fx.node.map_aggregate(node.kwargs, _widened_dtype)
    module.recompile()
    return module


def _widened_dtype(argument: Any) -> Any:
    import torch

    return torch.float64 if argument in (torch.float32, torch.float16, torch.bfloat16) else argument


RUNTIMES.register(Runtime("torch", "PyTorch", TORCH.environment, open_torch, families=("torch",)))
