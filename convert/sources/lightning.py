"""PyTorch Lightning checkpoints (.ckpt), whose weights belong to an architecture and may tell its hyper-parameters."""

from __future__ import annotations

import _compat_pickle
import inspect
import pickletools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convert.callables import FORM
from convert.errors import LoadError, UsageError
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._architecture import fit
from convert.sources._probe import foreign_globals, probe
from convert.sources.torch_weights import pickled, state_of
from convert.spec import LoadOptions, SourceFile
from convert.worker import summary

#: The key that Lightning writes into every checkpoint, with its own version.
VERSION = "pytorch-lightning_version"

#: Where Lightning, its command line and Hydra file what the model's class was given.
HYPER_PARAMETERS = "hyper_parameters"

#: Keys of the hyper-parameters under which LightningCLI, jsonargparse and Hydra name the class.
CLASS_KEYS = ("_class_path", "class_path", "_target_", "_instantiator")

SHOWN = 6  # names, in a note


def recognise(seen: Probe) -> str | None:
    """Know the checkpoint by the key of Lightning's version in its pickle."""
    pickle = pickled(seen)
    if pickle is None or VERSION.encode() not in pickle:
        return None
    version = _version(pickle)
    return None if version is None else f"PyTorch Lightning {version} checkpoint"


def _version(pickle: bytes) -> str | None:
    """Read Lightning's version from a pickle without running it, or None where no dictionary has its key."""
    texts = (argument for _, argument, _ in pickletools.genops(pickle) if isinstance(argument, str))
    try:
        for text in texts:
            if text == VERSION:
                return next(texts, "")
    except (ValueError, IndexError):
        foreign_globals(pickle)  # says that the pickle is damaged
    return None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Build the architecture with the stored hyper-parameters it takes, and fit the weights in."""
    checkpoint = read(file, trust=options.trust)
    weights = state_of({"state_dict": checkpoint.get("state_dict")}, file)
    stored = checkpoint.get(HYPER_PARAMETERS)
    hyper, unread = sort_out(stored if isinstance(stored, Mapping) else {})
    if not options.architecture:
        raise UsageError(
            f"{file.path} holds {len(weights)} weights{_named(hyper)}, but not the class they belong to",
            fix=f"name what builds the model: --architecture {FORM}",
        )
    notes: list[str] = []
    if unread:
        notes.append(f"hyper-parameters of foreign classes were not read: {', '.join(unread[:SHOWN])}")

    def keywords(factory: Callable[..., Any]) -> dict[str, Any]:
        taken = accepted(factory, hyper, checkpoint.get("hparams_name"))
        if taken:
            notes.append(f"built with the stored hyper-parameters {', '.join(taken)}")
        return taken

    return fit(weights, file, options, keywords=keywords, notes=notes, partly=True)


def read(file: SourceFile, *, trust: bool) -> dict[str, Any]:
    """Read the checkpoint with PyTorch's weights-only unpickler, inert stand-ins in the place of foreign classes.

    Raises LoadError where it is damaged, or names code for which there is no stand-in.
    """
    import torch

    names = foreign_globals(pickled(probe(Path(file.path))) or b"")
    try:
        if trust:
            content = torch.load(file.path, map_location="cpu", weights_only=False)
        else:
            with torch.serialization.safe_globals([(stand_in(name), name) for name in _current(names)]):
                content = torch.load(file.path, map_location="cpu", weights_only=True)
    except Exception as error:
        imports = f"; it imports {', '.join(names[:SHOWN])}" if names else ""
        raise LoadError(
            f"cannot read the Lightning checkpoint {file.path}: {type(error).__name__}: {summary(error)}{imports}",
            fix="save its state_dict alone, where the classes it names are installed, or add --trust when you know who "
            "made it",
        ) from error
    if not isinstance(content, dict):
        raise LoadError(f"{file.path} holds a {type(content).__name__}, no checkpoint", fix="save it again")
    return content


class StandIn:
    """What a foreign object of a checkpoint becomes: something that does nothing and holds nothing."""

    foreign = ""  # the full name of the class it stands for

    def __new__(cls, *_: object, **__: object) -> StandIn:  # noqa: D102
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Forget the state, which only the foreign class can read."""


def stand_in(name: str) -> type:
    """Give what stands in for the foreign class of this full name."""
    # Lightning's own dictionary, which was renamed and moved between its versions.
    if name.endswith(".AttributeDict"):
        return dict
    return type(name.rpartition(".")[2], (StandIn,), {"foreign": name})


def _current(names: tuple[str, ...]) -> Iterator[str]:
    """Give names as the unpickler looks them up: it translates those of Python 2, as the pickle protocol does."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        module, attribute = _compat_pickle.NAME_MAPPING.get((module, attribute), (module, attribute))
        yield f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{attribute}"


def sort_out(stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Separate hyper-parameters that are plain data from those of foreign classes, which are named with their class."""
    hyper: dict[str, Any] = {}
    unread = []
    for key, value in stored.items():
        foreign = next(_foreign_in(value), "")
        if foreign:
            unread.append(f"{key} ({foreign})")
        else:
            hyper[str(key)] = value
    return hyper, unread


def _foreign_in(value: Any) -> Iterator[str]:
    if isinstance(value, StandIn) or (isinstance(value, type) and issubclass(value, StandIn)):
        yield value.foreign
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _foreign_in(part)
    elif isinstance(value, (list, tuple, set)):
        for part in value:
            yield from _foreign_in(part)


def accepted(factory: Callable[..., Any], hyper: Mapping[str, Any], argument: object) -> dict[str, Any]:
    """Choose the hyper-parameters that a callable's signature takes, as Lightning itself does on loading.

    `argument` is the checkpoint's `hparams_name`: where the class took all of them as one argument, its name.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise UsageError(f"cannot see what {factory} takes: {error}", fix="name a class or function") from error
    named = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if isinstance(argument, str) and argument != "kwargs" and argument in named and argument not in hyper:
        return {argument: dict(hyper)}
    every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {key: value for key, value in hyper.items() if key in named or (every and not key.startswith("_"))}


def _named(hyper: Mapping[str, Any]) -> str:
    """Say the class a checkpoint names, where it names one."""
    found = [hyper.get(key) for key in CLASS_KEYS if isinstance(hyper.get(key), str)]
    if found:
        return f" of {found[0]}"
    if hyper:
        taken = ", ".join([key for key in hyper if not key.startswith("_")][:SHOWN])
        return f" of a class that was given {taken}"
    return ""


TITLE = "PyTorch Lightning checkpoint (.ckpt) with --architecture"
SOURCES.register(Source("lightning", TITLE, TORCH, recognise, load, has_model=False))
