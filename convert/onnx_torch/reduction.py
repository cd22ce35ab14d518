"""Reductions, searches and running sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, on_numbers, operator
from convert.onnx_torch.values import Small, Value, number

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _sum(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001  a table of functions of one form
    # PyTorch would widen integers; for a bool, which ONNX does not sum, nothing is promised.
    return value.sum(axes, keepdim=keep, dtype=value.dtype)


def _prod(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    for axis in sorted((axis % value.dim() for axis in axes), reverse=True):
        value = value.prod(axis, keepdim=keep, dtype=value.dtype)
    return value


def _log_sum_exp(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    return torch.logsumexp(value, axes, keepdim=keep)


def _mean(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
    if value.is_floating_point():
        return value.mean(axes, keepdim=keep)
    return torch.div(_sum(value, axes, keep), math.prod(value.shape[a] for a in axes), rounding_mode="trunc")


def _extreme(floating: Callable[..., Tensor]) -> Reduce:
    def reduce(value: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001
        if value.dtype is torch.bool:
            return floating(value.to(torch.uint8), axes, keepdim=keep).to(torch.bool)
        return floating(value, axes, keepdim=keep)

    return reduce


_REDUCTIONS: dict[str, Reduce] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _prod,
    "ReduceMax": _extreme(torch.amax),
    "ReduceMin": _extreme(torch.amin),
    "ReduceL1": lambda v, axes, keep: _sum(v.abs(), axes, keep),
    "ReduceL2": lambda v, axes, keep: (
        _sum(v * v, axes, keep).to(v.dtype if v.is_floating_point() else torch.float64).sqrt().to(v.dtype)
    ),
    "ReduceSumSquare": lambda v, axes, keep: _sum(v * v, axes, keep),
    "ReduceLogSum": lambda v, axes, keep: _sum(v, axes, keep).log(),
    "ReduceLogSumExp": _log_sum_exp,
}


def _register(name: str, reduce: Reduce) -> None:
    @operator(name, raw=(1,))
    def compute(node: Node, value: Tensor, axes: Value = None) -> Tensor:
        """Reduce over axes; over all where none are named, unless that is to mean over none."""
        found = node.axes(axes)
        if not found:
            if node.get("noop_with_empty_axes", 0):
                return _per_element(node.kind, value)
            found = list(range(value.dim()))
        if not found:
            return _per_element(node.kind, value)
        return reduce(value, found, bool(node.get("keepdims", 1)))


def _per_element(kind: str, value: Tensor) -> Tensor:
    if kind in ("ReduceL1", "ReduceL2"):
        return value.abs()
    if kind == "ReduceSumSquare":
        return value * value
    return value.log() if kind == "ReduceLogSum" else value


for _name, _reduce in _REDUCTIONS.items():
    _register(_name, _reduce)


@on_numbers("ReduceProd", "ReduceSum")
def reduce_numbers(node: Node, value: Small, _: Small | None = None) -> Value:
    """Multiply or add up sizes, which have one axis."""
    if value.rank == 0 or any(isinstance(item, float) for item in value.items):
        return NotImplemented
    total: Any = 1 if node.kind == "ReduceProd" else 0
    for item in value.items:
        total = total * item if node.kind == "ReduceProd" else total + item
    return Small((total,), int(node.get("keepdims", 1)), value.dtype)


def _arg(function: Callable[..., Tensor]) -> Callable[[Node, Tensor], Tensor]:
    def compute(node: Node, value: Tensor) -> Tensor:
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        if not node.get("select_last_index", 0):
            return function(value, axis, keepdim=keep)
        last = value.shape[axis] - 1
        return last - function(value.flip(axis), axis, keepdim=keep)

    return compute


operator("ArgMax")(_arg(torch.argmax))
operator("ArgMin")(_arg(torch.argmin))


@operator("TopK", raw=(1,))
def top_k(node: Node, value: Tensor, count: Value = None) -> tuple[Tensor, Tensor]:
    """Give the largest or smallest values along an axis and where they are; of equal ones, the first come first."""
    k = node.get("k") if count is None else number(count)
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))
    if value.shape[axis] == 0 or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return tuple(torch.topk(value, k, axis, largest=largest))
    # A stable sort settles ties as ONNX does; topk does not promise to, but is what converters know.
    found, where = torch.sort(value, dim=axis, descending=largest, stable=True)
    return found.narrow(axis, 0, k), where.narrow(axis, 0, k)


def _running(function: Callable[[Tensor, int], Tensor], start: int) -> Callable[[Node, Tensor, Value], Tensor]:
    def compute(node: Node, value: Tensor, axis_value: Value) -> Tensor:
        axis = int(number(axis_value))
        if node.get("reverse", 0):
            value = value.flip(axis)
        found = function(value, axis).to(value.dtype)
        if node.get("exclusive", 0):
            first = torch.full_like(found.narrow(axis, 0, 1), start)
            found = torch.cat([first, found.narrow(axis, 0, found.shape[axis] - 1)], axis)
        return found.flip(axis) if node.get("reverse", 0) else found

    return compute


operator("CumSum", raw=(1,))(_running(torch.cumsum, 0))
operator("CumProd", raw=(1,))(_running(torch.cumprod, 1))
