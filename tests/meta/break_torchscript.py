"""Breaks quantized TorchScript archives, in a process that has PyTorch; called with ARCHIVE FAULT OUT, repeated."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from convert.formats._torchscript_graph import Script, inputs
from convert.formats._torchscript_layers import QUANTIZE, Place, places, unpacked
from convert.formats.torchscript import rewrite
from convert.sources._probe import probe
from convert.sources._torch import read_promise

Change = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def repacked(script: Script, name: str, change: Change) -> None:
    """Change the integers, scales and zero points of a linear layer's weight."""
    place: Place = next(place for place in places(script) if place.name == name)
    held = inputs(place.node)[1]
    weight, bias = unpacked(place.node.kind(), script.value(held))
    integers, scales, zeros = change(
        weight.int_repr().clone(), weight.q_per_channel_scales().clone(), weight.q_per_channel_zero_points().clone()
    )
    made = torch._make_per_channel_quantized_tensor(integers, scales, zeros, 0)
    script.module._c.setattr(held.node().s("name"), torch.ops.quantized.linear_prepack(made, bias))


def one_scale(script: Script) -> None:
    """Make one channel's scale 1.2 times what it was."""

    def change(integers, scales, zeros):
        scales[3] *= 1.2
        return integers, scales, zeros

    repacked(script, "linear_1", change)


def hidden_scale(script: Script) -> None:
    """Make one channel's scale of the layer before the last 1.2 times what it was."""

    def change(integers, scales, zeros):
        scales[3] *= 1.2
        return integers, scales, zeros

    repacked(script, "linear_0", change)


def hidden_weight(script: Script) -> None:
    """Make the weight of the layer before the last 1.05 times what it was."""
    repacked(script, "linear_0", lambda held, scales, zeros: (held, scales * 1.05, zeros))


def one_zero_point(script: Script) -> None:
    """Move one channel's zero point by 3."""

    def change(integers, scales, zeros):
        zeros[3] += 3
        return integers, scales, zeros

    repacked(script, "linear_1", change)


def three_bits(script: Script) -> None:
    """Give the weights 3 bits, scales and integers alike."""
    repacked(script, "linear_0", lambda held, scales, zeros: ((held / 32.0).round().to(torch.int8), scales * 32, zeros))


def another_epsilon(script: Script) -> None:
    """Add a tenth to the variance in place of a thousandth."""
    (node,) = script.nodes("aten::layer_norm")
    node.replaceInput(4, script.constant(0.1, node))


def larger_epsilon(script: Script) -> None:
    """Add half a thousandth more to the variance."""
    (node,) = script.nodes("aten::layer_norm")
    node.replaceInput(4, script.constant(1.5e-3, node))


def narrow_range(script: Script) -> None:
    """Clip the input to a fifth of its range, with finer levels."""
    node = script.nodes(QUANTIZE)[0]
    scale = script.value(inputs(node)[1])
    node.replaceInput(1, script.constant(scale / 5, node))


FAULTS = {
    function.__name__: function
    for function in (
        one_scale,
        hidden_scale,
        hidden_weight,
        one_zero_point,
        three_bits,
        another_epsilon,
        larger_epsilon,
        narrow_range,
    )
}


def break_one(archive: Path, fault: str, out: Path) -> None:
    """Write a copy of an archive with a fault."""
    opened = Script(archive)
    FAULTS[fault](opened)
    opened.save(out)
    promise = read_promise(probe(archive))
    if promise is None:
        raise SystemExit(f"{archive} has no signature")
    rewrite(out, promise)


if __name__ == "__main__":
    words = iter(sys.argv[1:])
    for place, name, to in zip(words, words, words, strict=True):
        break_one(Path(place), name, Path(to))
