"""What a PyTorch module remembers from one run to the next, put back after runs that are no part of its use."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: An attribute that compiled code assigns to; the object before the dot is a module or one of its parts.
_ASSIGNED = re.compile(r"^\s*\w+\.(\w+) = ", re.MULTILINE)


@contextlib.contextmanager
def as_it_was(module: torch.nn.Module) -> Iterator[None]:
    """Put back, at the end, the buffers and plain attributes of a module and its parts that running it has changed.

    What else a Python module may remember, as in a list or a file, stays changed. Weights are not looked at.
    """
    import torch

    kept = [(part, name, value, _copied(value)) for part in module.modules() for name, value in _memory(part, module)]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, name, value, before in kept:
                if isinstance(value, torch.Tensor):
                    if value.shape == before.shape and not torch.equal(value, before):
                        value.copy_(before)
                    elif value.shape != before.shape:
                        value = before
                if getattr(part, name, None) is not value:
                    setattr(part, name, value)


def _copied(value: Any) -> Any:
    import torch

    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _memory(part: torch.nn.Module, whole: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Give what one part of a module may change as it runs, by attribute."""
    import torch

    yield from part.named_buffers(recurse=False)
    if isinstance(part, torch.jit.ScriptModule):
        buffers = dict(part.named_buffers(recurse=False))
        for name in _assigned(whole):
            if name not in buffers and hasattr(part, name):
                yield name, getattr(part, name)
        return
    for name, value in list(vars(part).items()):
        if not name.startswith("_") and isinstance(value, (torch.Tensor, int, float, bool, tuple, type(None))):
            yield name, value


def _assigned(module: torch.nn.Module) -> set[str]:
    """Name the attributes that the code of a compiled module assigns to."""
    names: set[str] = set()
    for part in module.modules():
        compiled: Any = getattr(part, "_c", None)
        for method in compiled._method_names() if compiled is not None else ():
            names |= set(_ASSIGNED.findall(compiled._get_method(method).code))
    return names
