"""Rewrites of PyTorch graphs: operators that a converter cannot lower, said in others that it can.

A rewrite is one file of this folder that registers a `TorchRewrite`. A route whose converter fails calls `rescued` and
tries again with what it gives, and reports what was rewritten; the finished file is proven like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.registry import Registry

if TYPE_CHECKING:
    import torch

__all__ = ["TORCH_REWRITES", "TorchRewrite", "rescued"]


def never(_: torch.fx.Node) -> bool:
    """Say of every call that litert-torch fails on it rather than get it wrong."""
    return False


@dataclass(frozen=True, slots=True)
class TorchRewrite:
    """One rewrite.

    `needed` says of a call in an exported graph, whose arguments' values are in their `meta`, whether it is one that
    must be rewritten for a TFLite file. `apply` then runs in its place, on the call and the values of its arguments.
    `wrong` says of which calls litert-torch makes something else without a word.
    """

    name: str
    title: str
    said: str  # the sentence for the report
    needed: Callable[[torch.fx.Node], bool]
    apply: Callable[[torch.fx.Node, Sequence[Any], dict[str, Any]], Any]
    wrong: Callable[[torch.fx.Node], bool] = never


TORCH_REWRITES: Registry[TorchRewrite] = Registry("torch rewrite", "convert.torch_rewrites")


def rescued(
    module: torch.nn.Module, tensors: tuple[torch.Tensor, ...], *, only_wrong: bool = False
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Rewrite what needs it in a module that takes `tensors`; gives it unchanged where nothing does, and what was done.

    With `only_wrong`, only the calls that a converter would get wrong without a word.
    A module that PyTorch cannot export is given back unchanged: whoever converts it meets the same error.
    """
    import torch

    try:
        with torch.no_grad():
            graph = torch.export.export(module, tensors, strict=False).module(check_guards=False)
    except Exception:  # noqa: BLE001
        return module, ()
    graph._forward_pre_hooks.clear()
    chosen = {
        node: rewrite
        for node in graph.graph.nodes
        if node.op == "call_function"
        for rewrite in TORCH_REWRITES
        if (rewrite.wrong(node) if only_wrong else rewrite.needed(node))
    }
    if not chosen:
        return module, ()

    class Rewriting(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Any:
            if node not in chosen:
                return super().run_node(node)
            args, kwargs = self.fetch_args_kwargs_from_env(node)
            return chosen[node].apply(node, args, kwargs)

    class Rewritten(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = graph

        def forward(self, *inputs: torch.Tensor) -> Any:
            # By position; the interpreter does without the graph's own handling of containers.
            return tuple(Rewriting(self.model).run(*inputs, enable_io_processing=False))

    said = tuple(dict.fromkeys(rewrite.said for rewrite in chosen.values()))
    with torch.no_grad():
        again = torch.export.export(Rewritten(), tensors, strict=False).module(check_guards=False)
    again._forward_pre_hooks.clear()
    return again, said
