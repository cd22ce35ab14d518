"""A transformer that is given a mask can be exported, and uses that mask whatever its values are."""

from __future__ import annotations

import pytest
import torch
from torch.nn.modules import transformer

from convert.sources._torch import positional
from convert.spec import Signature, specs_from

LENGTH = 4
CAUSAL = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)
OTHER = torch.zeros(LENGTH, LENGTH).masked_fill(torch.eye(LENGTH).flip(1) > 0, float("-inf"))


class Masked(torch.nn.Module):
    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        self.register_buffer("mask", mask)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.net(source, target, tgt_mask=self.mask)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("mask", [CAUSAL, OTHER], ids=["causal", "other"])
def test_a_masked_transformer_is_exported_and_answers_the_same(mask):
    net = Masked(mask).eval()
    inputs = specs_from(["source:float32[batch,5,8]", f"target:float32[batch,{LENGTH},8]"])
    tensors = (torch.randn(2, 5, 8), torch.randn(2, LENGTH, 8))
    detect = transformer._detect_is_causal_mask
    with torch.no_grad():
        expected = net(*tensors)
        exported = torch.export.export(positional(net, Signature(inputs, ())), tensors, strict=False).module()
        (actual,) = exported(*tensors)
    assert torch.allclose(actual, expected, atol=1e-6)
    assert transformer._detect_is_causal_mask is detect
