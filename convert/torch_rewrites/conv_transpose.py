"""Transposed convolutions whose padding TFLite's operator has no word for: computed without padding, and cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convert.torch_rewrites import TORCH_REWRITES, TorchRewrite

if TYPE_CHECKING:
    import torch

TARGETS = ("aten.conv_transpose1d.default", "aten.conv_transpose2d.input")


def settings(node: torch.fx.Node, args: Sequence[Any]) -> tuple[list[int], ...]:
    """Read stride, padding, output padding, groups and dilation of a call, one number for each axis of space."""
    weight = node.args[1].meta["val"]
    rank = weight.dim() - 2
    given = [*args[3:], *(1, 0, 0, 1, 1)[len(args) - 3 :]]
    return tuple([value] * rank if isinstance(value, int) else list(value) * (rank // len(value)) for value in given)


def needed(node: torch.fx.Node) -> bool:
    """Whether litert-torch fails on it (litert-torch#316).

    TFLite's operator knows no padding, or as much on both sides as keeps the size in proportion to the stride.
    """
    if str(node.target) not in TARGETS:
        return False
    stride, padding, more, _, dilation = settings(node, node.args)
    kernel = node.args[1].meta["val"].shape[2:]
    if any(step > 1 for step in dilation):
        return True
    unpadded = not any(padding) and not any(more)
    in_proportion = not any(more) and all(k - 2 * p == s for k, p, s in zip(kernel, padding, stride, strict=True))
    return not unpadded and not in_proportion


def wrong(node: torch.fx.Node) -> bool:
    """Whether it has output padding: litert-torch 0.10 appends zeros where PyTorch computes (no issue tells yet)."""
    return str(node.target) in TARGETS and any(settings(node, node.args)[2])


def apply(node: torch.fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ARG001
    """Compute all of the output that any input reaches, and cut off the padding."""
    import torch

    stride, padding, more, groups, dilation = settings(node, args)
    image, weight = args[0], args[1]
    bias = args[2] if len(args) > 2 else None
    for axis, step in enumerate(dilation, start=2):
        weight = spread(weight, axis, step)
    call = torch.nn.functional.conv_transpose1d if weight.dim() == 3 else torch.nn.functional.conv_transpose2d
    whole = call(image, weight, None, stride, 0, 0, groups[0])
    for axis, (start, extra) in enumerate(zip(padding, more, strict=True), start=2):
        length = whole.shape[axis] - 2 * start + extra
        if extra > start:
            # What no input reaches holds the bias alone.
            whole = torch.nn.functional.pad(whole, [0, 0] * (whole.dim() - 1 - axis) + [0, extra - start])
        whole = whole.narrow(axis, start, length)
    return whole if bias is None else whole + bias.reshape([1, -1, *[1] * (whole.dim() - 2)])


def spread(weight: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    """Put `step - 1` zeros between the elements along an axis, which is what dilation means."""
    import torch

    if step == 1:
        return weight
    size = weight.shape[axis]
    wide = torch.nn.functional.pad(weight.unsqueeze(axis + 1), [0, 0] * (weight.dim() - 1 - axis) + [0, step - 1])
    return wide.flatten(axis, axis + 1).narrow(axis, 0, (size - 1) * step + 1)


TORCH_REWRITES.register(
    TorchRewrite(
        name="conv_transpose",
        title="transposed convolutions without padding",
        said="transposed convolutions were computed without padding and cut (litert-torch has not all paddings)",
        needed=needed,
        apply=apply,
        wrong=wrong,
    )
)
