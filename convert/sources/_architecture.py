"""Weights without a model: building the architecture they belong to and fitting them in."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError, UsageError
from convert.sources._torch import loaded
from convert.spec import LoadOptions, SourceFile
from convert.worker import summary

if TYPE_CHECKING:
    import torch

    from convert.sources import LoadedModel

FORM = "package.module:callable or path/file.py:callable"
KEYS_SHOWN = 5  # of missing or unexpected keys, in an error


def require(options: LoadOptions, file: SourceFile, keys: list[str]) -> None:
    """Raise UsageError when the user named no architecture for weights."""
    if not options.architecture:
        shown = ", ".join(keys[:KEYS_SHOWN]) + (", ..." if len(keys) > KEYS_SHOWN else "")
        raise UsageError(
            f"{file.path} holds {len(keys)} weights ({shown}) and no model",
            fix=f"name what builds the model they belong to: --architecture {FORM}",
        )


def build(architecture: str) -> torch.nn.Module:
    """Import the callable that `architecture` names and call it for the module.

    Raises UsageError where it cannot be found, LoadError where it fails or returns no module.
    """
    import torch

    place, _, name = architecture.rpartition(":")
    if not place or not name:
        raise UsageError(f"cannot read --architecture {architecture!r}", fix=f"write it as {FORM}")
    try:
        namespace = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--architecture: there is no module {error.name!r}",
            fix="run from the folder it lives in, install it, or name the file: path/file.py:callable",
        ) from error
    except UsageError:
        raise
    except Exception as error:
        raise LoadError(
            f"--architecture: importing {place} failed: {type(error).__name__}: {summary(error)}",
            fix=f"correct it until Python imports {place} by itself",
        ) from error
    factory = getattr(namespace, name, None)
    if not callable(factory):
        offered = sorted(key for key, value in vars(namespace).items() if callable(value) and not key.startswith("_"))
        raise UsageError(
            f"--architecture: {place} has no callable {name!r}", fix=f"it has: {', '.join(offered[:12]) or 'none'}"
        )
    try:
        module = factory()
    except Exception as error:
        raise LoadError(
            f"--architecture: {name}() failed: {type(error).__name__}: {summary(error)}",
            fix="name a function without required arguments that builds the model",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(
            f"--architecture: {name}() returned a {type(module).__name__}, not a torch.nn.Module",
            fix="name a class or function that returns the module",
        )
    return module


def fit(weights: Mapping[str, Any], file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Build the architecture, load all of `weights` into it, and finish loading.

    Raises LoadError, naming keys and shapes, where the two do not belong together.
    """
    module = build(options.architecture)
    expected = module.state_dict()
    problems = []
    for title, keys in (
        ("missing in the file", [key for key in expected if key not in weights]),
        ("unexpected in the file", [key for key in weights if key not in expected]),
    ):
        if keys:
            more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
            problems.append(f"  {title}: {', '.join(keys[:KEYS_SHOWN])}{more}")
    problems += [
        f"  {key} has shape {list(weights[key].shape)} in the file, {list(tensor.shape)} in the architecture"
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ][:KEYS_SHOWN]
    if problems:
        raise LoadError(
            f"the weights in {file.path} do not fit --architecture {options.architecture}:\n" + "\n".join(problems),
            fix="name the architecture these weights were trained with, built with the same sizes",
        )
    module.load_state_dict(dict(weights))
    return loaded(module.eval(), options, None)


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"--architecture: there is no file {path}", fix=f"write it as {FORM}")
    name = f"edgeproof_architecture_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--architecture: {path} cannot be imported", fix=f"write it as {FORM}")
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[name] = namespace
    # The file's neighbours are importable, as when it is run as a script.
    sys.path.append(str(path.resolve().parent))
    spec.loader.exec_module(namespace)
    return namespace
