"""Recurrent layers: PyTorch's own where they compute the same, so that converters see one layer; else step by step."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, operator

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": torch.nn.functional.softplus,
    "softsign": torch.nn.functional.softsign,
    "hardsigmoid": lambda x, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "leakyrelu": lambda x, alpha=0.01: torch.where(x >= 0, x, alpha * x),
    "elu": lambda x, alpha=1.0: torch.where(x >= 0, x, alpha * (torch.exp(x) - 1)),
    "thresholdedrelu": lambda x, alpha=1.0: torch.where(x >= alpha, x, torch.zeros_like(x)),
    "scaledtanh": lambda x, alpha=1.0, beta=1.0: alpha * torch.tanh(beta * x),
    "affine": lambda x, alpha=1.0, beta=0.0: alpha * x + beta,
}

_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

#: PyTorch's order of gates, as places in ONNX's: input, output, forget, cell, and update, reset, hidden.
_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}


def _functions(node: Node, direction: int) -> list[Callable[[Tensor], Tensor]]:
    """Give the activation functions of one direction, with their parameters."""
    names = node.get("activations") or _DEFAULTS[node.kind] * 2
    each = len(_DEFAULTS[node.kind])
    alphas, betas = list(node.get("activation_alpha") or []), list(node.get("activation_beta") or [])
    found: list[Callable[[Tensor], Tensor]] = []
    for position, name in enumerate(names):
        function = _FUNCTIONS[name.lower()]
        parameters: dict[str, float] = {}
        if name.lower() in ("hardsigmoid", "leakyrelu", "elu", "thresholdedrelu", "scaledtanh", "affine"):
            if alphas:
                parameters["alpha"] = alphas.pop(0)
            if betas and name.lower() in ("hardsigmoid", "scaledtanh", "affine"):
                parameters["beta"] = betas.pop(0)
        if position // each == direction:
            found.append(functools.partial(function, **parameters))
    return found


@operator("LSTM", "GRU", "RNN")
def recurrent(
    node: Node,
    value: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peephole: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run a recurrent layer, in one direction or both."""
    value = value.transpose(0, 1) if node.get("layout", 0) else value
    directions = weight.shape[0]
    size = recurrence.shape[-1]
    if node.get("layout", 0):
        hidden, cell = (None if state is None else state.transpose(0, 1) for state in (hidden, cell))
    if bias is None:
        bias = torch.zeros(directions, 2 * _GATES[node.kind] * size, dtype=value.dtype)
    zeros = value.new_zeros([directions, value.shape[1], size])
    hidden = zeros if hidden is None else hidden
    cell = zeros if cell is None else cell
    native = lengths is None and peephole is None and _is_plain(node, value)
    run = _native if native else _stepwise
    outputs, hidden, cell = run(node, value, weight, recurrence, bias, hidden, cell, lengths, peephole)
    states = [hidden, cell] if node.kind == "LSTM" else [hidden]
    if node.get("layout", 0):
        return (outputs.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in states))
    return (outputs, *states)


def _is_plain(node: Node, value: Tensor) -> bool:
    """Whether PyTorch's layer computes the same: its activations, no clipping, forward or both ways."""
    names = [name.lower() for name in node.get("activations") or []]
    default = [name.lower() for name in _DEFAULTS[node.kind]]
    plain = all(name == default[position % len(default)] for position, name in enumerate(names))
    resets = node.kind != "GRU" or bool(node.get("linear_before_reset", 0))
    coupled = node.get("clip") is not None or node.get("input_forget", 0)
    return plain and resets and not coupled and value.is_floating_point()


def _native(
    node: Node,
    value: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor,
    hidden: Tensor,
    cell: Tensor,
    _: Tensor | None,
    __: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run PyTorch's layer; a backward one on the reversed sequence."""
    size, gates = recurrence.shape[-1], _GATES[node.kind]
    flat: list[Tensor] = []
    for direction in range(weight.shape[0]):
        halves = bias[direction].split(gates * size)
        for part in (weight[direction], recurrence[direction], *halves):
            blocks = part.split(size)
            flat.append(torch.cat([blocks[place] for place in _ORDER[node.kind]]))
    backward = node.get("direction", "forward") == "reverse"
    steps = value.flip(0) if backward else value
    both = weight.shape[0] == 2
    # bias, one layer, no dropout, not training, both directions, time first: torch.lstm and its siblings by position.
    settings = (True, 1, 0.0, False, both, False)
    if node.kind == "LSTM":
        found, hidden, cell = torch.lstm(steps, (hidden, cell), flat, *settings)
    elif node.kind == "GRU":
        found, hidden = torch.gru(steps, hidden, flat, *settings)
    else:
        found, hidden = torch.rnn_tanh(steps, hidden, flat, *settings)
    found = found.flip(0) if backward else found
    return found.unflatten(-1, (weight.shape[0], size)).transpose(1, 2), hidden, cell


def _stepwise(
    node: Node,
    value: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor,
    hidden: Tensor,
    cell: Tensor,
    lengths: Tensor | None,
    peephole: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run step by step; sequences that have ended keep their state and give zeros."""
    outputs, hiddens, cells = [], [], []
    steps = int(value.shape[0])
    for direction in range(weight.shape[0]):
        backward = node.get("direction", "forward") == "reverse" or direction == 1
        step = _Step(node, direction, weight, recurrence, bias, peephole)
        h, c = hidden[direction], cell[direction]
        found: list[Tensor] = [h] * steps
        for time in reversed(range(steps)) if backward else range(steps):
            next_h, next_c = step(value[time], h, c)
            shown = next_h
            if lengths is not None:
                running = (time < lengths).unsqueeze(1)
                shown = torch.where(running, next_h, torch.zeros_like(next_h))
                next_h, next_c = torch.where(running, next_h, h), torch.where(running, next_c, c)
            h, c = next_h, next_c
            found[time] = shown
        outputs.append(torch.stack(found))
        hiddens.append(h)
        cells.append(c)
    return torch.stack(outputs, 1), torch.stack(hiddens), torch.stack(cells)


class _Step:
    """One step of one direction, as the standard's equations say it."""

    def __init__(
        self, node: Node, direction: int, weight: Tensor, recurrence: Tensor, bias: Tensor, peephole: Tensor | None
    ) -> None:
        self._node = node
        self._w, self._r = weight[direction].t(), recurrence[direction].t()
        self._wb, self._rb = bias[direction].split(self._w.shape[1])
        self._peephole = None if peephole is None else peephole[direction].chunk(3)
        self._functions = _functions(node, direction)

    def __call__(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self._node.kind](x, h, c)

    def _clipped(self, value: Tensor) -> Tensor:
        clip = self._node.get("clip")
        return value if clip is None else value.clamp(-clip, clip)

    def _rnn(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self._functions[0](self._clipped(x @ self._w + h @ self._r + self._wb + self._rb)), c

    def _gru(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        size = h.shape[-1]
        of_x = (x @ self._w + self._wb).split(size, -1)
        of_h = (h @ self._r[:, : 2 * size] + self._rb[: 2 * size]).split(size, -1)
        gate, inner = self._functions
        update, reset = (gate(self._clipped(of_x[i] + of_h[i])) for i in range(2))
        weights, offset = self._r[:, 2 * size :], self._rb[2 * size :]
        if self._node.get("linear_before_reset", 0):
            recurrent_part = reset * (h @ weights + offset)
        else:
            recurrent_part = (reset * h) @ weights + offset
        fresh = inner(self._clipped(of_x[2] + recurrent_part))
        return (1 - update) * fresh + update * h, c

    def _lstm(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates = x @ self._w + h @ self._r + self._wb + self._rb
        i, o, f, g = gates.split(h.shape[-1], -1)
        gate, inner, out = self._functions
        peep = self._peephole
        i = gate(self._clipped(i if peep is None else i + peep[0] * c))
        coupled = self._node.get("input_forget", 0)
        f = 1 - i if coupled else gate(self._clipped(f if peep is None else f + peep[2] * c))
        c = f * c + i * inner(self._clipped(g))
        o = gate(self._clipped(o if peep is None else o + peep[1] * c))
        return o * out(c), c
