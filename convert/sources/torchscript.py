"""TorchScript archives, as torch.jit.save writes them."""

from __future__ import annotations

from pathlib import Path

from convert.errors import LoadError
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._probe import probe
from convert.sources._torch import loaded, read_promise, refuse_side_effects
from convert.spec import LoadOptions, SourceFile
from convert.worker import summary


def recognise(seen: Probe) -> str | None:
    """Know the archive by its constants, which only TorchScript has."""
    if not (seen.has("constants.pkl") and seen.has("data.pkl")):
        return None
    carries = "with" if read_promise(seen) else "without"
    return f"TorchScript archive {carries} a signature"


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load the archive on the CPU; the code in it is TorchScript, which reaches no Python."""
    import torch

    refuse_side_effects(probe(Path(file.path)), trust=options.trust)
    try:
        module = torch.jit.load(file.path, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise LoadError(
            f"PyTorch {torch.__version__} cannot load the TorchScript archive {file.path}: {summary(error)}",
            fix="save it again with torch.jit.save, with a PyTorch no newer than the installed one",
        ) from error
    return loaded(module, options, read_promise(probe(Path(file.path))))


SOURCES.register(Source("torchscript", "TorchScript (.pt)", TORCH, recognise, load))
