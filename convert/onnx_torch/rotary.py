"""Rotary embeddings; attention itself is read as the standard defines it by other operators."""

from __future__ import annotations

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, operator


@operator("RotaryEmbedding")
def rotary(node: Node, value: Tensor, cosine: Tensor, sine: Tensor, positions: Tensor | None = None) -> Tensor:
    """Rotate pairs of features by their position."""
    flat = value.dim() == 3
    value = value.unflatten(-1, (node.get("num_heads"), -1)) if flat else value.transpose(1, 2)
    width = node.get("rotary_embedding_dim", 0) or value.shape[-1]
    turned, rest = value[..., :width], value[..., width:]
    if positions is not None:
        cosine, sine = cosine[positions], sine[positions]
    cosine, sine = (part[..., : width // 2].unsqueeze(2) for part in (cosine, sine))
    if node.get("interleaved", 0):
        left, right = turned[..., 0::2], turned[..., 1::2]
        pair = cosine * left - sine * right, sine * left + cosine * right
        turned = torch.stack(pair, -1).flatten(-2)
    else:
        left, right = turned.chunk(2, -1)
        turned = torch.cat([cosine * left - sine * right, sine * left + cosine * right], -1)
    found = torch.cat([turned, rest], -1)
    return found.flatten(2) if flat else found.transpose(1, 2)
