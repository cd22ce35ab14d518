"""The table of operators, and the node that each gets to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from convert.errors import LoadError
from convert.onnx_torch.values import Value, numbers

Compute = Callable[..., Any]

#: ONNX's type numbers (onnx.proto, enum DataType) as PyTorch's.
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
}


#: What helps where a graph cannot be read into PyTorch.
OTHER_WAY = "take a route that does not go through PyTorch, or export the model with other operators"


@dataclass(slots=True)
class Node:
    """One node of the graph; `wide` when the module computes in float64."""

    kind: str
    name: str
    version: int  # of the operator set it is from
    attributes: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    wide: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        """Give an attribute."""
        return self.attributes.get(name, default)

    def dtype(self, number: int) -> torch.dtype:
        """Give the type of an ONNX type number, float64 for every floating one where the module computes wide.

        Raises LoadError for one that PyTorch lacks.
        """
        if number not in DTYPES:
            raise LoadError(f"{self.where} has values of ONNX type {number}, which PyTorch lacks", fix=OTHER_WAY)
        found = DTYPES[number]
        return torch.float64 if self.wide and found.is_floating_point else found

    def axes(self, value: Value = None, name: str = "axes") -> list[int] | None:
        """Read axes from an input (newer operator sets) or an attribute (older ones); None where neither is given."""
        if value is not None:
            return [int(axis) for axis in numbers(value)]
        found = self.attributes.get(name)
        return None if found is None else list(found)

    @property
    def where(self) -> str:
        """Name the node for people."""
        return f"{self.kind} ({self.name or ', '.join(self.outputs)})"

    def unsupported(self, what: str) -> LoadError:
        """Build the error for a form of an operator that is not known here."""
        return LoadError(f"the ONNX importer does not know {what} of {self.where}", fix=OTHER_WAY)


@dataclass(slots=True)
class Operator:
    """How one operator is computed.

    `raw` are positions of inputs that it takes as Python numbers where they are known; all others come as tensors.
    `small` computes on Python numbers alone, when every input is known so; it gives NotImplemented to decline.
    """

    compute: Compute
    raw: frozenset[int] = field(default_factory=frozenset)
    small: Compute | None = None


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, raw: tuple[int, ...] = ()) -> Callable[[Compute], Compute]:
    """Register a function as the computation of operators of the standard domain; `domain::Name` for others."""

    def register(compute: Compute) -> Compute:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"two functions compute {name!r}")
            OPERATORS[name] = Operator(compute, frozenset(raw))
        return compute

    return register


def on_numbers(*names: str) -> Callable[[Compute], Compute]:
    """Register a function as the computation of registered operators on Python numbers."""

    def register(compute: Compute) -> Compute:
        for name in names:
            OPERATORS[name].small = compute
        return compute

    return register
