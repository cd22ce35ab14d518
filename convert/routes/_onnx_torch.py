"""ONNX graphs as PyTorch modules, for PyTorch's converters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from convert.formats import Draft
from convert.rewrites import rescue
from convert.routes import Work
from convert.sources._measure import example, trial_sizes
from convert.sources._torch import module_of as module_of_program
from convert.sources._torch import positional

if TYPE_CHECKING:
    import torch


def as_torch(work: Work, consumer: str = "") -> tuple[Work, tuple[str, ...]]:
    """Give the same work with the graph as a PyTorch module, and what had to be rewritten for `consumer` to take it.

    Raises LoadError where an operator is unknown.
    """
    from convert.onnx_torch import module_of

    graph = work.model.whole()
    rescues = rescue(graph, consumer)
    return dataclasses.replace(work, model=module_of(graph)), rescues


def rescued(draft: Draft, rescues: tuple[str, ...]) -> Draft:
    """Add what was rewritten to a draft."""
    return dataclasses.replace(draft, rescues=(*rescues, *draft.rescues))


def exported(work: Work) -> torch.nn.Module:
    """Export the module of `as_torch` to a graph of PyTorch's operators, the free dimensions kept free."""
    import torch

    signature = work.signature
    sizes = trial_sizes(signature)
    dims = {name: torch.export.Dim(name) for name in signature.free}
    program = torch.export.export(
        positional(work.model, signature),
        tuple(torch.from_numpy(example(spec, sizes)) for spec in signature.inputs),
        dynamic_shapes=tuple(
            {axis: dims[dim] for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
            for spec in signature.inputs
        ),
        strict=False,
    )
    return module_of_program(program)
