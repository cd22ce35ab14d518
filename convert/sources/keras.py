"""Keras models in the native format (.keras)."""

from __future__ import annotations

from convert.sources import KERAS, SOURCES, LoadedModel, Probe, Source
from convert.sources._keras import load_keras
from convert.spec import LoadOptions, SourceFile


def recognise(seen: Probe) -> str | None:
    """Know the archive by its configuration and weights."""
    if seen.has("config.json") and seen.has("metadata.json"):
        return "Keras model archive"
    return None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load the model with Keras's reader of its native archives."""
    return load_keras(file, options, ".keras")


SOURCES.register(Source("keras", "Keras (.keras)", KERAS, recognise, load))
