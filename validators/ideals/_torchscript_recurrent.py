"""Plain recurrent layers whose inputs are rounded as PyTorch's kernels do, for TorchScript to compile into a graph.

They take what `aten::lstm` and `aten::gru` take, with weights that are rounded already. The whole input of a layer is
rounded at once and the state at each step, as the kernels do. Import it only where PyTorch is.
"""

import torch
from torch import Tensor

#: How inputs are rounded: quantized in 8 bits, in 7 of them, or to half precision.
EIGHT_BITS, SEVEN_BITS, HALF = 0, 1, 2


def rounded(x: Tensor, how: int) -> Tensor:
    """Round a tensor as an input of a kernel."""
    if how == 2:
        return x.half().float()
    scale, zero = torch._choose_qparams_per_tensor(x, how == 1)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)


def product(x: Tensor, weights: list[Tensor], at: int, biased: bool, how: int) -> Tensor:  # noqa: FBT001
    """Multiply with a layer's weight, after rounding the input."""
    y = torch.matmul(rounded(x, how), weights[at].t())
    if biased:
        y = y + weights[at + 2]
    if how == 2:
        y = y.half().float()
    return y


def kept(x: Tensor, how: int) -> Tensor:
    """Round what a half-precision cell gives on; others compute in floats."""
    if how == 2:
        x = x.half().float()
    return x


def lstm(
    x: Tensor,
    hx: list[Tensor],
    weights: list[Tensor],
    biased: bool,  # noqa: FBT001
    layers: int,
    both: bool,  # noqa: FBT001
    first: bool,  # noqa: FBT001
    how: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a long short-term memory; gives the output and the last states."""
    if first:
        x = x.transpose(0, 1)
    directions = 2 if both else 1
    size = 4 if biased else 2
    hs: list[Tensor] = []
    cs: list[Tensor] = []
    for layer in range(layers):
        outs: list[Tensor] = []
        for direction in range(directions):
            at = (layer * directions + direction) * size
            h = hx[0][layer * directions + direction]
            c = hx[1][layer * directions + direction]
            gates = product(x, weights, at, biased, how)
            steps: list[Tensor] = []
            for index in range(x.shape[0]):
                step = x.shape[0] - 1 - index if direction == 1 else index
                i, f, g, o = kept(gates[step] + product(h, weights, at + 1, biased, how), how).chunk(4, -1)
                i, f, o = kept(torch.sigmoid(i), how), kept(torch.sigmoid(f), how), kept(torch.sigmoid(o), how)
                c = kept(kept(f * c, how) + kept(i * kept(torch.tanh(g), how), how), how)
                h = kept(o * kept(torch.tanh(c), how), how)
                steps.append(h)
            if direction == 1:
                steps.reverse()
            outs.append(torch.stack(steps))
            hs.append(h)
            cs.append(c)
        x = torch.cat(outs, -1)
    if first:
        x = x.transpose(0, 1)
    return x, torch.stack(hs), torch.stack(cs)


def gru(
    x: Tensor,
    hx: Tensor,
    weights: list[Tensor],
    biased: bool,  # noqa: FBT001
    layers: int,
    both: bool,  # noqa: FBT001
    first: bool,  # noqa: FBT001
    how: int,
) -> tuple[Tensor, Tensor]:
    """Run a gated recurrent unit; gives the output and the last state."""
    if first:
        x = x.transpose(0, 1)
    directions = 2 if both else 1
    size = 4 if biased else 2
    hs: list[Tensor] = []
    for layer in range(layers):
        outs: list[Tensor] = []
        for direction in range(directions):
            at = (layer * directions + direction) * size
            h = hx[layer * directions + direction]
            gates = product(x, weights, at, biased, how)
            steps: list[Tensor] = []
            for index in range(x.shape[0]):
                step = x.shape[0] - 1 - index if direction == 1 else index
                r, z, n = gates[step].chunk(3, -1)
                hr, hz, hn = product(h, weights, at + 1, biased, how).chunk(3, -1)
                reset = kept(torch.sigmoid(kept(r + hr, how)), how)
                update = kept(torch.sigmoid(kept(z + hz, how)), how)
                new = kept(torch.tanh(kept(n + kept(reset * hn, how), how)), how)
                h = kept(new + kept(update * kept(h - new, how), how), how)
                steps.append(h)
            if direction == 1:
                steps.reverse()
            outs.append(torch.stack(steps))
            hs.append(h)
        x = torch.cat(outs, -1)
    if first:
        x = x.transpose(0, 1)
    return x, torch.stack(hs)


LAYERS = {"lstm": lstm, "gru": gru}
