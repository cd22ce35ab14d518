"""Tracing, freezing and saving TorchScript modules."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.sources._measure import example, trial_sizes
from convert.sources._torch import positional
from convert.spec import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

#: Scales of floating inputs that a recording is tried on: a branch often asks whether something is positive or large.
SCALES = (1.0, -1.0, 0.01, 30.0)

#: By how much, as a share of an output's largest value, a recording may differ from the module it was made of. Both run
#: the same kernels; what a branch chooses is farther off.
RECORDING_TOLERANCE = 1e-3


def trace(module: torch.nn.Module, signature: Signature) -> torch.jit.ScriptModule:
    """Record one run of a module, and see that the record answers as the module does on other inputs and sizes.

    Raises RouteError, with the line in the module where PyTorch saw it, for a model whose inputs steer its control
    flow: the record holds one branch.
    """
    import torch

    called = positional(module, signature)
    sizes = trial_sizes(signature)
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs)
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        traced: torch.jit.ScriptModule = torch.jit.trace(called, tensors, check_trace=False)
    seen = [
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if issubclass(warning.category, torch.jit.TracerWarning)
        and "Converting a tensor to a Python" in str(warning.message)
    ]
    for told, inputs in _others(signature):
        reason = _difference(called, traced, inputs)
        if reason:
            where = f" (PyTorch saw a decision at {', '.join(dict.fromkeys(seen))})" if seen else ""
            raise RouteError(
                f"tracing recorded one run, and the model goes another way for other inputs{where}: {told}, {reason}",
                fix="write the decision as torch.where, or so that torch.jit.script compiles it",
            )
    return traced


def _others(signature: Signature) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Draw inputs unlike the recorded ones: of several scales, then with each free dimension at its second size."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for scale in SCALES:
        sizes = trial_sizes(signature)
        yield f"on inputs of scale {scale:g}", tuple(_drawn(spec, sizes, scale, generator) for spec in signature.inputs)
    for name in signature.free:
        sizes = trial_sizes(signature, name)
        inputs = tuple(_drawn(spec, sizes, 1.0, generator) for spec in signature.inputs)
        yield f"at {name}={sizes[name]}", inputs


def _drawn(spec: TensorSpec, sizes: dict[str, int], scale: float, generator: torch.Generator) -> torch.Tensor:
    import torch

    shape, dtype = spec.sized(sizes), getattr(torch, spec.dtype)
    if spec.dtype.startswith("float"):
        # A negative scale turns the sign of all, a positive one of half of them.
        drawn = torch.randn(shape, generator=generator)
        return (drawn * scale if scale > 0 else drawn.abs() * scale).to(dtype)
    low = spec.low or 0
    high = 1 if spec.high is None else spec.high
    drawn = torch.randint(low, high + 1, shape, generator=generator).to(dtype)
    if spec.name.endswith("attention_mask") and drawn.dim():
        drawn[..., 0] = 1
    return drawn


def _difference(called: Any, traced: Any, inputs: tuple[Any, ...]) -> str:
    """Say how a recording differs from its module on some inputs, or nothing where it does not."""
    import torch

    with torch.no_grad():
        expected = called(*inputs)
        try:
            actual = traced(*inputs)
        except RuntimeError as error:
            return f"it fails: {str(error).strip().splitlines()[-1]}"
    for position, (right, found) in enumerate(zip(expected, actual, strict=True)):
        if right.shape != found.shape:
            return f"output {position} has the shape {list(found.shape)} in place of {list(right.shape)}"
        right, found = (torch.nan_to_num(tensor.double()) for tensor in (right, found))
        off = (right - found).abs().max().item() if right.numel() else 0.0
        if off > RECORDING_TOLERANCE * max(right.abs().max().item() if right.numel() else 0.0, 1e-6):
            return f"output {position} is off by {off:.2g}"
    return ""


def save_frozen(module: torch.jit.ScriptModule, path: Path) -> None:
    """Freeze a scripted or traced module, so that its weights are constants the interpreter can fold, and save it."""
    import torch

    # A module that was frozen before has no mode left, and torch.jit.freeze fails on it.
    if hasattr(module, "training"):
        module = torch.jit.freeze(module.eval())
    torch.jit.save(module, str(path))
