"""A PyTorch graph as plain data: what travels from the process that has PyTorch to the one that has TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from convert.spec import Signature

PROGRAM, WEIGHTS = "program.json", "weights.npz"

#: Keys of the only dictionaries that arguments hold: the value of another step, or a number JSON has no word for.
VALUE, DTYPE, NUMBER = "value", "dtype", "number"


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an operator, in the order they are made; its arguments as JSON holds them."""

    name: str
    operator: str  # "aten.add.Tensor"
    args: list[Any]
    kwargs: dict[str, Any]
    dtypes: tuple[str, ...]  # of what it gives; empty where that is a size
    shapes: tuple[tuple[int | None, ...], ...]  # None where the size is free


@dataclass(frozen=True, slots=True)
class Program:
    """A graph: its inputs and weights by the names the steps know them by, and the values it gives."""

    signature: Signature
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write everything but the weights into a folder."""
        (folder / PROGRAM).write_bytes(msgspec.json.encode(self))


def load(folder: Path) -> Program:
    """Read what `save` wrote."""
    return msgspec.json.decode((folder / PROGRAM).read_bytes(), type=Program)
