"""Operators that compute each element by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, on_numbers, operator
from convert.onnx_torch.values import Small, Value, number

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Erfc": torch.erfc,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}


def _register(name: str, compute: Callable[..., Tensor]) -> None:
    operator(name)(lambda _, *values: compute(*values))


for _table in (_UNARY, _BINARY):
    for _name, _compute in _table.items():
        _register(_name, _compute)


@operator("Div")
def divide(_: Node, left: Tensor, right: Tensor) -> Tensor:
    """Divide; integers towards zero."""
    if left.is_floating_point():
        return left / right
    return torch.div(left, right, rounding_mode="trunc")


@operator("Mod")
def modulo(node: Node, left: Tensor, right: Tensor) -> Tensor:
    """Give the remainder, with the divisor's sign or, by `fmod`, the dividend's."""
    return torch.fmod(left, right) if node.get("fmod", 0) else torch.remainder(left, right)


@operator("Pow")
def power(_: Node, base: Tensor, exponent: Tensor) -> Tensor:
    """Raise to a power, in the base's type."""
    if exponent.dtype != base.dtype and not base.is_floating_point():
        return torch.pow(base.to(torch.float64), exponent.to(torch.float64)).to(base.dtype)
    return torch.pow(base, exponent.to(base.dtype))


@operator("BitShift")
def shift(node: Node, value: Tensor, count: Tensor) -> Tensor:
    """Shift bits."""
    wide, by = value.to(torch.int64), count.to(torch.int64)
    moved = wide << by if node.get("direction") == "LEFT" else wide >> by
    return moved.to(value.dtype)


@operator("Clip", raw=(1, 2))
def clip(node: Node, value: Tensor, low: Value = None, high: Value = None) -> Tensor:
    """Limit to a range whose ends are attributes before opset 11 and inputs from then on."""
    low = node.get("min") if low is None else low
    high = node.get("max") if high is None else high
    bounds = [number(end) if isinstance(end, Small) else end for end in (low, high)]
    for end, limit in zip(bounds, (torch.clamp_min, torch.clamp_max), strict=True):
        if isinstance(end, Tensor):
            value = torch.maximum(value, end) if limit is torch.clamp_min else torch.minimum(value, end)
        elif end is not None:
            value = limit(value, end)
    return value


@operator("IsInf")
def is_infinite(node: Node, value: Tensor) -> Tensor:
    """Find infinities of the asked signs."""
    both = node.get("detect_negative", 1), node.get("detect_positive", 1)
    found = torch.zeros_like(value, dtype=torch.bool)
    if both[0]:
        found = found | (value == -float("inf"))
    if both[1]:
        found = found | (value == float("inf"))
    return found


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def compute(_: Node, *values: Tensor) -> Tensor:
        found = values[0]
        for value in values[1:]:
            found = function(found, value)
        return found

    return compute


operator("Sum")(_folded(torch.add))
operator("Max")(_folded(torch.maximum))
operator("Min")(_folded(torch.minimum))


@operator("Mean")
def mean(_: Node, *values: Tensor) -> Tensor:
    """Average several tensors."""
    found = values[0]
    for value in values[1:]:
        found = found + value
    return found / len(values)


@operator("Where")
def where(_: Node, condition: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Choose by a condition."""
    return torch.where(condition, left, right)


@operator("Cast")
def cast(node: Node, value: Tensor) -> Tensor:
    """Change the type."""
    wanted = node.dtype(node.get("to"))
    if wanted is torch.bool:
        return value != 0
    return value.to(wanted)


@operator("CastLike")
def cast_like(_: Node, value: Tensor, like: Tensor) -> Tensor:
    """Change the type to another tensor's."""
    return value != 0 if like.dtype is torch.bool else value.to(like.dtype)


@operator("Dropout", raw=(1, 2))
def dropout(node: Node, value: Tensor, *_: Value) -> Any:
    """Pass the value on, as inference does."""
    if len(node.outputs) == 1:
        return value
    return value, torch.ones_like(value, dtype=torch.bool)


def _rounded(value: Any, dtype: torch.dtype) -> Any:
    """Round a plain number to a floating type, as its tensor would be; symbols stay as they are."""
    if isinstance(value, float) and dtype in (torch.float32, torch.float16):
        return torch.tensor(value, dtype=dtype).item() if not torch.compiler.is_compiling() else value
    return value


def _pairs(left: Small, right: Small) -> tuple[list[tuple[Any, Any]], int] | None:
    """Pair the numbers of two vectors as broadcasting does."""
    count = max(len(left.items), len(right.items))
    if {len(left.items), len(right.items)} - {1, count}:
        return None
    spread = [side.items * count if len(side.items) == 1 else side.items for side in (left, right)]
    return list(zip(*spread, strict=True)), max(left.rank, right.rank)


def _truncated(left: Any, right: Any) -> Any:
    # Sizes are not negative, so rounding down and rounding towards zero are one.
    if isinstance(left, int) and isinstance(right, int):
        return int(abs(left) // abs(right)) * (1 if (left < 0) == (right < 0) else -1)
    return left // right


def _largest(left: Any, right: Any) -> Any:
    if isinstance(left, Tensor) and isinstance(right, Tensor):  # sizes under torch.jit.trace
        return torch.maximum(left, right)
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return left.clamp_min(right) if isinstance(left, Tensor) else right.clamp_min(left)
    return torch.sym_max(left, right)


def _smallest(left: Any, right: Any) -> Any:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.minimum(left, right)
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return left.clamp_max(right) if isinstance(left, Tensor) else right.clamp_max(left)
    return torch.sym_min(left, right)


_ON_INTEGERS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _truncated,
    "Mod": lambda a, b: a % b,
    "Max": _largest,
    "Min": _smallest,
}

_ON_FLOATS: dict[str, Callable[[Any, Any], Any]] = {**_ON_INTEGERS, "Div": lambda a, b: a / b}

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
}


@on_numbers(*_ON_INTEGERS)
def arithmetic(node: Node, *values: Small) -> Value:
    """Compute with sizes."""
    if len(values) != 2:
        return values[0] if len(values) == 1 else NotImplemented
    left, right = values
    paired = _pairs(left, right)
    if paired is None or (not all(isinstance(item, (int, float)) for item in right.items) and node.kind == "Mod"):
        return NotImplemented
    table = _ON_FLOATS if left.dtype.is_floating_point else _ON_INTEGERS
    items = tuple(_rounded(table[node.kind](a, b), left.dtype) for a, b in paired[0])
    return Small(items, paired[1], left.dtype)


@on_numbers(*_COMPARISONS)
def comparison(node: Node, left: Small, right: Small) -> Value:
    """Compare sizes that are plain numbers or the same symbol; others are compared as tensors."""
    paired = _pairs(left, right)
    if paired is None:
        return NotImplemented
    found = []
    for a, b in paired[0]:
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            found.append(bool(_COMPARISONS[node.kind](a, b)))
        elif isinstance(a, int) != isinstance(b, int) and -1 in (a if isinstance(a, int) else b, None):
            # A size is never -1: exporters ask so before an Expand.
            sized = {"Equal": False, "Greater": isinstance(b, int), "Less": isinstance(a, int)}
            if node.kind not in sized:
                return NotImplemented
            found.append(sized[node.kind])
        else:
            return NotImplemented
    return Small(tuple(found), paired[1], torch.bool)


@on_numbers("Where")
def where_on_numbers(_: Node, condition: Small, left: Small, right: Small) -> Value:
    """Choose among sizes."""
    if not all(isinstance(item, bool) for item in condition.items):
        return NotImplemented
    count = max(len(value.items) for value in (condition, left, right))
    if any(len(value.items) not in (1, count) for value in (condition, left, right)):
        return NotImplemented
    spread = [v.items * count if len(v.items) == 1 else v.items for v in (condition, left, right)]
    items = tuple(a if chosen else b for chosen, a, b in zip(*spread, strict=True))
    return Small(items, max(condition.rank, left.rank, right.rank), left.dtype)


@on_numbers("Cast")
def cast_numbers(node: Node, value: Small) -> Value:
    """Change the type of sizes."""
    wanted = node.dtype(node.get("to"))
    if wanted is torch.bool or value.dtype is torch.bool or wanted.is_complex:
        return NotImplemented
    if wanted.is_floating_point:
        items = tuple(_as_float(item) for item in value.items)
    elif value.dtype.is_floating_point:
        items = tuple(_as_int(item) for item in value.items)
    else:
        items = value.items
    return Small(items, value.rank, wanted)


def _as_float(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.to(torch.float32)
    return float(item) if isinstance(item, (int, float)) else torch.sym_float(item)


def _as_int(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.to(torch.int64)
    return int(item) if isinstance(item, (int, float)) else torch.sym_int(item)


@on_numbers("Identity")
def same(_: Node, value: Small) -> Small:
    """Pass numbers on."""
    return value


@on_numbers("Neg")
def negative(_: Node, value: Small) -> Small:
    """Negate sizes."""
    return Small(tuple(-item for item in value.items), value.rank, value.dtype)


def _rounding(name: str) -> Callable[[Any], Any]:
    import math

    plain, tensor = (math.floor, torch.floor) if name == "Floor" else (math.ceil, torch.ceil)

    def compute(item: Any) -> Any:
        if isinstance(item, Tensor):
            return tensor(item)
        # Both give integers, symbolic ones where the number is symbolic.
        return plain(item)

    return compute


@on_numbers("Floor", "Ceil")
def rounded(node: Node, value: Small) -> Small:
    """Round scaled sizes."""
    compute = _rounding(node.kind)
    items = tuple(_as_float(compute(item)) for item in value.items)
    return Small(items, value.rank, value.dtype)
