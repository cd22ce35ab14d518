"""Ideals: what a reduced artifact would answer if it lost nothing but what its precision must lose.

An ideal is a float file of the artifact's own format, built from the proven float artifact with the numbers rounded as
the reduced artifact says it rounds them: weights rounded, activations quantized and dequantized with its own scales.
The reduced artifact's error over its ideal's is near 1 where it computes rightly, however coarse its scales are.

One file per format registers an `Ideal`. All of it runs in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convert.registry import Registry
from convert.worker import Environment
from validators import tolerance

if TYPE_CHECKING:
    import numpy as np

__all__ = ["IDEALS", "Building", "Built", "Ideal", "Nudge", "build"]


@dataclass(frozen=True, slots=True)
class Building:
    """One ideal to build; travels to a worker.

    `base` is the float artifact that the reduced one was made of; empty where nobody has it, as of a file made
    elsewhere. Then the ideal is the reduced artifact itself with its arithmetic undone: it shows faults of kernels, and
    none of weights or scales, which `Built.notes` must say.
    """

    format: str
    precision: str
    base: str
    reduced: str
    out: str  # the file to write
    nudged: bool = False  # with constants changed by `tolerance.NUDGE`, to see how far that moves its answers


@dataclass(frozen=True, slots=True)
class Built:
    """An ideal, as a file its format's runtime opens, with the base's input and output names."""

    path: str
    notes: tuple[str, ...] = ()


#: Gives a float array anew, hardly changed.
Nudge = Callable[["np.ndarray"], "np.ndarray"]


@dataclass(frozen=True, slots=True)
class Ideal:
    """How the ideal of one format's reduced artifacts is built.

    `build` raises LoadError where it cannot be: then nothing tells a conversion fault from the loss of precision, and
    parity is NOT_RUN. `nudge` applies a function to every float constant of a file it built, in place. `name` is the
    format's. `runtime` names the engine that runs it, the format's own by default. `like` names, by precision, the
    operators whose kernels compute so nearly as the ideal does that the distance from it tells a fault; those of a
    precision that is not in it all do.
    """

    name: str
    environment: Environment
    build: Callable[[Building], Built]
    nudge: Callable[[Path, Nudge], None]
    runtime: str = ""
    like: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def told_by_distance(self, precision: str, operators: Iterable[str]) -> float | None:
        """Give the bound on D for a file of this format, precision and operators; None where D is not judged."""
        if precision in self.like and not set(operators) <= self.like[precision]:
            return None
        return tolerance.DISTANCE_BOUNDS.get((self.name, precision))


IDEALS: Registry[Ideal] = Registry("ideal", "validators.ideals")


def build(task: Building) -> Built:
    """Build an ideal, in a worker."""
    Path(task.out).parent.mkdir(parents=True, exist_ok=True)
    ideal = IDEALS[task.format]
    built = ideal.build(task)
    if task.nudged:
        ideal.nudge(Path(built.path), nudging())
    return built


def nudging() -> Nudge:
    """Give a function that changes floats as other orders of their sums would: each by a few of its roundings."""
    import numpy as np

    random = np.random.default_rng(0)

    def nudge(array: np.ndarray) -> np.ndarray:
        steps = random.uniform(-tolerance.NUDGE, tolerance.NUDGE, array.shape)
        return np.asarray(array * (1 + steps), array.dtype)

    return nudge
