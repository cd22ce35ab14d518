"""Every operator that a module runs, with the memory that it takes and makes; imported in PyTorch's worker only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from validators.costs import Macs, Step, peak_bytes
from validators.costs._torch_operators import macs_of


class Recording(TorchDispatchMode):
    """Counts, while it is entered, MACs and what lives: storages that lead back to one of the `given` tensors.

    Views of a tensor and what is computed in place share its storage, and count once.
    """

    def __init__(self, given: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.macs = Macs()
        self._kept: list[torch.Tensor] = []  # so that no address is given twice
        self._sizes: dict[object, int] = {}
        self._steps: list[Step] = []
        self._inputs = [self._know(tensor) for tensor in given]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as without a recording, and note what came out."""
        found = function(*args, **(kwargs or {}))
        taken = {_place(leaf) for leaf in _tensors((args, kwargs or {}))} & set(self._sizes)
        if taken:
            made = tuple(self._know(leaf) for leaf in _tensors(found))
            self._steps.append(Step(tuple(taken), made))
        self.macs.add(function._schema.name, macs_of(function, args, found))
        return found

    def _know(self, tensor: torch.Tensor) -> object:
        place = _place(tensor)
        if place not in self._sizes:
            self._kept.append(tensor)
            self._sizes[place] = _bytes(tensor)
        return place

    def peak(self, answer: Any) -> int:
        """Give the most bytes that lived at once, the answer's until the end."""
        return peak_bytes(self._steps, self._sizes, self._inputs, [_place(leaf) for leaf in _tensors(answer)])


def _tensors(found: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]


def _place(tensor: torch.Tensor) -> object:
    try:
        place = int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):  # sparse ones and those of oneDNN have none
        return ("opaque", id(tensor))
    return place or ("empty", id(tensor))


def _bytes(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):
        return int(tensor.numel()) * int(tensor.element_size())
