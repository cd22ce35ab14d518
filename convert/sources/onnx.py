"""ONNX files, with their weights inside or beside them."""

from __future__ import annotations

from pathlib import Path

from convert.sources import ONNX, SOURCES, LoadedModel, Probe, Source
from convert.sources._measure import agreed, measure
from convert.sources._onnx import inputs_of, looks_like_onnx, parameters_of, read_model, traits_of
from convert.spec import LoadOptions, ModelFacts, SourceFile


def recognise(seen: Probe) -> str | None:
    """Know the file by how its protobuf begins."""
    return f"ONNX model, IR version {seen.head[1]}" if looks_like_onnx(seen) else None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Read the graph, and run it in ONNX Runtime to learn its outputs: what a file declares of them may be wrong."""
    model = read_model(Path(file.path))
    inputs = agreed(inputs_of(model), options.inputs)
    signature = measure(model.run, inputs)
    return LoadedModel(model, ModelFacts(signature, parameters_of(model.proto), traits=traits_of(model.proto)))


SOURCES.register(Source("onnx", "ONNX (.onnx)", ONNX, recognise, load))
