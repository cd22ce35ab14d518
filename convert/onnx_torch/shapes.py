"""Operators on shapes and axes: what reads sizes, and what lays elements out anew."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, on_numbers, operator
from convert.onnx_torch.values import Small, Value, is_int, number, numbers, sizes

#: Exporters end a slice that goes to the axis's own end at the largest integer, tf2onnx at this. No axis is as long.
ENDLESS = 1_000_000_000


@operator("Shape")
def shape(node: Node, value: Tensor) -> Small:
    """Give a tensor's sizes, or some of them."""
    found = sizes(value)[slice(node.get("start", 0), node.get("end"))]
    return Small(tuple(found), 1, torch.int64)


@operator("Size")
def size(_: Node, value: Tensor) -> Small:
    """Give the number of elements."""
    total: Any = 1
    for item in sizes(value):
        total = total * item
    return Small((total,), 0, torch.int64)


@operator("Reshape", raw=(1,))
def reshape(node: Node, value: Tensor, target: Value = None) -> Tensor:
    """Reshape; zeros keep a size unless `allowzero`, one -1 is what is left."""
    wanted = list(node.get("shape")) if target is None else numbers(target)
    if not node.get("allowzero", 0):
        wanted = [value.shape[axis] if is_int(item, 0) else item for axis, item in enumerate(wanted)]
    return value.reshape(wanted)


@on_numbers("Reshape")
def reshape_numbers(_: Node, value: Small, target: Small) -> Value:
    """Reshape sizes between scalar and vector."""
    if len(target.items) > 1 or not all(isinstance(item, int) for item in target.items):
        return NotImplemented
    return Small(value.items, len(target.items), value.dtype)


@operator("Flatten")
def flatten(node: Node, value: Tensor) -> Tensor:
    """Flatten into a matrix whose columns begin at `axis`."""
    axis = node.get("axis", 1)
    axis = axis + value.dim() if axis < 0 else axis
    if axis == 0:
        return value.reshape(1, -1)
    if axis == value.dim():
        return value.reshape(-1, 1)
    lead = value.shape[0] if axis == 1 else -1
    if axis != 1:
        lead = math.prod(value.shape[:axis])
    return value.reshape([lead, math.prod(value.shape[axis:])])


@operator("Squeeze", raw=(1,))
def squeeze(node: Node, value: Tensor, axes: Value = None) -> Tensor:
    """Drop axes of size one."""
    found = node.axes(axes)
    if found is None:
        return value.squeeze()
    return value.squeeze(tuple(found))


@operator("Unsqueeze", raw=(1,))
def unsqueeze(node: Node, value: Tensor, axes: Value = None) -> Tensor:
    """Add axes of size one at places of the result."""
    found = node.axes(axes) or []
    rank = value.dim() + len(found)
    for axis in sorted(axis % rank for axis in found):
        value = value.unsqueeze(axis)
    return value


@on_numbers("Squeeze")
def squeeze_numbers(_: Node, value: Small, __: Small | None = None) -> Value:
    """Make a vector of one size a scalar."""
    return Small(value.items, 0, value.dtype) if len(value.items) == 1 and value.rank == 1 else NotImplemented


@on_numbers("Unsqueeze")
def unsqueeze_numbers(_: Node, value: Small, __: Small | None = None) -> Value:
    """Make a size a vector of one."""
    return Small(value.items, 1, value.dtype) if value.rank == 0 else NotImplemented


@operator("Transpose")
def transpose(node: Node, value: Tensor) -> Tensor:
    """Permute axes; reverse them where no order is given."""
    order = node.get("perm")
    return value.permute(list(reversed(range(value.dim()))) if order is None else list(order))


@operator("Concat")
def concat(node: Node, *values: Tensor) -> Tensor:
    """Join along an axis."""
    return torch.cat(values, node.get("axis", 1 if node.version < 4 else 0))


@on_numbers("Concat")
def concat_numbers(_: Node, *values: Small) -> Value:
    """Join sizes."""
    if any(value.rank == 0 for value in values):
        return NotImplemented
    return Small(tuple(item for value in values for item in value.items), 1, values[0].dtype)


@operator("Split", raw=(1,))
def split(node: Node, value: Tensor, parts: Value = None) -> tuple[Tensor, ...]:
    """Cut along an axis into parts, equal ones where no sizes are given."""
    axis = node.get("axis", 0)
    lengths = node.get("split") if parts is None else numbers(parts)
    if lengths is None:
        count = node.get("num_outputs") or len(node.outputs)
        whole = value.shape[axis]
        each = -(-whole // count)
        lengths = [each] * (count - 1) + [whole - each * (count - 1)]
    return tuple(torch.split(value, list(lengths), axis))


@on_numbers("Split")
def split_numbers(node: Node, value: Small, parts: Small | None = None) -> Value:
    """Cut a vector of sizes."""
    lengths = node.get("split") if parts is None else list(parts.items)
    if lengths is None:
        lengths = [len(value.items) // len(node.outputs)] * len(node.outputs)
    found, start = [], 0
    for count in lengths:
        found.append(Small(value.items[start : start + count], 1, value.dtype))
        start += count
    return tuple(found)


@operator("Slice", raw=(1, 2, 3, 4))
def slice_(
    node: Node, value: Tensor, starts: Value = None, ends: Value = None, axes: Value = None, steps: Value = None
) -> Tensor:
    """Cut ranges out of axes, backwards for negative steps."""
    begin = list(node.get("starts")) if starts is None else numbers(starts)
    stop = list(node.get("ends")) if ends is None else numbers(ends)
    along = node.axes(axes)
    along = list(range(len(begin))) if along is None else along
    by = [1] * len(begin) if steps is None else [int(step) for step in numbers(steps)]
    for first, last, axis, step in zip(begin, stop, along, by, strict=True):
        value = _sliced(value, axis % value.dim(), first, last, step)
    return value


def _sliced(value: Tensor, axis: int, first: Any, last: Any, step: int) -> Tensor:
    if step > 0:
        return value[(slice(None),) * axis + (slice(first, None if _beyond(last) else last, step),)]
    # Backwards from `first` down to, and without, `last`: PyTorch slices forwards only.
    length = value.shape[axis]
    first = length - 1 if _beyond(first) or (isinstance(first, int) and first == -1) else first
    first = first + length if isinstance(first, int) and first < 0 else first
    if isinstance(first, int) and isinstance(length, int):
        first = min(first, length - 1)
    if isinstance(last, int) and isinstance(length, int):
        last = max(-1, last + length if last < 0 else last)
    elif isinstance(last, int):
        last = -1 if last < -(1 << 31) + 1 else last + length if last < 0 else last
    count = (first - last + -step - 1) // -step
    index = first + step * torch.arange(count)
    if step == -1 and is_int(last, -1) and not isinstance(first, int):
        return value.flip(axis)
    return value.index_select(axis, index)


def _beyond(item: Any) -> bool:
    """Whether the end of a slice stands for the axis's own end."""
    return isinstance(item, int) and item >= ENDLESS


@on_numbers("Slice")
def slice_numbers(node: Node, value: Small, *bounds: Small | None) -> Value:
    """Cut a range out of a vector of sizes."""
    given = [None if bound is None else bound.items for bound in bounds]
    given += [None] * (4 - len(given))
    starts, ends = given[0] or node.get("starts"), given[1] or node.get("ends")
    step = given[3][0] if given[3] else 1
    if len(starts) != 1 or not all(isinstance(item, int) for item in (starts[0], ends[0], step)):
        return NotImplemented
    last = None if step < 0 and ends[0] < -len(value.items) else ends[0]
    return Small(tuple(value.items[starts[0] : last : step]), 1, value.dtype)


@operator("Expand", raw=(1,))
def expand(_: Node, value: Tensor, target: Value) -> Tensor:
    """Broadcast to a shape, or further where the tensor is larger."""
    wanted = numbers(target)
    wanted = [1] * (value.dim() - len(wanted)) + wanted
    own = [1] * (len(wanted) - value.dim()) + sizes(value)
    # A size of one stands for the tensor's own; -1 says so without asking a symbol for its value.
    return value.expand([-1 if is_int(t, 1) and not is_int(o, 1) else t for t, o in zip(wanted, own, strict=True)])


@operator("Tile", raw=(1,))
def tile(_: Node, value: Tensor, repeats: Value) -> Tensor:
    """Repeat along every axis."""
    return value.repeat(numbers(repeats))


@operator("ConstantOfShape", raw=(0,))
def constant_of_shape(node: Node, target: Value) -> Tensor:
    """Fill a shape with one value."""
    filling = node.get("value")
    if filling is None:
        return torch.zeros(numbers(target), dtype=node.dtype(1))
    return torch.full(numbers(target), filling.reshape(-1)[0].item(), dtype=filling.dtype)


@on_numbers("ConstantOfShape")
def constant_numbers(node: Node, target: Small) -> Value:
    """Fill a short vector, the ones that exporters compare or multiply shapes with."""
    filling = node.get("value")
    if filling is None or filling.is_floating_point() or len(target.items) != 1:
        return NotImplemented
    if not isinstance(target.items[0], int) or target.items[0] > 8:
        return NotImplemented
    return Small((filling.reshape(-1)[0].item(),) * target.items[0], 1, filling.dtype)


@operator("Constant")
def constant(node: Node) -> Tensor:
    """Give the value that the node holds."""
    for name, dtype in (("value_float", 1), ("value_floats", 1), ("value_int", 7), ("value_ints", 7)):
        if name in node.attributes:
            return torch.tensor(node.get(name), dtype=node.dtype(dtype))
    if "value" not in node.attributes:
        raise node.unsupported("the kind of constant")
    found: Tensor = node.get("value")
    return found


@operator("Range", raw=(0, 1, 2))
def range_(_: Node, start: Value, limit: Value, step: Value) -> Tensor:
    """Count from a start to a limit by steps."""
    dtype = start.dtype
    return torch.arange(number(start), number(limit), number(step), dtype=dtype)


@operator("EyeLike")
def eye_like(node: Node, value: Tensor) -> Tensor:
    """Give a matrix with ones on a diagonal."""
    dtype = node.dtype(node.get("dtype")) if "dtype" in node.attributes else value.dtype
    rows, columns = torch.arange(value.shape[0]).unsqueeze(1), torch.arange(value.shape[1])
    return (columns - rows == node.get("k", 0)).to(dtype)


@operator("Trilu", raw=(1,))
def trilu(node: Node, value: Tensor, diagonal: Value = None) -> Tensor:
    """Keep the upper or lower triangle."""
    k = 0 if diagonal is None else int(number(diagonal))
    return torch.triu(value, k) if node.get("upper", 1) else torch.tril(value, k)


@operator("DepthToSpace")
def depth_to_space(node: Node, value: Tensor) -> Tensor:
    """Move channels into blocks of positions."""
    block = node.get("blocksize")
    batch, channels, height, width = value.shape
    if node.get("mode", "DCR") == "CRD":
        return torch.pixel_shuffle(value, block)
    parts = value.reshape(batch, block, block, channels // (block * block), height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // (block * block), height * block, width * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, value: Tensor) -> Tensor:
    """Move blocks of positions into channels."""
    block = node.get("blocksize")
    batch, channels, height, width = value.shape
    parts = value.reshape(batch, channels, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return parts.permute(order).reshape(batch, channels * block * block, height // block, width // block)
