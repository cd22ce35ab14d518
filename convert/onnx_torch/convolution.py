"""Convolutions and their transposes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name
from torch import Tensor

from convert.onnx_torch.table import Node, operator
from convert.onnx_torch.values import length

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSES = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def spatial(node: Node, name: str, rank: int, default: int) -> list[int]:
    """Read an attribute with one number per spatial axis."""
    return list(node.get(name) or [default] * rank)


def paddings(
    node: Node, value: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Give the padding before and after each spatial axis, as numbers or as `auto_pad` asks."""
    rank = len(kernel)
    auto = node.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return [0] * rank, [0] * rank
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for axis in range(rank):
            size, reach = length(value, axis + 2), (kernel[axis] - 1) * dilations[axis] + 1
            total = max(0, (-(-size // strides[axis]) - 1) * strides[axis] + reach - size)
            small, large = total // 2, total - total // 2
            begins.append(small if auto == "SAME_UPPER" else large)
            ends.append(large if auto == "SAME_UPPER" else small)
        return begins, ends
    pads = spatial(node, "pads", 2 * rank, 0)
    return pads[:rank], pads[rank:]


def padded(value: Tensor, begins: list[int], ends: list[int], fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """Pad explicitly where both ends differ; give what is left to pad alike on both."""
    if begins == ends:
        return value, begins
    flat = [pad for pair in reversed(list(zip(begins, ends, strict=True))) for pad in pair]
    return F.pad(value, flat, value=fill), [0] * len(begins)


@operator("Conv")
def convolve(node: Node, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve over one to three axes."""
    rank = weight.dim() - 2
    if rank not in CONVOLUTIONS:
        raise node.unsupported(f"the {rank} spatial axes")
    strides, dilations = spatial(node, "strides", rank, 1), spatial(node, "dilations", rank, 1)
    begins, ends = paddings(node, value, list(weight.shape[2:]), strides, dilations)
    value, both = padded(value, begins, ends)
    return CONVOLUTIONS[rank](value, weight, bias, strides, both, dilations, node.get("group", 1))


@operator("ConvTranspose")
def convolve_transposed(node: Node, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve transposed; what differs between both ends is cut off or added afterwards."""
    rank = weight.dim() - 2
    if rank not in TRANSPOSES:
        raise node.unsupported(f"the {rank} spatial axes")
    kernel = list(weight.shape[2:])
    strides, dilations = spatial(node, "strides", rank, 1), spatial(node, "dilations", rank, 1)
    extra = spatial(node, "output_padding", rank, 0)
    begins, ends = _transposed_paddings(node, value, kernel, strides, dilations, extra)
    both = [max(0, min(begin, end)) for begin, end in zip(begins, ends, strict=True)]
    if begins == ends and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return TRANSPOSES[rank](value, weight, bias, strides, both, extra, node.get("group", 1), dilations)
    # What a convolution without padding gives, cut or filled at both ends; the bias is added last, to the filling too.
    full = TRANSPOSES[rank](value, weight, None, strides, 0, 0, node.get("group", 1), dilations)
    cuts = [(-begin, more - end) for begin, end, more in zip(begins, ends, extra, strict=True)]
    full = F.pad(full, [cut for pair in reversed(cuts) for cut in pair])
    return full if bias is None else full + bias.reshape(-1, *[1] * rank)


def _transposed_paddings(
    node: Node, value: Tensor, kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]
) -> tuple[list[int], list[int]]:
    rank = len(kernel)
    wanted = node.get("output_shape")
    auto = node.get("auto_pad", "NOTSET")
    if not wanted and auto not in ("SAME_UPPER", "SAME_LOWER"):
        pads = spatial(node, "pads", 2 * rank, 0) if auto != "VALID" else [0] * (2 * rank)
        return pads[:rank], pads[rank:]
    begins, ends = [], []
    for axis in range(rank):
        size, reach = length(value, axis + 2), (kernel[axis] - 1) * dilations[axis] + 1
        target = wanted[-rank:][axis] if wanted else size * strides[axis]
        total = strides[axis] * (size - 1) + extra[axis] + reach - target
        # What a larger output lacks is added at its end, as ONNX Runtime does.
        small = max(total, 0) // 2
        large = max(total, 0) - small
        begins.append(large if auto == "SAME_LOWER" or (wanted and auto != "SAME_UPPER") else small)
        ends.append(total - begins[-1])
    return begins, ends


@operator("ConvInteger")
def convolve_integers(node: Node, value: Tensor, weight: Tensor, zero: Any = None, weight_zero: Any = None) -> Tensor:
    """Convolve 8-bit integers, exactly: float64 holds every sum."""
    shifted = value.double() - (0 if zero is None else zero.double())
    weights = weight.double()
    if weight_zero is not None:
        offset = weight_zero.double()
        weights = weights - (offset.reshape(-1, *[1] * (weight.dim() - 1)) if offset.dim() else offset)
    return convolve(node, shifted, weights).round().to(torch.int32)
