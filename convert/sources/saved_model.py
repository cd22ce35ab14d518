"""TensorFlow SavedModel folders, from Keras or plain TensorFlow, bare or in the layout TensorFlow Serving loads."""

from __future__ import annotations

from pathlib import Path

from convert.errors import UnknownSource
from convert.sources import SOURCES, TENSORFLOW, LoadedModel, Probe, Source
from convert.sources._probe import probe
from convert.sources._saved_model import load_saved_model, place_of
from convert.spec import LoadOptions, SourceFile


def recognise(seen: Probe) -> str | None:
    """Know the folder by its graph file."""
    if not seen.is_folder:
        return None
    place = place_of(seen.members)
    if place is None:
        return None
    return f"TensorFlow SavedModel, version {Path(place).name}" if place else "TensorFlow SavedModel"


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load the newest version's signature."""
    place = place_of(probe(Path(file.path)).members)
    if place is None:
        raise UnknownSource(f"{file.path} is no SavedModel any more", fix="check the folder")
    return load_saved_model(Path(file.path) / place, file, options)


SOURCES.register(
    Source("saved_model", "TensorFlow SavedModel (folder)", TENSORFLOW, recognise, load, has_signatures=True)
)
