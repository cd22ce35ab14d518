"""Fourier transforms said in real numbers are PyTorch's own, over any axes, at any size and of any norm."""

from __future__ import annotations

import itertools

import pytest
import torch

from convert.torch_rewrites._fourier import TRANSFORMS, Pair

ONE_AXIS = [{}, {"dim": 1}, {"dim": -2, "n": 5}, {"n": 9}, {"n": 8}]
AXES = [{}, {"dim": (0, 2)}, {"s": (4, 8)}, {"s": (5, 3), "dim": (1, 0)}, {"s": (-1, 7), "dim": (1, 2)}]
CASES = [(name, asked) for name in TRANSFORMS for asked in (AXES if name.endswith(("2", "n")) else ONE_AXIS)]


@pytest.mark.parametrize(("name", "asked"), CASES, ids=[f"{name}-{asked}" for name, asked in CASES])
@pytest.mark.parametrize("norm", [None, "ortho", "forward", "backward"])
def test_a_transform_is_pytorch_s_own(name, asked, norm):
    torch.manual_seed(0)
    given = torch.randn(3, 6, 7)
    imaginary = torch.randn(3, 6, 7)
    real = getattr(torch.fft, name.removeprefix("fft_"))
    kinds = [(given, given)]
    if "rfft" not in name or "irfft" in name:
        kinds.append((torch.complex(given, imaginary), Pair(given, imaginary)))
    for source, ours in kinds:
        expected = real(source, **asked, norm=norm)
        found = TRANSFORMS[name](ours, **asked, norm=norm)
        actual = torch.complex(found.real, found.imag) if isinstance(found, Pair) else found
        assert actual.shape == expected.shape
        assert (actual - expected).abs().max() < 2e-6 * expected.abs().max()


def test_every_transform_of_pytorch_but_the_hermitian_ones_is_known():
    kinds = [f"{half}fft{axes}" for half, axes in itertools.product(("", "i", "r", "ir"), ("", "2", "n"))]
    assert set(TRANSFORMS) == {f"fft_{kind}" for kind in kinds}
