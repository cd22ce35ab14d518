"""The user's own code, named on the command line as `package.module:callable` or `path/file.py:callable`."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convert.errors import LoadError, UsageError
from convert.worker import summary

FORM = "package.module:callable or path/file.py:callable"
OFFERED = 12  # callables of a module that are listed where the named one is missing

_LOOKS_LIKE = re.compile(r"(.+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")


def looks_like_one(text: str) -> bool:
    """Whether a text names a callable, and no file."""
    return _LOOKS_LIKE.fullmatch(text) is not None and not Path(text).exists()


def find(
    text: str, option: str, *, missing: Callable[[str, ModuleNotFoundError], Exception | None] = lambda *_: None
) -> tuple[Callable[..., Any], str]:
    """Import the callable that `text` names for an option; gives it with its name. Run only in a worker.

    `missing` may turn a module that is not there into a better error. Raises UsageError where the callable cannot be
    found, LoadError where importing what holds it fails.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise UsageError(f"cannot read {option} {text!r}", fix=f"write it as {FORM}")
    try:
        namespace = _import_file(Path(place), option) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        better = missing(place, error)
        if better is not None:
            raise better from error
        raise UsageError(
            f"{option}: there is no module {error.name!r}",
            fix="run from the folder it lives in, install it, or name the file: path/file.py:callable",
        ) from error
    except UsageError:
        raise
    except Exception as error:
        raise LoadError(
            f"{option}: importing {place} failed: {type(error).__name__}: {summary(error)}",
            fix=f"correct it until Python imports {place} by itself",
        ) from error
    found = getattr(namespace, name, None)
    if not callable(found):
        offered = sorted(key for key, value in vars(namespace).items() if callable(value) and not key.startswith("_"))
        raise UsageError(
            f"{option}: {place} has no callable {name!r}", fix=f"it has: {', '.join(offered[:OFFERED]) or 'none'}"
        )
    return found, name


def _import_file(path: Path, option: str) -> Any:
    if not path.is_file():
        raise UsageError(f"{option}: there is no file {path}", fix=f"write it as {FORM}")
    name = f"edgeproof_{option.strip('-').replace('-', '_')}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{option}: {path} cannot be imported", fix=f"write it as {FORM}")
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[name] = namespace
    # The file's neighbours are importable, as when it is run as a script.
    sys.path.append(str(path.resolve().parent))
    spec.loader.exec_module(namespace)
    return namespace
