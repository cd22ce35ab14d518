"""Convolutions over three axes in groups, which TFLite's operator does not have: sums of those over two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convert.torch_rewrites import TORCH_REWRITES, TorchRewrite

if TYPE_CHECKING:
    import torch


def needed(node: torch.fx.Node) -> bool:
    """Whether a convolution over three axes has more than one group."""
    return str(node.target) == "aten.conv3d.default" and len(node.args) > 6 and int(node.args[6]) > 1


def apply(node: torch.fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ARG001
    """Add up, for every plane of the kernel, the convolution of the planes it meets."""
    import torch

    video, weight = args[0], args[1]
    bias = args[2]
    stride, padding, dilation = (
        [value] * 3 if isinstance(value, int) else [*value] * (3 // len(value)) for value in args[3:6]
    )
    video = torch.nn.functional.pad(video, [0, 0, 0, 0, padding[0], padding[0]])
    batch, channels, depth, height, width = video.shape
    steps = (depth - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    total = None
    for plane in range(weight.shape[2]):
        start = plane * dilation[0]
        met = video[:, :, start : start + (steps - 1) * stride[0] + 1 : stride[0]]
        flat = met.transpose(1, 2).reshape(batch * steps, channels, height, width)
        found = torch.nn.functional.conv2d(
            flat, weight[:, :, plane], None, stride[1:], padding[1:], dilation[1:], args[6]
        )
        total = found if total is None else total + found
    if total is None:
        raise ValueError("a kernel without planes")
    whole = total.reshape(batch, steps, *total.shape[1:]).transpose(1, 2)
    return whole if bias is None else whole + bias.reshape(1, -1, 1, 1, 1)


TORCH_REWRITES.register(
    TorchRewrite(
        name="grouped_conv3d",
        title="grouped 3-D convolutions as sums of 2-D ones",
        said="grouped 3-D convolutions were rewritten as sums of 2-D ones (TFLite's CONV_3D has no groups)",
        needed=needed,
        apply=apply,
    )
)
