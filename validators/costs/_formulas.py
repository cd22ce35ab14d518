"""How many multiply-accumulates an operator makes, from the shapes of what it takes and gives.

Sources: the loops that the operators' own specifications define (ONNX `Operators.md`, TFLite's `kernels/internal/
reference`, PyTorch's documentation of `torch.nn`). `torch.utils.flop_counter` counts two per MAC by the same formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Shape = Sequence[int]


def convolution(output: Shape, taps: Shape) -> int:
    """Every output element sums over `taps`: the kernel's sizes and the input channels of one group.

    Grouped, depthwise, dilated and 3-D ones are no different. Taps in a padding count.
    """
    return prod(output) * prod(taps)


def transposed_convolution(taken: Shape, taps: Shape) -> int:
    """Every input element is multiplied with `taps`: the kernel's sizes and the output channels of one group."""
    return prod(taken) * prod(taps)


def product(output: Shape, summed: int) -> int:
    """Every element of a matrix product, batched or not, sums over `summed` pairs."""
    return prod(output) * summed


def recurrent(steps: int, weights: Sequence[Shape]) -> int:
    """Each step of each row multiplies with every number of the cells' matrices once; biases and peepholes are none.

    An LSTM has matrices for four gates, a GRU for three, a plain cell for one; a projection has one of its own. `steps`
    are time steps times rows.
    """
    return steps * sum(prod(weight) for weight in weights)


def attention(query: Shape, value: Shape) -> int:
    """Of heads [..., L, E] and [..., S, F]: L times S scores sum over E, and L times F answers over S."""
    return prod(query[:-1]) * value[-2] * (query[-1] + value[-1])


def einsum(equation: str, shapes: Sequence[Shape]) -> int | None:
    """Multiply the sizes of all labels of two operands; one operand alone is only summed and moved.

    None for more operands, whose order of contraction the equation leaves open, and for an ellipsis.
    """
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != len(shapes) or len(terms) > 2 or "." in equation:
        return None
    if len(terms) == 1:
        return 0
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            return None
        for label, size in zip(term, shape, strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    return prod(sizes.values())
