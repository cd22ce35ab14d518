"""Weights without a model: building the architecture they belong to and fitting them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from convert import callables
from convert.callables import FORM
from convert.errors import LoadError, MissingExtra, UsageError
from convert.sources._torch import loaded
from convert.spec import LoadOptions, SourceFile
from convert.worker import summary

if TYPE_CHECKING:
    import torch

    from convert.sources import LoadedModel

#: Packages that a LightningModule's file imports.
LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")

KEYS_SHOWN = 5  # of missing or unexpected keys, in an error


def require(options: LoadOptions, file: SourceFile, keys: list[str]) -> None:
    """Raise UsageError when the user named no architecture for weights."""
    if not options.architecture:
        shown = ", ".join(keys[:KEYS_SHOWN]) + (", ..." if len(keys) > KEYS_SHOWN else "")
        raise UsageError(
            f"{file.path} holds {len(keys)} weights ({shown}) and no model",
            fix=f"name what builds the model they belong to: --architecture {FORM}",
        )


#: Chooses the keyword arguments that a callable is built with.
Keywords = Callable[[Callable[..., Any]], Mapping[str, Any]]


def without_arguments(_: Callable[..., Any]) -> Mapping[str, Any]:
    """Build with no arguments."""
    return {}


def build(architecture: str, keywords: Keywords = without_arguments) -> torch.nn.Module:
    """Import the callable that `architecture` names and call it for the module.

    Raises UsageError where it cannot be found, LoadError where it fails or returns no module.
    """
    import torch

    factory, name = find(architecture)
    given = keywords(factory)
    try:
        module = factory(**given)
    except Exception as error:
        shown = ", ".join(f"{key}=..." for key in given)
        raise LoadError(
            f"--architecture: {name}({shown}) failed: {type(error).__name__}: {summary(error)}",
            fix="name a function without required arguments that builds the model",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(
            f"--architecture: {name}() returned a {type(module).__name__}, not a torch.nn.Module",
            fix="name a class or function that returns the module",
        )
    return module


def find(architecture: str) -> tuple[Callable[..., Any], str]:
    """Import the callable that `architecture` names; gives it with its name."""
    return callables.find(architecture, "--architecture", missing=_lightning)


def _lightning(place: str, error: ModuleNotFoundError) -> MissingExtra | None:
    """Say how to go on without a package that a LightningModule's file imports."""
    if error.name not in LIGHTNING:
        return None
    return MissingExtra(
        f"--architecture: {place} imports {error.name!r}, which is not installed",
        fix=f"pip install {error.name}; or name a file that builds the plain torch.nn.Module within",
    )


def fit(
    weights: Mapping[str, Any],
    file: SourceFile,
    options: LoadOptions,
    *,
    keywords: Keywords = without_arguments,
    notes: list[str] | None = None,
    partly: bool = False,
) -> LoadedModel:
    """Build the architecture, load all of `weights` into it, and finish loading.

    A prefix that one side has on all its keys and the other lacks is passed over. With `partly` the architecture may be
    a part of what was trained: weights beside its prefix are left out. What was done is added to `notes`. Raises
    LoadError, naming keys and shapes, where the two do not belong together.
    """
    said = [] if notes is None else notes
    module = build(options.architecture, keywords)
    expected = module.state_dict()
    weights = renamed(weights, list(expected), said, partly=partly)
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
    return loaded(module.eval(), options, None, tuple(said))


def renamed(weights: Mapping[str, Any], expected: list[str], said: list[str], *, partly: bool) -> Mapping[str, Any]:
    """Take a prefix off all keys that the architecture lacks, or add one that it has; where none fits, change nothing.

    Wrappers add them: a Lightning module the name it holds the network by, `torch.compile` and DataParallel their own.
    """
    if not expected or set(expected) <= set(weights):
        return weights
    first = expected[0]
    for prefix in [key.removesuffix(first) for key in weights if key.endswith(f".{first}")]:
        inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        outside = [key for key in weights if not key.startswith(prefix)]
        if set(expected) <= set(inside) and (partly or not outside):
            said.append(f"the prefix {prefix!r} of the weights' names was taken off")
            if outside:
                more = f" and {len(outside) - KEYS_SHOWN} more" if len(outside) > KEYS_SHOWN else ""
                said.append(f"weights beside it were left out: {', '.join(outside[:KEYS_SHOWN])}{more}")
            return inside
    for key in weights:
        for prefix in [name.removesuffix(key) for name in expected if name.endswith(f".{key}")]:
            if set(expected) <= {f"{prefix}{name}" for name in weights}:
                said.append(f"the architecture's prefix {prefix!r} was added to the weights' names")
                return {f"{prefix}{name}": value for name, value in weights.items()}
        break
    return weights
