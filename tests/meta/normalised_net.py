"""Makes a small network with a LayerNorm whose epsilon matters, and calibration data: `normalised_net.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from convert.spec import signature_file


class Normalised(nn.Module):
    """A convolution, a dense layer whose outputs hardly vary, a normalisation that makes them, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.dense = nn.Conv2d(1, 8, 3), nn.Linear(288, 32)
        self.norm, self.head = nn.LayerNorm(32, eps=1e-3), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Give scores."""
        x = torch.relu(self.convolution(image)).flatten(1)
        return self.head(torch.relu(self.norm(self.dense(x))))


if __name__ == "__main__":
    torch.manual_seed(0)
    folder = Path(sys.argv[1])
    net = Normalised().eval()
    torch.jit.save(
        torch.jit.script(net),
        str(folder / "normalised.pt"),
        _extra_files=signature_file("image:float32[batch,1,8,8]", outputs=["scores"]),
    )
    np.savez(folder / "images.npz", image=np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32))
