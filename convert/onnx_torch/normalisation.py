"""Normalisations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name
from torch import Tensor

from convert.onnx_torch.table import Node, operator


def _per_channel(parameter: Tensor, value: Tensor) -> Tensor:
    return parameter.reshape(1, -1, *[1] * (value.dim() - 2))


@operator("BatchNormalization")
def batch_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Any:
    """Normalise by the statistics of training; in training mode by the batch's own, and update them."""
    epsilon = node.get("epsilon", 1e-5)
    if not node.get("training_mode", 0):
        common = value.dtype
        mean, variance, scale, bias = (parameter.to(common) for parameter in (mean, variance, scale, bias))
        return F.batch_norm(value, mean, variance, scale, bias, training=False, eps=epsilon)
    axes = [axis for axis in range(value.dim()) if axis != 1]
    current = value.mean(axes), value.var(axes, unbiased=False)
    momentum = node.get("momentum", 0.9)
    found = (value - _per_channel(current[0], value)) / torch.sqrt(_per_channel(current[1], value) + epsilon)
    found = found * _per_channel(scale, value) + _per_channel(bias, value)
    running = (old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), current, strict=True))
    return (found, *running)


@operator("InstanceNormalization")
def instance_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalise each plane by itself."""
    axes = list(range(2, value.dim()))
    mean = value.mean(axes, keepdim=True)
    variance = ((value - mean) ** 2).mean(axes, keepdim=True)
    normal = (value - mean) / torch.sqrt(variance + node.get("epsilon", 1e-5))
    return normal * _per_channel(scale, value) + _per_channel(bias, value)


@operator("LayerNormalization")
def layer_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    """Normalise over the axes from `axis` on."""
    axis = node.get("axis", -1) % value.dim()
    shape = list(value.shape[axis:])
    epsilon = node.get("epsilon", 1e-5)
    if len(node.outputs) == 1 and list(scale.shape) == list(shape) and (bias is None or bias.shape == scale.shape):
        return F.layer_norm(value, tuple(scale.shape), scale, bias, epsilon)
    axes = list(range(axis, value.dim()))
    mean = value.mean(axes, keepdim=True)
    inverse = torch.rsqrt(((value - mean) ** 2).mean(axes, keepdim=True) + epsilon)
    found = (value - mean) * inverse * scale
    return (found if bias is None else found + bias, mean, inverse)[: len(node.outputs)]


@operator("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(node: Node, value: Tensor, scale: Tensor) -> Any:
    """Divide by the root mean square over the axes from `axis` on."""
    axes = list(range(node.get("axis", -1) % value.dim(), value.dim()))
    inverse = torch.rsqrt((value * value).mean(axes, keepdim=True) + node.get("epsilon", 1e-5))
    found = value * inverse * scale
    return found if len(node.outputs) == 1 else (found, inverse)


@operator("GroupNormalization")
def group_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalise groups of channels; scale and bias are one per group before opset 21, one per channel from then on."""
    groups, epsilon = node.get("num_groups"), node.get("epsilon", 1e-5)
    channels = value.shape[1]
    if scale.shape[0] != channels:
        scale, bias = (parameter.repeat_interleave(channels // groups) for parameter in (scale, bias))
    return F.group_norm(value, groups, scale, bias, epsilon)


@operator("LRN")
def local_response_norm(node: Node, value: Tensor) -> Tensor:
    """Normalise across neighbouring channels."""
    size = node.get("size")
    squares = (value * value).unsqueeze(1)
    pads = [0, 0] * (value.dim() - 2) + [(size - 1) // 2, size - 1 - (size - 1) // 2]
    filled = F.pad(squares, pads)
    channels = value.shape[1]
    total = sum(filled.narrow(2, offset, channels) for offset in range(size))
    scale = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * total.squeeze(1)
    return value / scale ** node.get("beta", 0.75)


@operator("LpNormalization")
def lp_norm(node: Node, value: Tensor) -> Tensor:
    """Divide by the norm along an axis; zeros stay zeros."""
    axis = node.get("axis", -1)
    norm = value.abs().sum(axis, keepdim=True)
    if node.get("p", 2) == 2:
        norm = (value * value).sum(axis, keepdim=True).sqrt()
    return torch.where(norm == 0, torch.zeros_like(value), value / norm)


@operator("MeanVarianceNormalization")
def mean_variance_norm(node: Node, value: Tensor) -> Tensor:
    """Centre and scale to unit variance over axes."""
    axes = node.get("axes", [0, 2, 3])
    mean = value.mean(axes, keepdim=True)
    deviation = ((value - mean) ** 2).mean(axes, keepdim=True).sqrt()
    return (value - mean) / (deviation + 1e-9)
