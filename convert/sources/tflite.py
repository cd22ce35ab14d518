"""Existing TFLite files."""

from __future__ import annotations

from pathlib import Path

from convert.sources import SOURCES, TFLITE, LoadedModel, Probe, Source
from convert.sources._measure import agreed, measure
from convert.sources._tflite import inputs_of, open_model, parameters_of
from convert.spec import LoadOptions, ModelFacts, SourceFile

IDENTIFIER = b"TFL3"


def recognise(seen: Probe) -> str | None:
    """Know the file by its flatbuffer identifier."""
    return "TFLite model" if seen.head[4:8] == IDENTIFIER else None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Open the file in an interpreter without delegates, and run it to learn its outputs."""
    model = open_model(Path(file.path), options.signature)
    parameters = parameters_of(model)
    signature = measure(model.run, agreed(inputs_of(model), options.inputs))
    return LoadedModel(model, ModelFacts(signature, parameters))


SOURCES.register(Source("tflite", "TFLite (.tflite)", TFLITE, recognise, load, has_signatures=True))
