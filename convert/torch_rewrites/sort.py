"""Sorting, for which TFLite has no operator, and the largest elements where only their values or places are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convert.torch_rewrites import TORCH_REWRITES, TorchRewrite

if TYPE_CHECKING:
    import torch

SORT, ARGSORT, TOPK = "aten.sort.default", "aten.argsort.default", "aten.topk.default"


def needed(node: torch.fx.Node) -> bool:
    """Whether the call sorts, or takes one of the two answers of a top-k.

    litert-torch knows its own top-k again only where both answers are used, and leaves a sort that no runtime has.
    """
    name = str(node.target)
    if name == TOPK:
        return len({user.args[1] for user in node.users if user.users and len(user.args) > 1}) < 2
    if name not in (SORT, ARGSORT):
        return False
    value = node.args[0].meta["val"]
    return bool(value.dtype.is_floating_point or value.dtype.is_signed) and value.dim() > 0


def apply(node: torch.fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Take the top k, for sorting with k as large as the axis, so that each answer depends on both."""
    import torch

    names = (argument.name for argument in node.target._schema.arguments)
    settings = dict(zip(names, args, strict=False)) | kwargs
    values, axis = settings["self"], settings.get("dim", -1)
    turned = not settings.get("largest", True) if str(node.target) == TOPK else not settings.get("descending", False)
    largest = -values if turned else values
    # One more than are asked for: a top-k of all elements becomes a sort again.
    least = -torch.inf if values.dtype.is_floating_point else torch.iinfo(values.dtype).min
    shape = [1 if at == axis % values.dim() else size for at, size in enumerate(values.shape)]
    padded = torch.cat([largest, torch.full(shape, least, dtype=values.dtype)], axis)
    found, places = torch.topk(padded, settings.get("k", values.shape[axis]), axis)
    again = padded.gather(axis, places)
    places = places + (found > again).to(places.dtype)  # which is nowhere
    if str(node.target) == ARGSORT:
        return places
    found = torch.minimum(found, again)
    return (-found if turned else found), places


TORCH_REWRITES.register(
    TorchRewrite(
        name="sort",
        title="sorting by top-k",
        said="sorting was rewritten as a top-k (TFLite has no operator that sorts)",
        needed=needed,
        apply=apply,
    )
)
