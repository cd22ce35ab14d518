"""Quantizers: ways to make a float artifact smaller and faster at a lower precision.

A quantizer is one file of this folder that registers a `Quantizer`; modules whose name starts with an underscore are
shared by several of them. It works on a proven float artifact, or, as a converter's own quantizer must, on the source.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from convert.errors import EdgeproofError, RouteError, UsageError
from convert.formats import FORMATS
from convert.recipe import Calibration, Recipe
from convert.registry import Registry
from convert.sources import SOURCES
from convert.spec import (
    FLOAT_IO,
    FP32,
    INT8,
    PRECISIONS,
    Artifact,
    LoadOptions,
    Signature,
    SourceFile,
    fingerprint,
)
from convert.worker import Environment, summary

__all__ = [
    "QUANTIZERS",
    "Layer",
    "Layers",
    "Listing",
    "Quantizer",
    "Reduced",
    "Reduction",
    "candidates",
    "list_layers",
    "perform",
    "possible",
]


@dataclass(frozen=True, slots=True)
class Reduction:
    """One artifact to be made at a lower precision; travels to a quantizer's worker.

    `base` is the proven float artifact, its signature as written in the file; `source` the model it was made from.
    """

    recipe: Recipe
    module: str  # that registers the quantizer, so that plug-ins from elsewhere are found
    base: Artifact
    source: SourceFile
    options: LoadOptions
    out: str
    calibration: Calibration | None = None  # None where the precision needs none
    layout: str = "keep"  # that image inputs have in the base, as `--layout` asked


@dataclass(frozen=True, slots=True)
class Reduced:
    """What a quantizer wrote: the signature as its file has it, and what there is to say."""

    signature: Signature
    notes: tuple[str, ...] = ()
    rescues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator of a float artifact that can be left out of quantization.

    `name` is what a recipe's `kept` calls it; `weight_bytes` what its constants take in the float artifact.
    """

    name: str
    operator: str
    weight_bytes: int = 0


def no_layers(_: Path) -> tuple[Layer, ...]:
    """Say that a quantizer cannot treat single layers."""
    return ()


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One tool that makes artifacts of one format at some precisions.

    `quantize` writes `out` and raises where it cannot honour the recipe; the contract's names, order and free
    dimensions must survive. `takes` are families or kinds of sources, for one that begins at the source; empty for all.
    `rank` orders the quantizers of a format and precision, lowest first, and `why` gives the reason for the place.
    `layers` lists what a recipe may keep in other precisions, which are `keeps`; `ranges` how it can find ranges.
    """

    name: str
    title: str
    format: str
    precisions: tuple[str, ...]
    rank: int
    why: str
    environment: Environment
    quantize: Callable[[Reduction], Reduced]
    takes: tuple[str, ...] = ()
    layers: Callable[[Path], tuple[Layer, ...]] = no_layers
    keeps: tuple[str, ...] = (FP32,)
    ranges: tuple[str, ...] = ("min-max",)
    equalises: bool = False  # whether it can scale the channels of neighbouring layers to like ranges
    io: tuple[str, ...] = ("float",)  # what inputs and outputs can be

    def accepts(self, kind: str) -> bool:
        """Whether it can work for a kind of source."""
        return not self.takes or kind in self.takes or SOURCES[kind].family.name in self.takes


QUANTIZERS: Registry[Quantizer] = Registry("quantizer", "convert.precision")


def possible(form: str) -> tuple[str, ...]:
    """Name the precisions that artifacts of a format can have, the full one first."""
    able = {precision for quantizer in QUANTIZERS if quantizer.format == form for precision in quantizer.precisions}
    return tuple(precision for precision in PRECISIONS if precision == FP32 or precision in able)


def candidates(form: str, precision: str, kind: str, io: str = "float") -> tuple[Quantizer, ...]:
    """List the quantizers for a format and precision, in the order to try them.

    Raises UsageError, naming what is possible, where there is none.
    """
    found = [q for q in QUANTIZERS if q.format == form and precision in q.precisions and q.accepts(kind)]
    if not found:
        raise UsageError(
            f"no runtime of {form} runs {precision}, or nothing here makes it",
            fix=f"for {form} there are: {', '.join(possible(form))}",
        )
    # Only what has 8-bit ranges for every activation has them for inputs and outputs.
    able = [quantizer for quantizer in found if io == FLOAT_IO or (io in quantizer.io and precision == INT8)]
    if not able:
        kinds = sorted({name for quantizer in found for name in quantizer.io} if precision == INT8 else {FLOAT_IO})
        raise UsageError(
            f"{form} artifacts of precision {precision} cannot take and give {io}",
            fix=f"--io can be: {', '.join(kinds)}",
        )
    return tuple(sorted(able, key=lambda quantizer: (quantizer.rank, quantizer.name)))


def perform(task: Reduction) -> Artifact:
    """Quantize; runs in the quantizer's worker.

    Raises RouteError for whatever the tool raised, with its first words.
    """
    importlib.import_module(task.module)
    quantizer = QUANTIZERS[task.recipe.quantizer]
    out = Path(task.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        made = quantizer.quantize(task)
    except (EdgeproofError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise RouteError(f"{type(error).__name__}: {summary(error)}") from error
    if not out.exists() or fingerprint(out)[1] == 0:
        raise RouteError(f"{quantizer.title} reported success and wrote no file")
    companions = FORMATS[quantizer.format].companions(out)
    digest, size = fingerprint(out, companions)
    return dataclasses.replace(
        task.base,
        path=str(out),
        precision=task.recipe.precision,
        signature=made.signature,
        sha256=digest,
        file_bytes=size,
        notes=(*task.base.notes, *made.notes),
        rescues=(*task.base.rescues, *made.rescues),
        companions=tuple(map(str, companions)),
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """A float artifact whose layers to list; travels to a quantizer's worker."""

    quantizer: str
    module: str
    base: str


@dataclass(frozen=True, slots=True)
class Layers:
    """What a recipe may keep in other precisions."""

    found: tuple[Layer, ...] = field(default=())


def list_layers(task: Listing) -> Layers:
    """List the layers of a float artifact; runs in the quantizer's worker."""
    importlib.import_module(task.module)
    return Layers(QUANTIZERS[task.quantizer].layers(Path(task.base)))
