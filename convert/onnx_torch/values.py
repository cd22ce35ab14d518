"""What flows through a graph: tensors, and short vectors of numbers that stay in Python.

Sizes are such vectors: kept out of tensors, they remain symbolic under torch.export and recorded under torch.jit.trace,
so that a free dimension survives the arithmetic that a graph does with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convert.errors import LoadError

#: Constants up to this many numbers are also kept in Python; longer ones are data, not sizes, axes or scales.
SMALL = 256

#: What helps where a graph is steered by its data.
STEERED = "convert it to ONNX only, or export the model without conditions and sizes that depend on the data"

Value = Any  # Tensor | Small | list of them (a sequence) | None


@dataclass(frozen=True, slots=True)
class Small:
    """A scalar or a short vector of Python numbers, symbolic ones included; `dtype` is its tensor's."""

    items: tuple[Any, ...]
    rank: int
    dtype: torch.dtype

    def tensor(self, dtype: torch.dtype | None = None) -> Tensor:
        """Give it as a tensor."""
        wanted = dtype or self.dtype
        if all(isinstance(item, (int, float, bool)) for item in self.items):
            return torch.tensor(self.items[0] if self.rank == 0 else self.items, dtype=wanted)
        parts = [_scalar_tensor(item, wanted) for item in self.items]
        return parts[0] if self.rank == 0 else torch.stack(parts)


def _scalar_tensor(item: Any, dtype: torch.dtype) -> Tensor:
    if isinstance(item, Tensor):  # a size under torch.jit.trace
        return item.to(dtype)
    return torch.full((), item, dtype=dtype)


def small_of(tensor: Tensor) -> Small | None:
    """Give a constant as Python numbers, or None where it is too large, of a higher rank or complex."""
    if tensor.dim() > 1 or tensor.numel() > SMALL or tensor.dtype.is_complex:
        return None
    return Small(tuple(tensor.reshape(-1).tolist()), tensor.dim(), tensor.dtype)


def tensor_of(value: Value, dtype: torch.dtype | None = None) -> Tensor:
    """Give a value as a tensor."""
    return value.tensor(dtype) if isinstance(value, Small) else value


def numbers(value: Value) -> list[Any]:
    """Read a value as Python numbers; one that is computed from data becomes data-dependent sizes of the graph."""
    if isinstance(value, Small):
        return list(value.items)
    if isinstance(value, Tensor):
        if torch.jit.is_tracing():
            raise LoadError("a size depends on the data, which a trace would bake in", fix=STEERED)
        return list(value.reshape(-1).tolist())
    raise LoadError(f"a {type(value).__name__} was found where numbers are needed")


def number(value: Value) -> Any:
    """Read a value as one Python number."""
    return numbers(value)[0]


def sizes(tensor: Tensor) -> list[Any]:
    """Give a tensor's sizes: integers, symbols under torch.export, recorded scalars under torch.jit.trace."""
    return list(tensor.shape)


def is_int(item: Any, value: int) -> bool:
    """Whether a size is a plain integer of this value; asking that of a symbol would fix it."""
    return isinstance(item, int) and item == value


def same_size(one: Any, other: Any) -> bool:
    """Whether two sizes are equal; of symbols, whether they are so for every value."""
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return int(one) == int(other)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(one == other))


def length(tensor: Tensor, axis: int) -> int:
    """Give a size as a plain integer where the graph's form depends on it; this fixes a free dimension."""
    return int(tensor.shape[axis])
