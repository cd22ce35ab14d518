"""ExportedProgram archives (.pt2), as torch.export.save writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import LoadError
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._probe import probe
from convert.sources._torch import loaded, module_of, read_promise
from convert.spec import BATCH, Dim, LoadOptions, Promise, SourceFile, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import torch


def recognise(seen: Probe) -> str | None:
    """Know the archive by its serialized graph, in the layout of PyTorch 2.9 on or the one before."""
    if seen.has("serialized_exported_program.json"):
        return "ExportedProgram archive of PyTorch before 2.9"
    if seen.has("archive_format") and any("/models/" in name and name.endswith(".json") for name in seen.members):
        return "ExportedProgram archive"
    return None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load the program and read its inputs, their sizes and free dimensions from its graph."""
    import torch

    seen = probe(Path(file.path))
    if seen.has("data/sample_inputs/model.pt") and not _plain(seen, "data/sample_inputs/model.pt"):
        raise LoadError(
            f"{file.path} carries example inputs that would run code when read", fix="save it again from its source"
        )
    try:
        program = torch.export.load(file.path)
    except Exception as error:
        raise LoadError(
            f"PyTorch {torch.__version__} cannot load the ExportedProgram {file.path}: {summary(error)}",
            fix="export it again with the installed PyTorch; .pt2 files are not stable between versions",
        ) from error
    inputs = read_inputs(program)
    promise = read_promise(seen)
    if promise is not None and [spec.name for spec in promise.inputs] == [spec.name for spec in inputs]:
        inputs = tuple(
            replace(own, low=said.low, high=said.high) if said.high is not None else own
            for own, said in zip(inputs, promise.inputs, strict=True)
        )
    return loaded(module_of(program), options, Promise(inputs, promise.output_names if promise else ()))


def read_inputs(program: torch.export.ExportedProgram) -> tuple[TensorSpec, ...]:
    """Read the user inputs of a program: names of its graph, dtypes, sizes; symbolic sizes become free dimensions."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    named: dict[str, str] = {}
    rows = embedding_rows(program)
    specs = []
    for name in program.graph_signature.user_inputs:
        value = values.get(name) if isinstance(name, str) else None
        if value is None or not hasattr(value, "dtype"):
            raise LoadError(
                f"the program's input {name!r} is not a tensor", fix="export it with constants bound, tensors only"
            )
        shape: list[Dim] = []
        for axis, size in enumerate(value.shape):
            if isinstance(size, int):
                shape.append(size)
            else:
                shape.append(named.setdefault(str(size), BATCH if axis == 0 and not named else f"{name}_{axis}"))
        bounds = (0, rows[name] - 1) if name in rows else (None, None)
        specs.append(TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(shape), *bounds))
    return tuple(specs)


def embedding_rows(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Find how many rows the embeddings have that read an input directly, by the input's name."""
    import torch

    rows: dict[str, int] = {}
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.embedding.default:
            weight, indices = node.args[:2]
            count = int(weight.meta["val"].shape[0])
            rows[indices.name] = min(count, rows.get(indices.name, count))
    return rows


def _plain(seen: Probe, name: str) -> bool:
    import io
    import zipfile

    from convert.sources._probe import foreign_globals

    try:
        with zipfile.ZipFile(io.BytesIO(seen.read(name))) as inner:
            pickles = [inner.read(member) for member in inner.namelist() if member.endswith(".pkl")]
    except zipfile.BadZipFile:
        return False
    return not any(foreign_globals(pickled) for pickled in pickles)


SOURCES.register(Source("exported_program", "PyTorch ExportedProgram (.pt2)", TORCH, recognise, load))
