"""Pickled PyTorch modules, as torch.save(model) writes them: programs, read only when the user trusts them."""

from __future__ import annotations

from convert.errors import LoadError, UsageError
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._probe import foreign_globals, probe
from convert.sources._torch import loaded
from convert.sources.torch_weights import pickled
from convert.spec import LoadOptions, SourceFile
from convert.worker import summary

GLOBALS_SHOWN = 6


def recognise(seen: Probe) -> str | None:
    """Know a pickled object by the code its pickle would import."""
    pickle = pickled(seen)
    found = foreign_globals(pickle) if pickle is not None else ()
    return f"pickled PyTorch object that imports {found[0]}" if found else None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Unpickle the module when the user said so; refuse, naming what it would import, when not."""
    from pathlib import Path

    import torch

    if not options.trust:
        found = foreign_globals(pickled(probe(Path(file.path))) or b"")
        more = f" and {len(found) - GLOBALS_SHOWN} more" if len(found) > GLOBALS_SHOWN else ""
        raise UsageError(
            f"{file.path} is a pickle that runs code when read: it imports {', '.join(found[:GLOBALS_SHOWN])}{more}",
            fix="save the weights (torch.save(model.state_dict(), path)) and give --architecture, "
            "or add --trust when you know who made it",
        )
    try:
        module = torch.load(file.path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise LoadError(
            f"cannot unpickle {file.path}: {type(error).__name__}: {summary(error)}",
            fix="the classes it was saved with must be importable from here; set PYTHONPATH to their folder",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(
            f"{file.path} holds a {type(module).__name__}, not a torch.nn.Module",
            fix="save the module itself, or its weights and give --architecture",
        )
    return loaded(module, options, None, ("unpickled because of --trust",))


SOURCES.register(Source("torch_pickle", "a pickled PyTorch module (.pt, .pth) with --trust", TORCH, recognise, load))
