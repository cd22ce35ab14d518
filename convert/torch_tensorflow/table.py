"""The table of ATen operators, and what the function that computes one gets to see."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from convert.errors import RouteError

Compute = Callable[..., Any]

OFF, ON = False, True  # the defaults of switches in ATen's schemas, which are given by position

#: A constant up to this many bytes is written into the graph, where shapes can be read off it; a greater one becomes a
#: variable, whose bytes are stored outside the graph, which may hold 2 GB at most.
SMALL_BYTES = 4096


class Kept:
    """The constants of a graph that became variables of the SavedModel, and what was made of constants.

    TensorFlow traces a function more than once, and allows variables in the first trace only: all is made once.
    """

    def __init__(self) -> None:
        self.variables: list[tf.Variable] = []
        self._known: dict[int, tuple[np.ndarray, tf.Variable]] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Give what `make` makes of constants, the same whenever it is asked for again."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def tensor(self, array: np.ndarray) -> tf.Tensor:
        """Give a constant as a tensor of the graph."""
        if array.nbytes <= SMALL_BYTES:
            return tf.constant(array)
        if id(array) not in self._known:
            with tf.init_scope():  # outside of the function being traced
                variable = tf.Variable(array, trainable=False)
            self.variables.append(variable)
            self._known[id(array)] = (array, variable)
        return tf.convert_to_tensor(self._known[id(array)][1])


class Folding(Kept):
    """What a step on constants alone sees: nothing is kept, its answer is."""

    def tensor(self, array: np.ndarray) -> tf.Tensor:
        """Give a constant as a tensor of no graph."""
        return tf.constant(array)


@dataclass(frozen=True, slots=True)
class Call:
    """One step as its function sees it: what it is to give, and where greater constants are kept."""

    name: str
    operator: str
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    kept: Kept

    @property
    def dtype(self) -> tf.DType:
        """The dtype of the first tensor it gives."""
        return tf.as_dtype(self.dtypes[0])

    @property
    def rank(self) -> int:
        """The rank of the first tensor it gives."""
        return len(self.shapes[0])

    def unsupported(self, what: str) -> RouteError:
        """Say that the operator is known and this way of using it is not."""
        return RouteError(f"{self.operator} with {what} has no counterpart in TensorFlow yet")


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator is computed; `raw` are the positions of arguments whose constants come as arrays."""

    compute: Compute
    raw: frozenset[int] = field(default_factory=frozenset)


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, raw: tuple[int, ...] = ()) -> Callable[[Compute], Compute]:
    """Register a function as the computation of operators; `aten.` goes without saying."""

    def register(compute: Compute) -> Compute:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"two functions compute {name!r}")
            OPERATORS[name] = Operator(compute, frozenset(raw))
        return compute

    return register


def cast(value: Any, dtype: tf.DType) -> tf.Tensor:
    """Give a tensor, an array or a number in a dtype."""
    if isinstance(value, (bool, int, float)):
        return tf.constant(value, dtype) if dtype != tf.bool else tf.constant(bool(value))
    return tf.cast(value, dtype)


def static(shape: Any) -> bool:
    """Whether every size of a shape is known."""
    return all(isinstance(size, int) for size in shape)


def length(value: Any, axis: int) -> Any:
    """Give an axis's size: a number where it is known, else a scalar tensor."""
    known = value.shape[axis]
    return int(known) if known is not None else tf.shape(value)[axis]


def sizes(value: Any) -> list[Any]:
    """Give all sizes of a tensor."""
    return [length(value, axis) for axis in range(len(value.shape))]


def shape_of(wanted: Any) -> Any:
    """Give sizes, numbers and scalar tensors mixed, as TensorFlow takes a shape."""
    if static(wanted):
        return list(wanted)
    return tf.stack([tf.cast(size, tf.int32) for size in wanted])


def axes_of(value: Any, given: Any) -> list[int]:
    """Give axes counted from the front; all of them where none is given."""
    rank = len(value.shape)
    if given is None or given == []:
        return list(range(rank))
    return [axis % rank if rank else 0 for axis in ([given] if isinstance(given, int) else given)]
