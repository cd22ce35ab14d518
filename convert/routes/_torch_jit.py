"""Freezing and saving TorchScript modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def save_frozen(module: torch.jit.ScriptModule, path: Path) -> None:
    """Freeze a scripted or traced module, so that its weights are constants the interpreter can fold, and save it."""
    import torch

    # A module that was frozen before has no mode left, and torch.jit.freeze fails on it.
    if hasattr(module, "training"):
        module = torch.jit.freeze(module.eval())
    torch.jit.save(module, str(path))
