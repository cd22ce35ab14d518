"""How PyTorch's own attention must not decide while a model is exported or recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def masks_as_given() -> Iterator[None]:
    """Let transformer layers use every mask as it is, instead of asking whether its values are a causal mask's.

    NOTE: Why: `nn.TransformerEncoder` and `nn.TransformerDecoder` compare the values with those of a causal mask
    (torch 2.13, nn/modules/transformer.py), which an exported graph cannot answer even of a constant, and a record
    bakes in. The answer only chooses a kernel; the mask itself says the same.
    """
    from torch.nn.modules import transformer

    detect = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = _stated
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = detect


def _stated(_mask: Any, is_causal: Any = None, _size: Any = None) -> bool:
    """Say whether the caller states that the mask is causal, as the function does that this stands in for."""
    return is_causal is True
