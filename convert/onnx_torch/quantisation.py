"""Quantising and dequantising."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convert.onnx_torch.convolution import convolve
from convert.onnx_torch.table import Node, operator

RANGES = {
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.int16: (-32768, 32767),
    torch.uint16: (0, 65535),
    torch.int32: (-(1 << 31), (1 << 31) - 1),
}


def _spread(node: Node, parameter: Tensor, value: Tensor) -> Tensor:
    """Lay scales or zero points out so that they meet their elements: per tensor, per axis or per block."""
    if parameter.dim() == 0 or parameter.numel() == 1:
        return parameter.reshape([])
    axis = node.get("axis", 1) % value.dim()
    block = node.get("block_size", 0)
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, value.shape[axis])
    return parameter.reshape([-1 if i == axis else 1 for i in range(value.dim())])


@operator("DequantizeLinear")
def dequantize(node: Node, value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Give (value - zero point) * scale."""
    wide = value.to(scale.dtype)
    if zero is not None:
        wide = wide - _spread(node, zero, value).to(scale.dtype)
    return wide * _spread(node, scale, value)


@operator("QuantizeLinear")
def quantize(node: Node, value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Round value / scale + zero point, ties to even, into the zero point's type."""
    dtype = zero.dtype if zero is not None else torch.uint8
    if zero is None and node.get("output_dtype", 0):
        dtype = node.dtype(node.get("output_dtype"))
    if dtype not in RANGES:
        raise node.unsupported(f"the type {dtype}")
    steps = torch.round(value.to(scale.dtype) / _spread(node, scale, value))
    if zero is not None:
        steps = steps + _spread(node, zero, value).to(scale.dtype)
    low, high = RANGES[dtype]
    return steps.clamp(low, high).to(dtype)


@operator("DynamicQuantizeLinear")
def dynamic_quantize(_: Node, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise to uint8 by the value's own range."""
    low, high = value.min().clamp_max(0), value.max().clamp_min(0)
    scale = (high - low) / 255
    zero = torch.round((0 - low) / scale).clamp(0, 255)
    steps = (torch.round(value / scale) + zero).clamp(0, 255).to(torch.uint8)
    return steps, scale, zero.to(torch.uint8)


@operator("QLinearMatMul")
def quantized_matmul(
    node: Node,
    left: Tensor,
    left_scale: Tensor,
    left_zero: Tensor,
    right: Tensor,
    right_scale: Tensor,
    right_zero: Tensor,
    scale: Tensor,
    zero: Tensor,
) -> Tensor:
    """Multiply quantised matrices and quantise the product."""

    def real(value: Tensor, zero_point: Tensor, *, rows: bool) -> Tensor:
        offset = zero_point.double()
        offset = offset.reshape(-1, 1) if rows and offset.dim() == 1 and offset.numel() > 1 else offset
        return value.double() - offset

    product = torch.matmul(real(left, left_zero, rows=True), real(right, right_zero, rows=False))
    scale_left = left_scale.reshape(-1, 1) if left_scale.numel() > 1 else left_scale
    factor = scale_left.double() * right_scale.double() / scale.double()
    low, high = RANGES[zero.dtype]
    del node
    return (torch.round(product * factor) + zero.double()).clamp(low, high).to(zero.dtype)


@operator("QLinearConv")
def quantized_convolution(
    node: Node,
    value: Tensor,
    value_scale: Tensor,
    value_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    scale: Tensor,
    zero: Tensor,
    bias: Any = None,
) -> Tensor:
    """Convolve quantised values and quantise the result."""
    shape = [-1, *[1] * (weight.dim() - 1)]
    real_weight = weight.double() - weight_zero.double().reshape(shape if weight_zero.dim() else [])
    total = convolve(node, value.double() - value_zero.double(), real_weight)
    channels = [1, -1, *[1] * (weight.dim() - 2)]
    if bias is not None:
        total = total + bias.double().reshape(channels)
    factor = value_scale.double() * weight_scale.double() / scale.double()
    factor = factor.reshape(channels) if factor.numel() > 1 else factor.reshape([])
    low, high = RANGES[zero.dtype]
    return (torch.round(total * factor) + zero.double()).clamp(low, high).to(zero.dtype)
