"""PyTorch weights without a model (.pt, .pth), as torch.save writes a state dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import LoadError, UnknownSource
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._architecture import fit, require
from convert.sources._probe import foreign_globals
from convert.spec import LoadOptions, SourceFile
from convert.worker import summary

#: Keys under which training scripts file the weights beside an optimizer's state and the like.
NESTED = ("state_dict", "model_state_dict", "model", "weights")

#: How torch.save began its files before the zip format of PyTorch 1.6: a pickled magic number.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def pickled(seen: Probe) -> bytes | None:
    """Give the pickle of a file that torch.save wrote, or None when it wrote none."""
    if seen.head.startswith(LEGACY_MAGIC):
        return legacy_pickles(seen.path)
    if seen.has("data.pkl") and not seen.has("constants.pkl"):
        return seen.read("data.pkl")
    return None


def legacy_pickles(path: Path) -> bytes:
    """Give the fourth pickle of an old file, its object; magic number, version and machine come before it.

    Raises UnknownSource where the file ends before it does.
    """
    import pickletools

    try:
        with path.open("rb") as stream:
            for _ in range(3):
                for _opcode in pickletools.genops(stream):
                    pass
            start = stream.tell()
            for _opcode in pickletools.genops(stream):
                pass
            end = stream.tell()
            stream.seek(start)
            return stream.read(end - start)
    except (ValueError, IndexError) as error:
        raise UnknownSource(
            f"{path} starts as torch.save wrote files before PyTorch 1.6, but is truncated or damaged",
            fix="copy or download it again",
        ) from error


def recognise(seen: Probe) -> str | None:
    """Know weights by a pickle that needs nothing but tensors and containers."""
    pickle = pickled(seen)
    return None if pickle is None or foreign_globals(pickle) else "PyTorch weights (state dictionary)"


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Read the tensors with PyTorch's weights-only unpickler and fit them into the architecture."""
    import torch

    try:
        content = torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise LoadError(
            f"PyTorch {torch.__version__} cannot read the weights in {file.path}: {summary(error)}",
            fix="save them again with torch.save(model.state_dict(), path)",
        ) from error
    weights = state_of(content, file)
    require(options, file, list(weights))
    return fit(weights, file, options)


def state_of(content: Any, file: SourceFile) -> dict[str, Any]:
    """Find the dictionary of tensors in what a checkpoint holds."""
    import torch

    candidates = [content]
    if isinstance(content, Mapping):
        candidates += [content[key] for key in NESTED if key in content]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and any(isinstance(value, torch.Tensor) for value in candidate.values()):
            return {str(key): value for key, value in candidate.items() if isinstance(value, torch.Tensor)}
    kind = type(content).__name__
    raise LoadError(
        f"{file.path} holds a {kind} without weights", fix="save them with torch.save(model.state_dict(), path)"
    )


TITLE = "PyTorch weights (.pt, .pth) with --architecture"
SOURCES.register(Source("torch_weights", TITLE, TORCH, recognise, load, has_model=False))
