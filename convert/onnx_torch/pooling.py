"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name
from torch import Tensor

from convert.onnx_torch.convolution import paddings, spatial
from convert.onnx_torch.table import Node, operator
from convert.onnx_torch.values import length

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _geometry(node: Node, value: Tensor) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Give kernel, strides, dilations and the padding before and after, that for rounding up included."""
    kernel = list(node.get("kernel_shape"))
    rank = len(kernel)
    strides, dilations = spatial(node, "strides", rank, 1), spatial(node, "dilations", rank, 1)
    begins, ends = paddings(node, value, kernel, strides, dilations)
    return kernel, strides, dilations, begins, ends


def _rounding_up(node: Node, value: Tensor, geometry: tuple[list[int], ...]) -> list[int]:
    """Say how many more cells after each axis make the last, partial window whole; none where it starts outside."""
    kernel, strides, dilations, begins, ends = geometry
    more = [0] * len(kernel)
    if node.get("ceil_mode", 0):
        for axis in range(len(kernel)):
            size = length(value, axis + 2) + begins[axis] + ends[axis]
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            windows = -(-(size - reach) // strides[axis]) + 1
            if (windows - 1) * strides[axis] >= size - ends[axis]:
                windows -= 1
            more[axis] = max(0, (windows - 1) * strides[axis] + reach - size)
    return more


def _flat(begins: list[int], ends: list[int]) -> list[int]:
    return [pad for pair in reversed(list(zip(begins, ends, strict=True))) for pad in pair]


@operator("MaxPool")
def max_pool(node: Node, value: Tensor) -> Any:
    """Take the largest of each window."""
    geometry = kernel, strides, dilations, begins, ends = _geometry(node, value)
    if len(kernel) not in _MAX:
        raise node.unsupported(f"the {len(kernel)} spatial axes")
    indices = len(node.outputs) > 1 and bool(node.outputs[1])
    more = _rounding_up(node, value, geometry)
    ends = [end + extra for end, extra in zip(ends, more, strict=True)]
    fits = begins == ends and all(2 * pad <= size for pad, size in zip(begins, kernel, strict=True))
    kept = value.dtype
    work = value if kept.is_floating_point else value.to(torch.float64)
    if indices:
        return _max_pool_with_indices(node, work, (kernel, strides, dilations, begins, ends), kept)
    if fits:
        found = _MAX[len(kernel)](work, kernel, strides, begins, dilations)
    else:
        filled = F.pad(work, _flat(begins, ends), value=_least(work))
        found = _MAX[len(kernel)](filled, kernel, strides, 0, dilations)
    return found.to(kept)


def _least(value: Tensor) -> float:
    # NOTE: Why not minus infinity: converters turn it into PADV2 with a constant some kernels refuse.
    return float(torch.finfo(value.dtype).min)


def _max_pool_with_indices(node: Node, value: Tensor, geometry: tuple[list[int], ...], kept: torch.dtype) -> Any:
    kernel, strides, dilations, begins, ends = geometry
    spatial_sizes = [length(value, axis + 2) for axis in range(len(kernel))]
    filled = F.pad(value, _flat(begins, ends), value=-math.inf)
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    found, flat = pool(filled, kernel, strides, 0, dilations, return_indices=True)
    padded_sizes = [s + b + e for s, b, e in zip(spatial_sizes, begins, ends, strict=True)]
    positions = []
    for size, begin in zip(reversed(padded_sizes), reversed(begins), strict=True):
        positions.append(flat % size - begin)
        flat = flat // size
    positions.reverse()
    order = range(len(kernel)) if not node.get("storage_order", 0) else reversed(range(len(kernel)))
    index = torch.zeros_like(flat)
    for axis in order:
        index = index * spatial_sizes[axis] + positions[axis]
    planes = torch.arange(value.shape[0] * value.shape[1]).reshape(value.shape[0], value.shape[1], *[1] * len(kernel))
    return found.to(kept), index + planes * math.prod(spatial_sizes)


@operator("AveragePool")
def average_pool(node: Node, value: Tensor) -> Tensor:
    """Average each window, the padding counted or not."""
    geometry = kernel, strides, dilations, begins, ends = _geometry(node, value)
    if len(kernel) not in _AVERAGE:
        raise node.unsupported(f"the {len(kernel)} spatial axes")
    counted = bool(node.get("count_include_pad", 0))
    more = _rounding_up(node, value, geometry)
    pool = _AVERAGE[len(kernel)]
    plain = set(dilations) == {1} and not any(more)
    if plain and begins == ends and all(2 * pad <= size for pad, size in zip(begins, kernel, strict=True)):
        return pool(value, kernel, strides, begins, False, counted)  # noqa: FBT003  PyTorch's own positions
    sums = _window_sums(F.pad(value, _flat(begins, [e + m for e, m in zip(ends, more, strict=True)])), geometry)
    ones = torch.ones_like(value[:1, :1])
    ones = F.pad(ones, _flat(begins, ends), value=1.0 if counted else 0.0)
    return sums / _window_sums(F.pad(ones, _flat([0] * len(more), more)), geometry)


def _window_sums(value: Tensor, geometry: tuple[list[int], ...]) -> Tensor:
    """Sum each window with a depthwise convolution of ones, which knows dilation; channels become batch."""
    from convert.onnx_torch.convolution import CONVOLUTIONS

    kernel, strides, dilations, *_ = geometry
    weight = torch.ones(1, 1, *kernel, dtype=value.dtype)
    single = value.reshape(-1, 1, *value.shape[2:])
    found = CONVOLUTIONS[len(kernel)](single, weight, None, strides, 0, dilations)
    return found.reshape(value.shape[0], value.shape[1], *found.shape[2:])


@operator("LpPool")
def lp_pool(node: Node, value: Tensor) -> Tensor:
    """Give the p-norm of each window."""
    geometry = _geometry(node, value)
    begins, ends = geometry[3], geometry[4]
    more = _rounding_up(node, value, geometry)
    power = node.get("p", 2)
    filled = F.pad(value.abs() ** power, _flat(begins, [e + m for e, m in zip(ends, more, strict=True)]))
    return _window_sums(filled, geometry) ** (1 / power)


def _spatial_axes(value: Tensor) -> list[int]:
    return list(range(2, value.dim()))


@operator("GlobalAveragePool")
def global_average_pool(_: Node, value: Tensor) -> Tensor:
    """Average all positions."""
    return value.mean(_spatial_axes(value), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(_: Node, value: Tensor) -> Tensor:
    """Take the largest of all positions."""
    return value.amax(_spatial_axes(value), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, value: Tensor) -> Tensor:
    """Give the p-norm over all positions."""
    power = node.get("p", 2)
    return (value.abs() ** power).sum(_spatial_axes(value), keepdim=True) ** (1 / power)
