"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name
from torch import Tensor

from convert.onnx_torch.table import Node, operator

_PLAIN: dict[str, Callable[[Node, Tensor], Tensor]] = {
    "Relu": lambda _, x: torch.relu(x),
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Softplus": lambda _, x: F.softplus(x),
    "Softsign": lambda _, x: F.softsign(x),
    "HardSwish": lambda _, x: F.hardswish(x),
    "Mish": lambda _, x: F.mish(x),
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01)),
    "Elu": lambda node, x: F.elu(x, node.get("alpha", 1.0)),
    "Celu": lambda node, x: F.celu(x, node.get("alpha", 1.0)),
    "ThresholdedRelu": lambda node, x: F.threshold(x, node.get("alpha", 1.0), 0.0),
    "Gelu": lambda node, x: F.gelu(x, approximate=node.get("approximate", "none")),
    "Swish": lambda node, x: x * torch.sigmoid(node.get("alpha", 1.0) * x),
}

for _name, _compute in _PLAIN.items():
    operator(_name)(_compute)


@operator("Selu")
def selu(node: Node, value: Tensor) -> Tensor:
    """Scaled exponential linear unit; by default with ONNX's constants, which are rounded to float32."""
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    return gamma * torch.where(value > 0, value, alpha * (torch.exp(value) - 1))


@operator("HardSigmoid")
def hard_sigmoid(node: Node, value: Tensor) -> Tensor:
    """Give max(0, min(1, alpha * x + beta))."""
    return torch.clamp(value * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1)


@operator("PRelu")
def prelu(_: Node, value: Tensor, slope: Tensor) -> Tensor:
    """Leak by learned slopes, which broadcast."""
    return torch.where(value < 0, value * slope, value)


@operator("Shrink")
def shrink(node: Node, value: Tensor) -> Tensor:
    """Shrink towards zero beyond a threshold."""
    bias, threshold = node.get("bias", 0.0), node.get("lambd", 0.5)
    zero = torch.zeros_like(value)
    return torch.where(value < -threshold, value + bias, torch.where(value > threshold, value - bias, zero))


def _over_axis(function: Callable[..., Tensor]) -> Callable[[Node, Tensor], Tensor]:
    def compute(node: Node, value: Tensor) -> Tensor:
        if node.version >= 13:
            return function(value, node.get("axis", -1))
        # Older operator sets flatten everything from the axis on.
        axis = node.get("axis", 1) % max(value.dim(), 1)
        if axis == value.dim() - 1:
            return function(value, -1)
        return function(value.flatten(axis), -1).reshape(value.shape)

    return compute


operator("Softmax")(_over_axis(torch.softmax))
operator("LogSoftmax")(_over_axis(torch.log_softmax))


def _hardmax(value: Tensor, axis: int) -> Tensor:
    best = value.argmax(axis, keepdim=True)
    return torch.zeros_like(value).scatter(axis, best, 1)


operator("Hardmax")(_over_axis(_hardmax))
