"""Mutants: copies of an artifact with one planted fault each, to see whether the gate would have caught it.

One file per format registers a `Mutator`, which lists the places where a fault can be planted and plants it. All of it
runs in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.registry import Registry
from convert.worker import Environment

if TYPE_CHECKING:
    import numpy as np

__all__ = ["KINDS", "MUTATORS", "Listing", "Mutator", "Place", "Planting", "Spot", "places", "plant"]

#: The faults: what converters, and those who repair their files by hand, were seen to do.
SCALED, UNBIASED, SWAPPED = "weights scaled", "bias dropped", "channels swapped"
EPSILON, ACTIVATION, AXES = "epsilon changed", "activation replaced", "output axes swapped"
KINDS = (SCALED, UNBIASED, SWAPPED, EPSILON, ACTIVATION, AXES)

#: By how much weights are scaled where nobody says otherwise: 1 %, which no fixed tolerance of 1e-2 sees.
SCALE = 1.01

#: By how much an epsilon grows: from 1e-5 to 1e-3, as one framework's default differs from another's.
EPSILON_FACTOR = 100.0

#: A constant up to this that is added under a root is an epsilon.
LARGEST_EPSILON = 1e-2


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in an artifact a fault can be planted: which kind, and the operator or tensor, for people."""

    kind: str
    where: str


@dataclass(frozen=True, slots=True)
class Place:
    """A spot of an opened artifact, and what plants the fault there, in place."""

    spot: Spot
    apply: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Mutator:
    """How artifacts of one format, whose name it has, are broken.

    `places` gives the same places in the same order for the same file; also given by how much weights are scaled.
    """

    name: str
    environment: Environment
    open: Callable[[Path], Any]
    places: Callable[[Any, float], Iterable[Place]]
    save: Callable[[Any, Path], None]


MUTATORS: Registry[Mutator] = Registry("mutator", "validators.mutants")


@dataclass(frozen=True, slots=True)
class Listing:
    """An artifact whose places are wanted; travels to a worker."""

    format: str
    path: str


def places(job: Listing) -> tuple[Spot, ...]:
    """List where faults can be planted, in a worker."""
    mutator = MUTATORS[job.format]
    return tuple(place.spot for place in mutator.places(mutator.open(Path(job.path)), SCALE))


@dataclass(frozen=True, slots=True)
class Planting:
    """One fault to plant; travels to a worker."""

    format: str
    path: str
    number: int  # of the place, in the order of `places`
    out: str
    scale: float = SCALE


def plant(job: Planting) -> str:
    """Write a copy of an artifact with one fault, in a worker, and give its path."""
    mutator = MUTATORS[job.format]
    opened = mutator.open(Path(job.path))
    list(mutator.places(opened, job.scale))[job.number].apply()
    out = Path(job.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    mutator.save(opened, out)
    return str(out)


def pair_to_swap(array: np.ndarray, axis: int) -> tuple[int, int] | None:
    """Give the two channels along an axis that differ most from each other; None where all are equal.

    The first is the one with the largest norm.
    """
    import numpy as np

    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)
    first = int(np.square(rows).sum(1).argmax())
    gaps = np.square(rows - rows[first]).sum(1)
    second = int(gaps.argmax())
    return (first, second) if gaps[second] else None


def swapped(array: np.ndarray, pair: tuple[int, int], axis: int) -> np.ndarray:
    """Swap two channels along an axis."""
    import numpy as np

    order = np.arange(array.shape[axis])
    order[list(pair)] = order[list(reversed(pair))]
    return np.ascontiguousarray(np.take(array, order, axis))
