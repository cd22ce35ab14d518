"""The nouns of reduced precision: how an artifact was quantized, and the data that its ranges come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from convert.errors import UsageError
from convert.spec import FLOAT_IO

if TYPE_CHECKING:
    import numpy as np

#: How the range of an activation is found from what calibration data made of it; the first is tried first.
MIN_MAX = "min-max"
AVERAGE = "average"  # of the samples' ends
RANGES = (MIN_MAX, AVERAGE, "percentile", "mse", "entropy")


@dataclass(frozen=True, slots=True)
class Kept:
    """One layer that is not quantized as the rest: its name in the float artifact, and the precision it has instead."""

    layer: str
    precision: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that says how to make a reduced artifact from a float one; equal recipes make equal bytes.

    `quantizer` is the plug-in that carries it out, `base` names the candidate that made the float artifact.
    """

    format: str
    precision: str
    quantizer: str
    base: str = ""
    io: str = FLOAT_IO
    ranges: str = MIN_MAX
    equalised: bool = False  # whether the channels of neighbouring layers were scaled to like ranges first
    kept: tuple[Kept, ...] = ()
    calibration_sha256: str = ""  # of the data it was made with; another's ranges would differ
    schema_version: int = 1

    def describe(self) -> str:
        """Say in a few words what is special about it."""
        words = [self.quantizer]
        if self.ranges != MIN_MAX:
            words.append(f"{self.ranges} ranges")
        if self.equalised:
            words.append("equalised weights")
        if self.kept:
            counts: dict[str, int] = {}
            for kept in self.kept:
                counts[kept.precision] = counts.get(kept.precision, 0) + 1
            words += [f"{count} layer(s) in {precision}" for precision, count in counts.items()]
        return ", ".join(words)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe as JSON for people and for `--recipe`."""
    from convert.folder import write_text

    write_text(path, msgspec.json.format(msgspec.json.encode(recipe)).decode() + "\n")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; raises UsageError where it is none."""
    fix = "give a .recipe.json file that an earlier run wrote beside its artifact"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}", fix=fix) from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is no recipe: {error}", fix=fix) from error


@dataclass(frozen=True, slots=True)
class Range:
    """The least and greatest value one input takes in the calibration data."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration data as prepared for a run: one `.npz` of named arrays per sample, in the layout of the source.

    Every array has the shape of one inference, a batch of 1 where the batch is free. `sha256` is of all samples'
    contents in order. `held_out` is an `.npz` of rows set aside to judge by, empty where the user gave inputs.
    """

    folder: str
    count: int
    sha256: str
    origin: str  # what it was read from, for people
    ranges: tuple[Range, ...] = ()
    held_out: str = ""
    release: bool = True  # False for generated data, with which nothing should be released
    notes: tuple[str, ...] = ()
    overlap: int = 0  # samples that are rows of the inputs file, or equal rows that were set aside

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        """Give the samples one after another, so that one at a time is in memory."""
        import numpy as np

        for index in range(self.count):
            with np.load(sample_path(self.folder, index)) as file:
                yield {name: file[name] for name in file.files}


def sample_path(folder: str | Path, index: int) -> Path:
    """Say where a sample is kept."""
    return Path(folder) / f"{index:06d}.npz"
