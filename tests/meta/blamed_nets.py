"""Small networks of three architectures whose layers are broken one by one: `blamed_nets.py NET FOLDER`.

Writes the weights, and TorchScripts in which one parameter of a layer is another.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from convert.spec import signature_file

INPUTS = {
    "mobile": "image:float32[batch,3,32,32]",
    "encoder": "x:float32[batch,10,12]",
    "recurrent": "x:float32[batch,12,6]",
}

#: The parameters that are scaled by 1.1, each in a file of its own.
SCALED = {
    "mobile": ("blocks.1.project.weight", "blocks.2.bn1.weight"),
    "encoder": ("layers.0.norm1.weight", "layers.1.up.weight"),
    "recurrent": ("lstm.weight_hh_l0", "head.bias"),
}


class Block(nn.Module):
    """An inverted residual as MobileNetV2 has them."""

    def __init__(self, taken: int, given: int, stride: int = 1) -> None:
        super().__init__()
        wide = taken * 4
        self.shortcut = stride == 1 and taken == given
        self.expand, self.bn1 = nn.Conv2d(taken, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depth, self.bn2 = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide)
        self.project, self.bn3 = nn.Conv2d(wide, given, 1, bias=False), nn.BatchNorm2d(given)
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.expand(x)))
        y = self.act(self.bn2(self.depth(y)))
        y = self.bn3(self.project(y))
        return x + y if self.shortcut else y


class Mobile(nn.Module):
    """A MobileNetV2 of four blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(Block(8, 8), Block(8, 16, 2), Block(16, 16), Block(16, 24, 2))
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class EncoderLayer(nn.Module):
    """A transformer's encoder layer, its attention written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.act, self.down = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        shape = batch, steps, self.heads, width // self.heads
        q, k, v = self.q(x).view(shape), self.k(x).view(shape), self.v(x).view(shape)
        scores = q.transpose(1, 2) @ k.transpose(1, 2).transpose(-1, -2) / (width // self.heads) ** 0.5
        mixed = (torch.softmax(scores, -1) @ v.transpose(1, 2)).transpose(1, 2).reshape(batch, steps, width)
        x = self.norm1(x + self.o(mixed))
        return self.norm2(x + self.down(self.act(self.up(x))))


class Encoder(nn.Module):
    """A transformer encoder of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(12, 32), nn.Linear(32, 5)
        self.layers = nn.ModuleList([EncoderLayer(32, 4) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """An LSTM and a classifier of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def mobile() -> nn.Module:
    """Build the MobileNet with statistics of normal noise."""
    torch.manual_seed(0)
    net = Mobile().train()
    with torch.no_grad():
        for _ in range(30):
            net(torch.randn(8, 3, 32, 32))
    return net.eval()


def encoder() -> nn.Module:
    """Build the transformer encoder."""
    torch.manual_seed(0)
    return Encoder().eval()


def recurrent() -> nn.Module:
    """Build the recurrent network."""
    torch.manual_seed(0)
    return Recurrent().eval()


NETS = {"mobile": mobile, "encoder": encoder, "recurrent": recurrent}


def main(name: str, folder: Path) -> None:
    """Write a network's weights, and its TorchScripts with a fault each."""
    net = NETS[name]()
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    torch.save(weights, folder / f"{name}.pt")
    example = {"mobile": (2, 3, 32, 32), "encoder": (2, 10, 12), "recurrent": (2, 12, 6)}[name]
    for parameter in SCALED[name]:
        net.load_state_dict({**weights, parameter: weights[parameter] * 1.1})
        script = torch.jit.freeze(torch.jit.trace(net, torch.randn(example)))
        out = folder / f"{name}-{parameter}.pt"
        torch.jit.save(script, str(out), _extra_files=signature_file(INPUTS[name], outputs=["output"]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
