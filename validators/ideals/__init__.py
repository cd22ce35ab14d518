"""Ideals: what a reduced artifact would answer if it lost nothing but what its precision must lose.

An ideal is a float file of the artifact's own format, built from the proven float artifact with the numbers rounded as
the reduced artifact says it rounds them: weights rounded, activations quantized and dequantized with its own scales.
The reduced artifact's error over its ideal's is near 1 where it computes rightly, however coarse its scales are.

One file per format registers an `Ideal`. All of it runs in a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convert.registry import Registry
from convert.worker import Environment

__all__ = ["IDEALS", "Building", "Built", "Ideal", "build"]


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


@dataclass(frozen=True, slots=True)
class Built:
    """An ideal, as a file its format's runtime opens, with the base's input and output names."""

    path: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ideal:
    """How the ideal of one format's reduced artifacts is built.

    `build` raises LoadError where it cannot be: then nothing tells a conversion fault from the loss of precision, and
    parity is NOT_RUN. `name` is the format's. `runtime` names the engine that runs it, the format's own by default.
    """

    name: str
    environment: Environment
    build: Callable[[Building], Built]
    runtime: str = ""


IDEALS: Registry[Ideal] = Registry("ideal", "validators.ideals")


def build(task: Building) -> Built:
    """Build an ideal, in a worker."""
    Path(task.out).parent.mkdir(parents=True, exist_ok=True)
    return IDEALS[task.format].build(task)
