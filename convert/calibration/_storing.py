"""Samples as files: one `.npz` each, and the rows set aside as one `.npz` of stacked arrays."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.spec import BATCH, Signature

if TYPE_CHECKING:
    import numpy as np


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an `.npz`, whatever the arrays are called."""
    from numpy.lib.format import write_array

    # NOTE: Why not numpy.savez: it takes the names as keyword arguments, and an input may be called `file`.
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                write_array(stream, array, allow_pickle=False)


@dataclass(frozen=True, slots=True)
class Stacked:
    """How many rows went into one file, and why not all of them."""

    count: int
    notes: tuple[str, ...] = ()


def stack(files: list[Path], signature: Signature, out: Path) -> Stacked:
    """Join rows of one shape into one `.npz`, rows along the leading axis; one row at a time is in memory.

    A model whose inputs have no leading batch takes one case per file, so nothing is joined.
    """
    import numpy as np

    if not files:
        return Stacked(0)
    if any(not spec.shape or (isinstance(spec.shape[0], str) and spec.shape[0] != BATCH) for spec in signature.inputs):
        return Stacked(0, ("the inputs have no common batch, so no calibration rows could be set aside to judge by",))
    shapes: dict[Path, tuple[tuple[int, ...], ...]] = {}
    for file in files:
        with np.load(file) as row:
            shapes[file] = tuple(row[spec.name].shape for spec in signature.inputs)
    usual, count = Counter(shapes.values()).most_common(1)[0]
    chosen = [file for file in files if shapes[file] == usual]
    with zipfile.ZipFile(out, "w") as archive:
        for spec, shape in zip(signature.inputs, usual, strict=True):
            with archive.open(f"{spec.name}.npy", "w", force_zip64=True) as stream:
                descr = np.lib.format.dtype_to_descr(np.dtype(spec.dtype))
                header = {"descr": descr, "fortran_order": False, "shape": (count * shape[0], *shape[1:])}
                np.lib.format.write_array_header_1_0(stream, header)
                for file in chosen:
                    with np.load(file) as row:
                        stream.write(row[spec.name].tobytes())
    others = len(files) - count
    return Stacked(count, (f"{others} of the rows set aside have other sizes and were left out",) if others else ())
