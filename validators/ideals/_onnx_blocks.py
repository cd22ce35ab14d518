"""What ONNX Runtime's kernel for narrow weights, MatMulNBits, rounds besides the weights."""

from __future__ import annotations

from typing import Any

from validators.ideals._onnx_pair import Float, Side

#: How many of a row the kernel rounds together where the weight has one scale per column.
KERNEL_BLOCK = 32

UINT8, INT8 = 2, 3


def is_turned(node: Any) -> bool:
    """Whether a Gemm has its weight's columns as rows."""
    return any(entry.name == "transB" and entry.i for entry in node.attribute)


def kernel_block(side: Side, node: Any) -> tuple[int, int] | None:
    """Give the length of a row and of a block where that kernel runs a product: of a float and a dequantized matrix."""
    weight = side.made_by.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
    if weight is None or weight.op_type != "DequantizeLinear" or weight.input[0] not in side.constants:
        return None
    maker = side.made_by.get(node.input[0])
    source = side.made_by.get(maker.input[0]) if maker is not None and maker.op_type == "DequantizeLinear" else None
    if source is not None and source.op_type == "QuantizeLinear" and len(source.input) > 2:
        zero = side.constants.get(source.input[2])
        if zero is None or zero.data_type in (INT8, UINT8):
            return None
    stored = side.constants[weight.input[0]]
    if len(stored.dims) != 2 or is_turned(node):
        return None
    return int(stored.dims[0]), next(
        (entry.i for entry in weight.attribute if entry.name == "block_size"), KERNEL_BLOCK
    )


def rounded_in_blocks(ideal: Float, value: str, depth: int, block: int) -> str:
    """Add what ONNX Runtime's kernel for narrow weights does to its float input, and give the rounded value's name.

    MatMulNBits, which ONNX Runtime makes of a dequantized weight and a product, multiplies in 8 bits by default
    (`session.qdq_matmulnbits_accuracy_level` 4): each block of a row is rounded to steps of its greatest magnitude over
    127. Measured on an encoder, weights alone lose 43.7 dB, and with this 41.9; a machine without such a kernel does
    better than the ideal.
    """
    import numpy as np

    whole = depth // block * block
    parts = [(0, whole, block)] if whole else []
    parts += [(whole, depth, depth - whole)] if whole < depth else []
    rounded = []
    for start, end, size in parts:
        part = _Part(ideal, ideal.fresh(f"{value}_block_{start}"))
        taken = part.make("Slice", [value, part.ints(start), part.ints(end), part.ints(-1)])
        shape = part.make("Shape", [taken])
        leading = part.make("Slice", [shape, part.ints(0), part.ints(-1), part.ints(0)])
        blocks = part.make("Concat", [leading, part.ints((end - start) // size, size)], axis=0)
        numbers = part.make("Reshape", [taken, blocks])
        width = part.make("Div", [part.greatest(numbers), part.number(127)])
        width = part.make("Max", [width, part.number(float(np.finfo(np.float32).tiny))])
        integers = part.make("Round", [part.make("Div", [numbers, width])])
        rounded.append(part.make("Reshape", [part.make("Mul", [integers, width]), shape]))
    if len(rounded) == 1:
        return rounded[0]
    found = ideal.fresh(f"{value}_blocks")
    ideal.node("Concat", rounded, [found], axis=-1)
    return found


class _Part:
    """Nodes and constants of one part of a row, with names of its own."""

    def __init__(self, ideal: Float, name: str) -> None:
        self.ideal, self.name = ideal, name

    def make(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        found = self.ideal.fresh(f"{self.name}_{operator}")
        self.ideal.node(operator, inputs, [found], **attributes)
        return found

    def ints(self, *numbers: int) -> str:
        import numpy as np

        return self.ideal.constant(f"{self.name}_ints", np.array(numbers, np.int64))

    def number(self, number: float) -> str:
        import numpy as np

        return self.ideal.constant(f"{self.name}_number", np.array(number, np.float32))

    def greatest(self, value: str) -> str:
        """Give the greatest magnitude along the last axis; from opset 18 on, axes are an input."""
        magnitudes = self.make("Abs", [value])
        if max(entry.version for entry in self.ideal.model.opset_import if entry.domain == "") >= 18:
            return self.make("ReduceMax", [magnitudes, self.ints(-1)], keepdims=1)
        return self.make("ReduceMax", [magnitudes], keepdims=1, axes=[-1])
