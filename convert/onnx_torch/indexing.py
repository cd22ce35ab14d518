"""Gathering, scattering, padding and picking."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name
from torch import Tensor

from convert.onnx_torch.table import Node, on_numbers, operator
from convert.onnx_torch.values import Small, Value, number, numbers, tensor_of


def _positive(index: Tensor, size: Any) -> Tensor:
    """Count negative indices from the end."""
    return torch.where(index < 0, index + size, index)


@operator("Gather", raw=(1,))
def gather(node: Node, value: Tensor, index: Value) -> Tensor:
    """Take slices of an axis by their positions."""
    axis = node.get("axis", 0) % value.dim()
    if isinstance(index, Small) and index.rank == 0 and isinstance(index.items[0], int):
        return value.select(axis, index.items[0])
    if isinstance(index, Small) and all(isinstance(item, int) for item in index.items):
        run = list(index.items)
        if run and run == list(range(run[0], run[0] + len(run))) and run[0] >= 0:
            return value.narrow(axis, run[0], len(run))
        size = value.shape[axis]
        index = torch.tensor([item + size if item < 0 else item for item in run]).reshape([len(run)] * index.rank)
    positions = tensor_of(index).to(torch.int64)
    if axis == 0 and value.dim() == 2 and value.is_floating_point():
        # NOTE: Why as an embedding: it is what converters know best; indices from the end are rare and wrap first.
        return F.embedding(_positive(positions, value.shape[0]), value)
    taken = value.index_select(axis, _positive(positions, value.shape[axis]).reshape(-1))
    return taken.reshape([*value.shape[:axis], *positions.shape, *value.shape[axis + 1 :]])


@on_numbers("Gather")
def gather_numbers(_: Node, value: Small, index: Small) -> Value:
    """Pick sizes."""
    if value.rank != 1 or not all(isinstance(item, int) for item in index.items):
        return NotImplemented
    return Small(tuple(value.items[item] for item in index.items), index.rank, value.dtype)


@operator("GatherElements")
def gather_elements(node: Node, value: Tensor, index: Tensor) -> Tensor:
    """Take elements along an axis."""
    axis = node.get("axis", 0)
    return torch.gather(value, axis, _positive(index.to(torch.int64), value.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node, value: Tensor, index: Tensor) -> Tensor:
    """Take slices at index tuples, batch by batch for the leading `batch_dims`."""
    batch, depth = node.get("batch_dims", 0), index.shape[-1]
    index = index.to(torch.int64)
    grids = [
        torch.arange(value.shape[axis]).reshape([-1 if i == axis else 1 for i in range(index.dim() - 1)])
        for axis in range(batch)
    ]
    picks = [_positive(index[..., i], value.shape[batch + i]) for i in range(depth)]
    return value[(*grids, *picks)]


_REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node, value: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """Write elements along an axis."""
    axis = node.get("axis", 0)
    index = _positive(index.to(torch.int64), value.shape[axis])
    how = node.get("reduction", "none")
    if how == "none":
        return value.scatter(axis, index, updates)
    return value.scatter_reduce(axis, index, updates, _REDUCED[how], include_self=True)


@operator("ScatterND")
def scatter_nd(node: Node, value: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """Write slices at index tuples."""
    index = index.to(torch.int64)
    depth = index.shape[-1]
    picks = tuple(_positive(index[..., i], value.shape[i]) for i in range(depth))
    how = node.get("reduction", "none")
    if how in ("none", "add"):
        return value.index_put(picks, updates, accumulate=how == "add")
    # Flat positions of every element written, since index_put reduces by adding only.
    strides = [1]
    for axis in reversed(range(1, value.dim())):
        strides.insert(0, strides[0] * value.shape[axis])
    base: Any = sum(pick * stride for pick, stride in zip(picks, strides, strict=False))
    inner = 1
    for size in value.shape[depth:]:
        inner = inner * size
    flat = base.reshape(-1, 1) + torch.arange(inner)
    changed = value.reshape(-1).scatter_reduce(
        0, flat.reshape(-1), updates.reshape(-1), _REDUCED[how], include_self=True
    )
    return changed.reshape(value.shape)


@operator("TensorScatter")
def tensor_scatter(node: Node, cache: Tensor, update: Tensor, begins: Tensor | None = None) -> Tensor:
    """Write a run of positions into a cache, at each case's own place."""
    axis = node.get("axis", -2) % cache.dim()
    count, size = update.shape[axis], cache.shape[axis]
    starts = torch.zeros(cache.shape[0], dtype=torch.int64) if begins is None else begins
    positions = starts.reshape(-1, 1) + torch.arange(count)
    if node.get("mode", "linear") == "circular":
        positions = positions % size
    index = positions.reshape([cache.shape[0], *[count if a == axis else 1 for a in range(1, cache.dim())]])
    return cache.scatter(axis, index.expand(update.shape), update)


_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad", raw=(1, 2, 3))
def pad(node: Node, value: Tensor, pads: Value = None, fill: Value = None, axes: Value = None) -> Tensor:
    """Pad with a constant, the reflected inside, the edge or the other end; negative padding cuts."""
    ends = list(node.get("pads")) if pads is None else numbers(pads)
    rank = value.dim()
    along = [axis % rank for axis in (node.axes(axes) or range(len(ends) // 2))]
    both = {axis: (ends[i], ends[i + len(along)]) for i, axis in enumerate(along)}
    flat = [end for axis in reversed(range(rank)) for end in both.get(axis, (0, 0))]
    mode = node.get("mode", "constant")
    if mode == "constant":
        filling = node.get("value", 0.0) if fill is None else number(fill)
        while len(flat) > 2 and all(isinstance(end, int) and end == 0 for end in flat[-2:]):
            del flat[-2:]
        if value.dtype is torch.bool:
            return F.pad(value.to(torch.uint8), flat, value=int(filling)).to(torch.bool)
        return F.pad(value, flat, value=filling if value.is_floating_point() else int(filling))
    if mode not in _MODES:
        raise node.unsupported(f"the mode {mode}")
    for axis, (before, after) in both.items():
        if not (before == 0 and after == 0):
            value = value.index_select(axis, _padded_positions(value.shape[axis], before, after, mode))
    return value


def _padded_positions(size: Any, before: Any, after: Any, mode: str) -> Tensor:
    """Say which position of an axis each position of the padded one takes."""
    positions = torch.arange(-before, size + after)
    if mode == "edge":
        return positions.clamp(0, size - 1)
    if mode == "wrap":
        return torch.remainder(positions, size)
    folded = torch.remainder(positions, 2 * (size - 1)) if size > 1 else torch.zeros_like(positions)
    return torch.minimum(folded, 2 * (size - 1) - folded) if size > 1 else folded


@operator("OneHot", raw=(1,))
def one_hot(node: Node, index: Tensor, depth: Value, values: Tensor) -> Tensor:
    """Give vectors that are `on` at an index and `off` elsewhere."""
    count = int(number(depth))
    axis = node.get("axis", -1)
    wrapped = torch.remainder(index.to(torch.int64), count)
    valid = (index >= -count) & (index < count)
    hot = (wrapped.unsqueeze(-1) == torch.arange(count)) & valid.unsqueeze(-1)
    found = torch.where(hot, values[1], values[0])
    return found.movedim(-1, axis) if axis not in (-1, index.dim()) else found


@operator("NonZero")
def non_zero(_: Node, value: Tensor) -> Tensor:
    """Give the positions of what is not zero."""
    return torch.nonzero(value).t()


@operator("Compress")
def compress(node: Node, value: Tensor, condition: Tensor) -> Tensor:
    """Keep the slices of an axis, or the elements, for which a condition holds."""
    kept = torch.nonzero(condition).reshape(-1)
    axis = node.get("axis")
    return value.reshape(-1).index_select(0, kept) if axis is None else value.index_select(axis, kept)


@operator("ReverseSequence")
def reverse_sequence(node: Node, value: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the first steps of each sequence."""
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    steps = torch.arange(value.shape[time]).reshape([-1 if a == time else 1 for a in range(value.dim())])
    ends = lengths.reshape([-1 if a == batch else 1 for a in range(value.dim())])
    index = torch.where(steps < ends, ends - 1 - steps, steps)
    return value.gather(time, index.expand(value.shape))


@operator("Unique")
def unique(node: Node, value: Tensor) -> Any:
    """Give the distinct values; sorted ones only, in PyTorch."""
    axis = node.get("axis")
    found, inverse, counts = torch.unique(value, True, True, True, dim=axis)  # noqa: FBT003  by position in scripts
    inverse = inverse.reshape(-1)
    positions = torch.arange(inverse.numel(), dtype=inverse.dtype)
    first = torch.full([counts.numel()], inverse.numel(), dtype=torch.int64)
    first = first.scatter_reduce(0, inverse, positions, "amin")
    if not node.get("sorted", 1):
        order = first.argsort()
        rank = torch.argsort(order)
        found = found.index_select(axis or 0, order)
        inverse, counts, first = rank[inverse], counts[order], first[order]
    return (found, first, inverse, counts)[: len(node.outputs)]
