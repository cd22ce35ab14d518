"""Resizing and sampling of grids."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name
from torch import Tensor

from convert.onnx_torch.table import Node, operator
from convert.onnx_torch.values import Value, numbers, same_size

#: PyTorch's interpolation by ONNX's, for the number of spatial axes.
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@operator("Resize", raw=(1, 2, 3))
def resize(node: Node, value: Tensor, roi: Value = None, scales: Value = None, target: Value = None) -> Tensor:
    """Resample axes, with PyTorch's own function where it computes the same, else axis by axis with weights."""
    if node.version < 11:
        scales, roi = roi, None
    wanted, factors = _target(node, value, scales, target)
    changed = [axis for axis in range(value.dim()) if not _unchanged(value.shape[axis], wanted[axis], factors[axis])]
    mode = node.get("mode", "nearest")
    default = "half_pixel" if node.version >= 11 else "asymmetric"
    transform = node.get("coordinate_transformation_mode", default)
    if not changed and transform != "tf_crop_and_resize":
        return value
    if transform != "tf_crop_and_resize" and changed[0] >= 2 and value.is_floating_point():
        found = _native(node, value, wanted, factors, mode, transform)
        if found is not None:
            return found
    region = numbers(roi) if roi is not None and transform == "tf_crop_and_resize" else None
    axes = node.axes() or list(range(value.dim()))
    for axis in range(value.dim()) if region else changed:
        bounds = None
        if region is not None:
            if axis not in axes:
                continue
            place = axes.index(axis)
            bounds = region[place], region[place + len(axes)]
        value = _along(node, value, axis, int(wanted[axis]), factors[axis], mode, transform, bounds)
    return value


operator("Upsample", raw=(1,))(lambda node, value, scales=None: resize(node, value, scales))


def _unchanged(size: Any, wanted: Any, factor: Any) -> bool:
    """Whether an axis keeps its size, as far as that is known without asking a symbol for its value."""
    if isinstance(factor, (int, float)):
        return float(factor) == 1.0
    return same_size(size, wanted)


def _target(node: Node, value: Tensor, scales: Value, target: Value) -> tuple[list[Any], list[Any]]:
    """Give every axis's new size and its scale as stated, None where a size was."""
    rank = value.dim()
    axes = node.axes() or list(range(rank))
    sizes, factors = list(value.shape), [None] * rank
    stated = [] if target is None else numbers(target)
    if stated:
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [item / value.shape[axis] for item, axis in zip(stated, axes, strict=True)]
            scale = min(ratios) if policy == "not_larger" else max(ratios)
            stated = [math.floor(scale * value.shape[axis] + 0.5) for axis in axes]
            for axis in axes:
                factors[axis] = scale
        for item, axis in zip(stated, axes, strict=True):
            # A size that equals its own by symbol stays that symbol.
            sizes[axis] = item
        return sizes, factors
    found = list(node.get("scales") or []) if scales is None else numbers(scales)
    for factor, axis in zip(found, axes, strict=True):
        factors[axis] = factor
        if not (isinstance(factor, (int, float)) and float(factor) == 1.0):
            whole = isinstance(factor, float) and factor.is_integer()
            sizes[axis] = value.shape[axis] * int(factor) if whole else math.floor(value.shape[axis] * factor)
    return sizes, factors


def _native(
    node: Node, value: Tensor, wanted: list[Any], factors: list[Any], mode: str, transform: str
) -> Tensor | None:
    """Interpolate with PyTorch's function where it means the same, else give None."""
    rank = value.dim() - 2
    stated = [factor for factor in factors[2:] if factor is not None]
    # PyTorch computes the scale from the sizes; a stated one that rounds to another size is not the same.
    exact = all(
        isinstance(factor, (int, float)) and isinstance(size, int) and size * factor == new
        for size, new, factor in zip(value.shape[2:], wanted[2:], factors[2:], strict=True)
        if factor is not None
    ) or all(float(factor).is_integer() for factor in stated)
    if not exact or node.get("antialias", 0) or node.get("exclude_outside", 0):
        return None
    size = wanted[2:]
    if mode == "linear" and rank in _LINEAR and transform in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        if transform == "pytorch_half_pixel" and any(not isinstance(s, int) or s <= 1 for s in size):
            return None
        return F.interpolate(value, size=size, mode=_LINEAR[rank], align_corners=transform == "align_corners")
    cubic = mode == "cubic" and rank == 2 and node.get("cubic_coeff_a", -0.75) == -0.75
    if cubic and transform in ("half_pixel", "align_corners"):
        return F.interpolate(value, size=size, mode="bicubic", align_corners=transform == "align_corners")
    nearest = mode == "nearest" and rank in _LINEAR
    rounding = node.get("nearest_mode", "round_prefer_floor" if node.version >= 11 else "floor")
    if nearest and transform == "asymmetric" and rounding == "floor":
        return F.interpolate(value, size=size, mode="nearest")
    doubled = nearest and all(isinstance(f, (int, float)) and float(f).is_integer() for f in stated) and stated
    if doubled and transform == "half_pixel" and rounding in ("round_prefer_floor", "round_prefer_ceil"):
        return F.interpolate(value, size=size, mode="nearest")
    return None


def _along(
    node: Node,
    value: Tensor,
    axis: int,
    new: int,
    factor: float | None,
    mode: str,
    transform: str,
    bounds: tuple[float, float] | None,
) -> Tensor:
    """Resample one axis, by a matrix of weights or by picking."""
    old = int(value.shape[axis])
    scale = new / old if factor is None else float(factor)
    position = _coordinates(old, new, scale, transform, bounds)
    if mode == "nearest":
        picked = _picked(position, node).clamp(0, old - 1).to(torch.int64)
        found = value.index_select(axis, picked)
    else:
        weights = _weights(node, position, old, scale, mode).to(value.dtype)
        found = torch.tensordot(value, weights, dims=([axis], [1])).movedim(-1, axis)
    if bounds is not None:
        outside = (position < 0) | (position > old - 1)
        shape = [-1 if i == axis else 1 for i in range(value.dim())]
        filling = torch.full((), node.get("extrapolation_value", 0.0), dtype=value.dtype)
        found = torch.where(outside.reshape(shape), filling, found)
    return found


def _coordinates(old: int, new: int, scale: float, transform: str, bounds: tuple[float, float] | None) -> Tensor:
    """Give where each new position lies on the old axis, in float64."""
    at = torch.arange(new, dtype=torch.float64)
    if transform == "align_corners":
        return at * ((old - 1) / (new - 1)) if new > 1 else torch.zeros_like(at)
    if transform == "asymmetric":
        return at / scale
    if transform == "tf_half_pixel_for_nn":
        return (at + 0.5) / scale
    if transform == "pytorch_half_pixel" and new <= 1:
        return torch.zeros_like(at)
    if transform == "half_pixel_symmetric":
        adjustment = new / (scale * old)
        centre = old / 2
        return centre * (1 - adjustment) + (at + 0.5) / scale - 0.5
    if transform == "tf_crop_and_resize" and bounds is not None:
        begin, end = bounds
        if new <= 1:
            return torch.full_like(at, 0.5 * (begin + end) * (old - 1))
        return begin * (old - 1) + at * ((end - begin) * (old - 1) / (new - 1))
    return (at + 0.5) / scale - 0.5


def _picked(position: Tensor, node: Node) -> Tensor:
    rounding = node.get("nearest_mode", "round_prefer_floor" if node.version >= 11 else "floor")
    if rounding == "floor":
        return torch.floor(position)
    if rounding == "ceil":
        return torch.ceil(position)
    if rounding == "round_prefer_ceil":
        return torch.floor(position + 0.5)
    return torch.ceil(position - 0.5)


def _weights(node: Node, position: Tensor, old: int, scale: float, mode: str) -> Tensor:
    """Give the matrix that maps an old axis to the new one."""
    reach = 1 if mode == "linear" else 2
    stretch = min(1.0, scale) if node.get("antialias", 0) else 1.0
    reach_wide = math.ceil(reach / stretch)
    base = torch.floor(position)
    weights = torch.zeros(position.numel(), old, dtype=torch.float64)
    rows = torch.arange(position.numel())
    taps, inside = [], []
    for offset in range(-reach_wide + 1, reach_wide + 1):
        distance = (position - (base + offset)).abs() * stretch
        tap = (1 - distance).clamp_min(0) if mode == "linear" else _cubic(distance, node.get("cubic_coeff_a", -0.75))
        index = base + offset
        if node.get("exclude_outside", 0) or node.get("antialias", 0):
            tap = torch.where((index < 0) | (index > old - 1), torch.zeros_like(tap), tap)
        taps.append(tap)
        inside.append(index.clamp(0, old - 1).to(torch.int64))
    total = sum(taps) if node.get("exclude_outside", 0) or node.get("antialias", 0) else torch.ones_like(position)
    for tap, index in zip(taps, inside, strict=True):
        weights = weights.index_put((rows, index), tap / total, accumulate=True)
    return weights


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Give Keys's cubic kernel (R. Keys, 1981) at a distance."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


_SAMPLING = {"linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic", "bicubic": "bicubic"}


@operator("GridSample")
def grid_sample(node: Node, value: Tensor, grid: Tensor) -> Tensor:
    """Sample at the points of a grid."""
    mode = _SAMPLING.get(node.get("mode", "linear"), "nearest")
    corners = bool(node.get("align_corners", 0))
    return F.grid_sample(value, grid, mode, node.get("padding_mode", "zeros"), corners)


@operator("AffineGrid", raw=(1,))
def affine_grid(node: Node, theta: Tensor, size: Value) -> Tensor:
    """Give the grid of an affine map."""
    return F.affine_grid(theta, numbers(size), align_corners=bool(node.get("align_corners", 0)))


@operator("CenterCropPad", raw=(1,))
def center_crop_pad(node: Node, value: Tensor, target: Value) -> Tensor:
    """Cut or fill axes alike on both sides."""
    axes = node.axes() or list(range(value.dim()))
    for axis, size in zip(axes, numbers(target), strict=True):
        old, axis = value.shape[axis], axis % value.dim()
        if old > size:
            value = value.narrow(axis, (old - size) // 2, size)
        elif old < size:
            before = (size - old) // 2
            value = F.pad(value, [0, 0] * (value.dim() - 1 - axis) + [before, size - old - before])
    return value


@operator("RoiAlign")
def roi_align(node: Node, value: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
    """Average bilinear samples of regions; the number of samples must be given."""
    ratio = node.get("sampling_ratio", 0)
    if ratio <= 0:
        raise node.unsupported("an adaptive sampling_ratio")
    if node.get("mode", "avg") != "avg":
        raise node.unsupported("the mode max")
    height, width = node.get("output_height", 1), node.get("output_width", 1)
    half = 0.5 if node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel" else 0.0
    boxes = rois * node.get("spatial_scale", 1.0) - half
    spans = boxes[:, 2:] - boxes[:, :2]
    spans = spans if half else spans.clamp_min(1.0)
    grids = []
    for axis, count in ((1, height), (0, width)):
        at = (torch.arange(count * ratio, dtype=value.dtype) + 0.5) / (count * ratio)
        grids.append(boxes[:, axis, None] + at * spans[:, axis, None])
    samples = _bilinear_at(value[batch.to(torch.int64)], grids[0], grids[1])
    shape = [samples.shape[0], samples.shape[1], height, ratio, width, ratio]
    parts = samples.reshape(shape)
    return parts.mean((3, 5))


def _bilinear_at(value: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample (region, channel, height, width) at every pair of a region's rows and columns; zero far outside."""
    found = value
    for axis, at in ((2, rows), (3, columns)):
        size = value.shape[axis]
        inside = ((at >= -1) & (at <= size)).to(value.dtype)
        at = at.clamp(0, size - 1)
        low = at.floor()
        weight = at - low
        parts = []
        for index, share in ((low, 1 - weight), ((low + 1).clamp_max(size - 1), weight)):
            shape = [at.shape[0], 1, -1, 1] if axis == 2 else [at.shape[0], 1, 1, -1]
            picked = index.to(torch.int64).reshape(shape)
            sizes = list(found.shape)
            sizes[axis] = at.shape[1]
            parts.append(found.gather(axis, picked.expand(sizes)) * (share * inside).reshape(shape))
        found = parts[0] + parts[1]
    return found
