"""Keras models in the older HDF5 format (.h5)."""

from __future__ import annotations

import struct

from convert.errors import UnknownSource
from convert.sources import KERAS, SOURCES, LoadedModel, Probe, Source
from convert.sources._keras import load_keras
from convert.sources._keras2 import readable
from convert.spec import LoadOptions, SourceFile

MAGIC = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 52  # up to the end-of-file address of every version


def recognise(seen: Probe) -> str | None:
    """Know HDF5 by its magic bytes, and a truncated file by the end its superblock promises."""
    if not seen.head.startswith(MAGIC):
        return None
    # Superblock version 0 and 1 keep the end-of-file address 40 or 44 bytes in, 2 and 3 at 28 (HDF5 format, II.A).
    size = seen.path.stat().st_size
    if len(seen.head) < SUPERBLOCK_BYTES:
        raise UnknownSource(f"{seen.path} is an HDF5 file that is truncated", fix="copy or download it again")
    (end,) = struct.unpack_from("<Q", seen.head, {0: 40, 1: 44}.get(seen.head[8], 28))
    if size < end:
        raise UnknownSource(
            f"{seen.path} is an HDF5 file of {end:,} bytes of which only {size:,} are there",
            fix="copy or download it again",
        )
    return "Keras HDF5 file"


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load the model with Keras's reader of HDF5 files, one that Keras 2 wrote in the words of Keras 3."""
    with readable(file) as path:
        return load_keras(file, options, ".h5", path)


SOURCES.register(Source("keras_h5", "Keras HDF5 (.h5)", KERAS, recognise, load))
