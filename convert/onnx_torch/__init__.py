"""ONNX graphs as PyTorch modules: what torch.export, torch.jit.trace and float64 need and ONNX Runtime cannot give.

One file per family of operators, each registered in `table.OPERATORS`. Only this module is imported from outside; the
others import PyTorch at their heads and are imported when a graph is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["module_of", "supported"]


def module_of(model: onnx.ModelProto) -> torch.nn.Module:
    """Build a module that computes what the graph computes: its inputs by position, a tuple of its outputs.

    `widen()` of the module makes it compute in float64. Raises LoadError, naming operator and node, for an operator
    that is not known here.
    """
    from convert.onnx_torch.module import build

    return build(model)


def supported() -> tuple[str, ...]:
    """Name the operators that can be read, sorted."""
    from convert.onnx_torch.table import OPERATORS

    _import_families()
    return tuple(sorted(OPERATORS))


def _import_families() -> None:
    import importlib
    import pkgutil

    for found in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(found.name)
