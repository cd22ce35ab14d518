"""Weights of ONNX graphs: which constants they are, and how they become integers with a scale per output channel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.precision._onnx_edit import Edit, attribute
from convert.sources._onnx import STANDARD

if TYPE_CHECKING:
    import numpy as np

RECURRENT = ("LSTM", "GRU", "RNN")

#: Weights share a scale with this many of their column where they have 4 bits; what ONNX Runtime's kernel
#: (MatMulNBits) takes is a power of two from 16 on, and 32 is what llama.cpp's Q4_0 and ONNX Runtime's tool settled on;
#: 16 is for columns that 32 does not divide.
BLOCKS = (32, 16)

#: How far the range of a block is narrowed to see whether fewer clipped weights cost less than finer steps gain.
NARROWER = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)

#: Constants of fewer numbers are not worth a scale and an operator.
FEW = 64

#: The largest integer of a weight: all of int8 but -128, so that zero lies in the middle.
LARGEST = 127

#: The largest sum of two neighbouring weights of one sign that are multiplied with uint8 activations. NOTE: Why: on x86
#: processors without VNNI, ONNX Runtime's kernels add two products in 16 bits and saturate without a word
#: (onnxruntime#6004, #14642); 255 * 128 is the most that fits. With each weight up to 127 and no such bound, a digits
#: network measured 18.5 dB on an AMD Zen 3 instead of 42; and an artifact travels.
LARGEST_SUM = 128


@dataclass(frozen=True, slots=True)
class Weight:
    """One constant that is a node's weight: at which input, and its axis of output channels (None: one scale).

    `depths` are the axes over which its products are summed.
    """

    name: str
    position: int
    axis: int | None
    depths: tuple[int, ...] = ()


def weights_of(edit: Edit, node: Any) -> tuple[Weight, ...]:
    """List the float constants a node multiplies with, or looks up."""
    return tuple(
        weight
        for weight in _places(edit, node)
        if weight.name in edit.constants and edit.dtypes[weight.name] == 1 and weight.name not in edit.outputs
    )


def _places(edit: Edit, node: Any) -> Iterator[Weight]:
    if node.domain not in STANDARD or len(node.input) < 2:
        return
    second = node.input[1]
    rank = edit.ranks.get(second, 0)
    if node.op_type == "Conv":
        yield Weight(second, 1, 0, tuple(range(1, rank)))
    elif node.op_type == "ConvTranspose":
        yield Weight(second, 1, 1)
    elif node.op_type == "Gemm":
        turned = bool(attribute(node, "transB", 0))
        yield Weight(second, 1, 0 if turned else 1, (1 if turned else 0,))
    elif node.op_type == "MatMul" and rank >= 2:
        # ONNX Runtime's integer kernels take a scale per column of a matrix, and one scale of a stack of them.
        yield Weight(second, 1, 1 if rank == 2 else None, (rank - 2,))
    elif node.op_type in RECURRENT:
        yield Weight(second, 1, 1)
        yield Weight(node.input[2], 2, 1)
    elif node.op_type == "Gather" and attribute(node, "axis", 0) == 0 and edit.ranks.get(node.input[0]) == 2:
        yield Weight(node.input[0], 0, None)


def steps_of(array: np.ndarray, axis: int | None) -> np.ndarray:
    """Give the width of one step, float32, per channel of `axis` or for all: the greatest magnitude over `LARGEST`.

    A channel of zeros has the step of the coarsest other one, so that its bias can still be written in it.
    """
    import numpy as np

    axes = tuple(place for place in range(array.ndim) if place != axis) if axis is not None else None
    most = np.abs(array).max(axis=axes)
    fallback = most.max() or 1.0
    return np.asarray(np.where(most > 0, most, fallback) / LARGEST, np.float32)


def steps_without_overflow(array: np.ndarray, axis: int | None, depths: tuple[int, ...]) -> np.ndarray:
    """Give steps as `steps_of` does, wide enough that no two neighbours along what is summed exceed `LARGEST_SUM`.

    `depths` are the axes that are summed over. Kernels lay them out in their order, or, of a convolution's, with the
    channels last; neighbours in either are kept apart.
    """
    import numpy as np

    channels = [] if axis is None else [axis]
    others = [place for place in range(array.ndim) if place not in (*channels, *depths)]
    widest = np.zeros(array.shape[axis] if axis is not None else 1)
    for order in (depths, (*depths[1:], *depths[:1])):
        rows = np.transpose(array, (*channels, *others, *order)).reshape(len(widest), -1, _size(array, depths))
        for side in (np.maximum(rows, 0), np.maximum(-rows, 0)):
            sums = side[..., 1:] + side[..., :-1] if side.shape[-1] > 1 else side
            widest = np.maximum(widest, sums.max(axis=(1, 2), initial=0.0))
    # Each of two neighbours may be rounded up by half a step.
    found = np.maximum(steps_of(array, axis), (widest if axis is not None else widest[0]) / (LARGEST_SUM - 1))
    return np.asarray(np.nextafter(found.astype(np.float32), np.float32(np.inf)), np.float32)


def _size(array: np.ndarray, axes: tuple[int, ...]) -> int:
    return math.prod(array.shape[axis] for axis in axes)


def to_integers(array: np.ndarray, steps: np.ndarray, axis: int | None) -> np.ndarray:
    """Round an array to int8 steps around zero, at most `LARGEST` to either side."""
    import numpy as np

    shape = [1] * array.ndim
    if axis is not None:
        shape[axis] = -1
    wide = array.astype(np.float64) / steps.astype(np.float64).reshape(shape)
    return np.clip(np.rint(wide), -LARGEST, LARGEST).astype(np.int8)


def dequantized(edit: Edit, weight: Weight, steps: np.ndarray | None = None) -> str:
    """Add a weight as int8 with its DequantizeLinear, first in the graph, and give the name of its floats."""
    axis, own = weight.axis, steps is not None
    if not own and (weight.name, axis) in edit.shared:
        return edit.shared[weight.name, axis]
    array = edit.array(weight.name)
    steps = steps_of(array, axis) if steps is None else steps
    stored = edit.constant(f"{weight.name}_quantized", to_integers(array, steps, axis))
    scale = edit.constant(f"{weight.name}_scale", steps)
    zero = edit.zeros(steps.shape, "int8")
    floats = edit.fresh(f"{weight.name}_dequantized")
    where = {} if axis is None else {"axis": axis}
    edit.first(edit.node("DequantizeLinear", [stored, scale, zero], floats, **where))
    if not own:
        edit.shared[weight.name, axis] = floats
    return floats


def unpacked(edit: Edit, weight: Weight) -> str:
    """Add a weight as int8 with a Cast and a Mul, first in the graph, and give the name of its floats.

    NOTE: Why not DequantizeLinear: ONNX Runtime computes these two once, when it loads the file, and that one at every
    run. Measured, 64 channels, 3x3, 28x28: 379 us against 1,031, in float 375; an LSTM of 128: 100 us, 202 and 100.
    """
    import onnx

    if (weight.name, weight.axis) in edit.shared:
        return edit.shared[weight.name, weight.axis]
    array = edit.array(weight.name)
    steps = steps_of(array, weight.axis)
    shape = tuple(-1 if place == weight.axis else 1 for place in range(array.ndim))
    stored = edit.constant(f"{weight.name}_quantized", to_integers(array, steps, weight.axis))
    scale = edit.constant(f"{weight.name}_scale", steps.reshape(shape) if weight.axis is not None else steps)
    wide, floats = edit.fresh(f"{weight.name}_wide"), edit.fresh(f"{weight.name}_dequantized")
    edit.first(edit.node("Cast", [stored], wide, to=onnx.TensorProto.FLOAT), edit.node("Mul", [wide, scale], floats))
    edit.shared[weight.name, weight.axis] = floats
    return floats


def gathered(edit: Edit, node: Any, weight: Weight) -> None:
    """Make a lookup pick int8 rows and turn only those into floats: a whole table would be dequantized at every run."""
    array = edit.array(weight.name)
    steps = steps_of(array, None)
    stored = edit.constant(f"{weight.name}_quantized", to_integers(array, steps, None))
    scale = edit.constant(f"{weight.name}_scale", steps)
    zero = edit.zeros((), "int8")
    floats, rows = node.output[0], edit.fresh(f"{node.output[0]}_rows")
    edit.after(floats, edit.node("DequantizeLinear", [rows, scale, zero], floats))
    node.input[0], node.output[0] = stored, rows


def turned(edit: Edit, node: Any) -> None:
    """Turn, in place, the weight of a Gemm that lies the other way: MatMulNBits is not chosen for those (ORT 1.32)."""
    import numpy as np

    if node.op_type != "Gemm" or node.input[1] not in edit.constants or not attribute(node, "transB", 0):
        return
    name = node.input[1]
    found = f"{name}_turned"
    if found not in edit.constants:
        array = np.ascontiguousarray(edit.array(name).T)
        found = edit.constant(found, array)
        edit.constants[found] = next(t for t in edit.graph.initializer if t.name == found)
        edit.ranks[found], edit.dtypes[found] = array.ndim, edit.dtypes[name]
    node.input[1] = found
    next(entry for entry in node.attribute if entry.name == "transB").i = 0


def blocked(edit: Edit, node: Any, weight: Weight) -> bool:
    """Make the weight of a MatMul or Gemm 4 bits wide, with a scale per block of its column; say whether it fits."""
    import numpy as np
    import onnx

    array = edit.array(weight.name)
    if array.ndim != 2 or node.op_type not in ("MatMul", "Gemm") or attribute(node, "transA", 0):
        return False
    depth = 1 - (weight.axis or 0)
    size = next((size for size in BLOCKS if array.shape[depth] % size == 0), 0)
    if not size:
        return False
    columns = np.moveaxis(array, depth, -1)
    blocks = columns.reshape(columns.shape[0], -1, size).astype(np.float64)
    integers, steps = _four_bits(blocks)
    stored = np.moveaxis(integers.reshape(columns.shape), -1, depth)
    tensor = onnx.helper.make_tensor(
        f"{weight.name}_quantized", onnx.TensorProto.INT4, stored.shape, _packed(stored), raw=True
    )
    scale = edit.constant(f"{weight.name}_scale", np.ascontiguousarray(np.moveaxis(steps, -1, depth)))
    floats = edit.fresh(f"{weight.name}_dequantized")
    dequantize = edit.node("DequantizeLinear", [edit.tensor(tensor), scale], floats, axis=depth, block_size=size)
    edit.first(dequantize)
    node.input[weight.position] = floats
    return True


def _packed(integers: np.ndarray) -> bytes:
    """Put two 4-bit integers into each byte, the first one in the lower half."""
    import numpy as np

    flat = integers.reshape(-1).astype(np.uint8) & 0xF
    pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
    return bytes(pairs[:, 0] | (pairs[:, 1] << 4))


def _four_bits(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round blocks (float64, the last axis is one block) to -8..7 with the step of least squared error."""
    import numpy as np

    most = np.abs(blocks).max(axis=-1)
    widest = np.where(most > 0, most, 1.0) / 7
    best, steps = np.full(most.shape, np.inf), widest.astype(np.float32)
    for part in NARROWER:
        tried = (widest * part).astype(np.float32)
        wide = tried.astype(np.float64)[..., None]
        error = np.square(np.clip(np.rint(blocks / wide), -8, 7) * wide - blocks).sum(axis=-1)
        steps = np.where(error < best, tried, steps)
        best = np.minimum(error, best)
    integers = np.clip(np.rint(blocks / steps.astype(np.float64)[..., None]), -8, 7).astype(np.int8)
    return integers, steps
