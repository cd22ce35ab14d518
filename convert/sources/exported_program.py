"""ExportedProgram archives (.pt2), as torch.export.save writes them."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from convert.errors import LoadError, UsageError
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._index_ranges import rows_read
from convert.sources._probe import WHOLE, foreign_globals, probe
from convert.sources._stand_ins import stand_in
from convert.sources._torch import loaded, module_of, read_promise
from convert.spec import BATCH, Dim, LoadOptions, Promise, SourceFile, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import torch


_RAW = re.compile(r"data/(weights|constants)/(weight|tensor)_\d+")
_PLAIN_MEMBERS = ("archive_format", "archive_version", "byteorder", "version")


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
    code = None if options.trust else hidden_code(seen)
    if code:
        raise UsageError(
            f"{file.path} would run code when read: {code}",
            fix="export it again without custom objects, or add --trust when you know who made it",
        )
    if not options.trust:
        # PyTorch answers a failed weights-only load of some members with one that runs code.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    stand_in(seen)
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
        inputs = tuple(_informed(own, said) for own, said in zip(inputs, promise.inputs, strict=True))
    return loaded(module_of(program), options, Promise(inputs, promise.output_names if promise else ()))


def read_inputs(program: torch.export.ExportedProgram) -> tuple[TensorSpec, ...]:
    """Read the user inputs of a program: names of its graph, dtypes, sizes; symbolic sizes become free dimensions."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    named: dict[str, str] = {}
    rows = rows_read(program)
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


def _informed(own: TensorSpec, said: TensorSpec) -> TensorSpec:
    """Add to an input of the graph what its export lost: names of free dimensions and the range of integers."""
    shape = own.shape
    if len(said.shape) == len(shape):
        both = zip(shape, said.shape, strict=True)
        shape = tuple(name if isinstance(axis, str) and isinstance(name, str) else axis for axis, name in both)
    low, high = (own.low, own.high) if said.high is None else (said.low, said.high)
    return TensorSpec(own.name, own.dtype, shape, low, high)


def hidden_code(seen: Probe) -> str:
    """Say which member of an archive would run code when PyTorch reads it, or nothing when none would.

    torch.export.load unpickles more than weights: example inputs, constants, tensors marked `use_pickle`. Raw tensors
    and JSON are data; an inner torch.save archive must hold tensors only; anything else is refused.
    """
    pickled = set()
    for name in seen.members:
        if name.endswith("_config.json"):
            try:
                config = msgspec.json.decode(seen.read(name), type=_PayloadConfig)
            except msgspec.MsgspecError as error:
                return f"{name} cannot be understood ({error})"
            pickled |= {entry.path_name for entry in config.config.values() if entry.use_pickle}
    for name in seen.members:
        member = name.removeprefix(f"{seen.root}/")
        marked = any(member.endswith(f"/{path}") for path in pickled)
        if _RAW.fullmatch(member) and not marked:
            continue  # read as bytes, whatever they are
        content = seen.read(name, WHOLE)
        if content.startswith(b"PK"):
            found = _foreign_in(content)
            if found:
                return f"{member} imports {found}"
        elif marked:
            return f"{member} is a pickle"
        elif content and not _is_text(member, content):
            return f"{member} is no plain tensor"
    return ""


def _is_text(member: str, content: bytes) -> bool:
    """Whether a member is one of those that PyTorch reads as text or JSON, and is that."""
    if member.endswith(".json"):
        try:
            msgspec.json.decode(content)
        except msgspec.MsgspecError:
            return False
        return True
    return member.startswith(("extra/", ".data/")) or member.rpartition("/")[2] in _PLAIN_MEMBERS


def _foreign_in(archive: bytes) -> str:
    """Name the first thing an inner torch.save archive would import beyond tensors."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as inner:
            # By entry, not by name: of two members with one name, readers disagree which they read.
            pickles = [inner.read(entry) for entry in inner.infolist() if entry.filename.endswith(".pkl")]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        return f"what cannot be read ({error})"
    return next((name for pickle in pickles for name in foreign_globals(pickle)), "")


class _Payload(msgspec.Struct):
    """One tensor or object of an archive, as its configuration describes it."""

    path_name: str
    use_pickle: bool = True


class _PayloadConfig(msgspec.Struct):
    """The tensors or objects of one kind."""

    config: dict[str, _Payload]


SOURCES.register(Source("exported_program", "PyTorch ExportedProgram (.pt2)", TORCH, recognise, load))
