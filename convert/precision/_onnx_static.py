"""Static quantization of ONNX graphs: QuantizeLinear and DequantizeLinear where ONNX Runtime has integer kernels.

The pairs stand only where they let an integer kernel be used; what would be quantized and dequantized again around a
float operator stays in float, which is both faster and closer to the original than quantizing every operator.

Activations are uint8, weights int8. With int8 activations ONNX Runtime 1.32 runs, on x86, a convolution whose output
has two readers in float (its QDQS8ToU8 rewrite, which the x86 kernels need, knows one reader only): measured on a 1x1
convolution of 64 channels, 139 us against 97 us, and every residual connection is such a place. ARM runs both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from convert.precision._onnx_edit import Edit, attribute
from convert.precision._onnx_weights import (
    FEW,
    RECURRENT,
    Weight,
    dequantized,
    gathered,
    steps_of,
    steps_without_overflow,
    unpacked,
    weights_of,
)
from convert.sources._onnx import STANDARD

#: Operators with integer kernels that multiply with a weight.
MULTIPLYING = ("Conv", "Gemm", "MatMul")

#: Operators whose kernels take and give integers of one scale: they only move numbers, or pick one of them.
MOVING = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice")

#: Operators with integer kernels of their own that compute on activations only.
COMBINING = ("Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat", "LeakyRelu", "Sigmoid")

#: Activations that end in the rounding of the convolution before them.
ABSORBED = ("Relu", "Clip")

#: Activations that ONNX Runtime joins with the Gemm before them (its GemmActivationFusion).
JOINED = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "HardSigmoid", "Softplus", "Softsign", "ThresholdedRelu")

#: A bias is stored in 32 bits, in steps of its input's and its weight's; half of what fits leaves room for the sum.
LARGEST_BIAS = 1 << 30

Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Steps:
    """How activations are written as integers: their type, and whether zero lies in the middle.

    `overflows` where kernels may add products of these and weights in too few bits.
    """

    dtype: str  # uint8, or int16 with zero in the middle
    low: int
    high: int
    symmetric: bool = False
    overflows: bool = False

    def parameters(self, ends: Ends) -> tuple[float, int]:
        """Give the scale and the zero point that hold a range; zero is always exact."""
        import numpy as np

        low, high = min(ends[0], 0.0), max(ends[1], 0.0)
        if self.symmetric:
            low, high = -max(-low, high), max(-low, high)
        if high == low:
            return 1.0, 0 if self.symmetric else self.low
        scale = float(np.float32((high - low) / (self.high - self.low)))
        if scale == 0.0 or not np.isfinite(scale):
            return 1.0, 0 if self.symmetric else self.low
        return scale, round(min(max(self.low - low / scale, self.low), self.high)) if not self.symmetric else 0


UINT8 = Steps("uint8", 0, 255, overflows=True)
INT16 = Steps("int16", -32767, 32767, symmetric=True)


@dataclass
class Selection:
    """Which nodes become integer, and which values are quantized for it."""

    multiplying: list[Any] = field(default_factory=list)
    carrying: list[Any] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)  # their weights become integers, their arithmetic does not
    values: dict[str, None] = field(default_factory=dict)  # in the order of the graph


def select(edit: Edit, kept: frozenset[str]) -> Selection:
    """Choose what to quantize, leaving out the layers named in `kept`."""
    found = Selection()
    for node in edit.graph.node:
        if node.name in kept or not (weights := weights_of(edit, node)):
            continue
        if _multiplies(edit, node):
            found.multiplying.append(node)
            found.values[node.input[0]] = None
            if node.op_type == "Conv":
                found.values[_absorbing(edit, node)] = None
        elif max(edit.array(weight.name).size for weight in weights) >= FEW:
            found.stored.append(node)
    _select_carrying(edit, found, kept)
    return found


def _multiplies(edit: Edit, node: Any) -> bool:
    """Whether an integer kernel multiplies for this node; its input must be computed or fed, not constant."""
    if node.op_type not in MULTIPLYING or node.input[0] in edit.constants or edit.dtypes.get(node.input[0]) != 1:
        return False
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == 1.0
    return True


def _absorbing(edit: Edit, node: Any) -> str:
    """Name the value to quantize behind a convolution: its output, or that of the activation it takes in."""
    output: str = node.output[0]
    readers = edit.read_by[output]
    free = output not in edit.outputs and output not in edit.captured
    if free and len(readers) == 1 and readers[0].op_type in ABSORBED and readers[0].input[0] == output:
        limits = readers[0].input[1:]
        if all(name in edit.constants for name in limits if name):
            return str(readers[0].output[0])
    return output


def _activations(node: Any) -> list[str]:
    count = 1 if node.op_type in MOVING + ABSORBED else len(node.input)
    return [name for name in node.input[:count] if name]


def _select_carrying(edit: Edit, found: Selection, kept: frozenset[str]) -> None:
    """Add the operators between integer ones that can carry integers on: all they take is quantized, and so is use."""
    able = set(found.values)
    possible, inner = [], set()
    for node in edit.graph.node:
        if node.domain not in STANDARD or node.op_type not in MOVING + COMBINING + ABSORBED or node.name in kept:
            continue
        takes = _activations(node)
        if not takes or len([name for name in node.output if name]) != 1:
            continue
        if all(name in able and name not in edit.constants for name in takes):
            able.add(node.output[0])
            possible.append(node)
            if node.op_type in COMBINING and _absorbing(edit, node) != node.output[0]:
                inner.add(node.output[0])
    wanted = set(found.values)
    for node in reversed(possible):
        if node.output[0] in wanted and edit.dtypes.get(node.output[0]) == 1:
            found.carrying.append(node)
            wanted |= set(_activations(node))
    found.carrying.reverse()
    for node in edit.graph.node:
        found.values |= {name: None for name in node.output if name in wanted - inner}


def take_biases(edit: Edit, kept: frozenset[str]) -> None:
    """Join each MatMul with the bias added behind it, in place, so that ONNX Runtime does not do so wrongly.

    NOTE: Why at all: its MatMulAddFusion runs before its integer kernels are chosen. It makes a Gemm with a float bias
    of the two, for which there is no integer kernel, and which dequantizes the whole weight at every run (measured:
    740 us instead of 14); for three axes of fixed sizes, 1.32 even refuses the file. A bias in integers, or for more
    than two axes one of as many axes, is left alone.
    """
    for node in list(edit.graph.node):
        if node.op_type != "MatMul" or node.name in kept or not weights_of(edit, node):
            continue
        output = node.output[0]
        (add, *more) = edit.read_by[output] or [None]
        if add is None or more or add.op_type != "Add" or output in edit.outputs | edit.captured:
            continue
        bias = next((name for name in add.input if name != output), "")
        rank, columns = edit.ranks.get(node.input[0]), edit.constants[node.input[1]].dims[-1]
        if bias not in edit.constants or list(edit.constants[bias].dims) != [columns] or rank is None:
            continue
        if rank == 2 and len(edit.constants[node.input[1]].dims) == 2:
            node.op_type, node.name = "Gemm", add.output[0]
            node.input.append(bias)
            node.output[0] = add.output[0]
            edit.graph.node.remove(add)
        else:
            wide = edit.array(bias).reshape((1,) * (rank - 1) + (columns,))
            place = list(add.input).index(bias)
            add.input[place] = edit.constant(f"{bias}_unsqueezed", wide)


class Static:
    """A graph while its activations are quantized."""

    def __init__(self, edit: Edit, found: Selection, ends: Callable[[str], Ends], steps: Steps) -> None:
        self.edit, self.found, self.steps = edit, found, steps
        self.scales: dict[str, tuple[float, int]] = {}
        self._numbers: dict[str, tuple[str, str]] = {}
        source = {node.output[0]: node.input[0] for node in found.carrying if node.op_type in MOVING}
        for value in found.values:
            origin = value
            while origin in source:
                origin = source[origin]
            self.scales[value] = steps.parameters(ends(origin))

    def write(self) -> None:
        """Write everything into the graph."""
        edit = self.edit
        for node in self.found.multiplying:
            self._weigh(node)
        for node in self.found.stored:
            store(edit, node)
        integer = {node.name for node in (*self.found.multiplying, *self.found.carrying)}
        for value in self.found.values:
            self._quantize(value, integer)
        edit.finish()

    def _weigh(self, node: Any) -> None:
        """Write a node's weight, and its bias where it has one, as integers."""
        edit = self.edit
        (weight,) = weights_of(edit, node)
        array = edit.array(weight.name)
        axis = weight.axis if array.ndim > 1 else None
        steps = steps_without_overflow(array, axis, weight.depths) if self.steps.overflows else steps_of(array, axis)
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias in edit.constants and attribute(node, "beta", 1.0) == 1.0 and len(edit.constants[bias].dims) == 1:
            steps = self._add_bias(node, bias, steps, self.scales[node.input[0]][0])
        node.input[1] = dequantized(edit, Weight(weight.name, 1, axis), steps)

    def _add_bias(self, node: Any, bias: str, steps: Any, scale: float) -> Any:
        """Write a bias as int32 in steps of the input's times the weight's; widen the weight's where it overflows."""
        import numpy as np

        edit, numbers = self.edit, self.edit.array(bias).astype(np.float64)
        least = np.abs(numbers) / (scale * LARGEST_BIAS)
        steps = np.maximum(steps, least if steps.ndim else least.max(initial=0.0)).astype(np.float32)
        widths = (np.float32(scale) * steps).astype(np.float32)
        integers = np.rint(numbers / np.maximum(widths.astype(np.float64), np.finfo(np.float32).tiny))
        stored = edit.constant(f"{bias}_quantized", integers.astype(np.int32))
        width = edit.constant(f"{bias}_scale", widths)
        zero = edit.zeros(widths.shape, "int32")
        node.input[2] = edit.fresh(f"{bias}_dequantized")
        where = {"axis": 0} if widths.ndim else {}
        edit.first(edit.node("DequantizeLinear", [stored, width, zero], node.input[2], **where))
        return steps

    def _quantize(self, value: str, integer: set[str]) -> None:
        """Put a pair behind a value, for all its readers where an integer kernel makes it, else for integer ones."""
        edit = self.edit
        maker = edit.made_by.get(value)
        made = maker is not None and self._ends_in_integers(maker, integer)
        readers = [node for node in edit.read_by[value] if made or node.name in integer]
        name = value
        if maker is not None and made and (value in edit.outputs or value in edit.captured):
            # What the contract, or a nested graph, calls by name comes out of the pair.
            name = edit.fresh(f"{value}_float")
            maker.output[list(maker.output).index(value)] = name
        integers = edit.fresh(f"{value}_integers")
        floats = value if name != value else edit.fresh(f"{value}_dequantized")
        scale, zero = self.numbers(value)
        nodes = (
            edit.node("QuantizeLinear", [name, scale, zero], integers),
            edit.node("DequantizeLinear", [integers, scale, zero], floats),
        )
        edit.after(value, *nodes)
        for node in readers:
            for place, read in enumerate(node.input):
                if read == value:
                    node.input[place] = floats

    def _ends_in_integers(self, maker: Any, integer: set[str]) -> bool:
        """Whether the kernel that makes a value gives integers: also where an activation is taken in."""
        if maker.name in integer:
            return True
        before = self.edit.made_by.get(maker.input[0]) if maker.op_type in ABSORBED else None
        return before is not None and before.name in integer

    def numbers(self, value: str) -> tuple[str, str]:
        """Add the scale and the zero point of a value and give their names."""
        import numpy as np

        if value not in self._numbers:
            scale, zero = self.scales[value]
            self._numbers[value] = (
                self.edit.constant(f"{value}_scale", np.array(scale, np.float32)),
                self.edit.constant(f"{value}_zero_point", np.array(zero, self.steps.dtype)),
            )
        return self._numbers[value]


def store(edit: Edit, node: Any) -> None:
    """Keep a node's weights as int8 and compute in float."""
    for weight in weights_of(edit, node):
        if edit.array(weight.name).size < FEW:
            continue
        if node.op_type == "Gather":
            gathered(edit, node, weight)
        elif node.op_type in ("MatMul", "Gemm") and not _joined(edit, node):
            node.input[weight.position] = dequantized(edit, weight)  # which ONNX Runtime makes a MatMulNBits of
        else:
            node.input[weight.position] = unpacked(edit, weight)


def _joined(edit: Edit, node: Any) -> bool:
    """Whether ONNX Runtime joins a product with the activation behind it, into a kernel that takes floats only."""
    return any(reader.op_type in JOINED for reader in edit.read_by[node.output[0]])


def recurrent(nodes: list[Any]) -> bool:
    """Whether any of these nodes is a recurrent layer."""
    return any(node.op_type in RECURRENT for node in nodes)
