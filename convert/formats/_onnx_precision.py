"""The precision of an ONNX file, as its own operators and constants tell, whoever made it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convert.spec import FP16, FP32, INT4_WEIGHTS, INT8, INT8_DYNAMIC, INT8_WEIGHTS, INT16X8, Scale

if TYPE_CHECKING:
    import onnx

#: Operators that quantize what they take as it comes, and those that multiply it; the first are of the standard.
DYNAMIC = frozenset(
    {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}
    | {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QAttention"}
)

#: ONNX's numbers of the types that weights are stored in: uint8, int8, uint4, int4.
NARROW = (2, 3, 21, 22)

#: Operators of weights in blocks, and the attribute that says how many bits each has.
BLOCKED = {"MatMulNBits": "bits", "GatherBlockQuantized": "bits", "MatMulBnb4": ""}


def precision_of(model: onnx.ModelProto) -> str:
    """Say in which precision of `convert.spec.PRECISIONS` a file stores and computes; external data is not needed.

    Where several are mixed, activations count before weights, and the greater number of activations of one kind.
    """
    from onnx import TensorProto

    dtypes = {tensor.name: tensor.data_type for tensor in _tensors(model.graph)}
    stored = set()
    activations: list[int] = []
    dynamic = False
    for node in _nodes(model.graph):
        if node.op_type == "QuantizeLinear" and node.input[0] not in dtypes:
            activations.append(_made_by(node, dtypes))
        elif node.op_type.startswith("QLinear") or node.op_type == "QGemm":
            activations.append(TensorProto.INT8)
            stored.add(TensorProto.INT8)
        elif node.op_type in DYNAMIC:
            dynamic = True
        elif node.op_type == "DequantizeLinear" and node.input[0] in dtypes:
            stored.add(dtypes[node.input[0]])
        elif node.op_type == "DequantizeLinear":
            # An integer table of which rows were picked first.
            stored |= {dtypes[name] for name in _sources(model.graph, node.input[0]) if name in dtypes}
        elif node.op_type == "Cast" and dtypes.get(node.input[0], 0) in NARROW and _is_float(node):
            stored.add(dtypes[node.input[0]])  # weights that are scaled when the file is loaded
        elif node.op_type in BLOCKED:
            bits = next((entry.i for entry in node.attribute if entry.name == BLOCKED[node.op_type]), 4)
            stored.add(TensorProto.INT8 if bits == 8 else TensorProto.INT4)
    sixteen = sum(dtype in (TensorProto.INT16, TensorProto.UINT16) for dtype in activations)
    # The integers a weight-only file takes or gives at its boundary do not make its arithmetic integer.
    if activations and (stored or len(activations) > len(model.graph.output)):
        return INT16X8 if 2 * sixteen > len(activations) else INT8
    if dynamic:
        return INT8_DYNAMIC
    if stored & {TensorProto.INT4, TensorProto.UINT4}:
        return INT4_WEIGHTS
    if stored & {TensorProto.INT8, TensorProto.UINT8}:
        return INT8_WEIGHTS
    return FP16 if _mostly_half(model) else FP32


def _is_float(cast: Any) -> bool:
    return any(entry.name == "to" and entry.i in (1, 10) for entry in cast.attribute)


def _mostly_half(model: onnx.ModelProto) -> bool:
    """Whether more of a file's floats are in half precision than in any other."""
    from onnx import TensorProto

    sizes = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0, TensorProto.DOUBLE: 0}
    for tensor in _tensors(model.graph):
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += math.prod(tensor.dims)
    half = sizes.pop(TensorProto.FLOAT16)
    return half > sum(sizes.values())


def _made_by(node: Any, dtypes: dict[str, int]) -> int:
    """Give the type of what a QuantizeLinear makes: that of its zero point, else what it says, else uint8."""
    from onnx import TensorProto

    if len(node.input) > 2 and node.input[2]:
        return int(dtypes.get(node.input[2], TensorProto.UINT8))
    return int(next((entry.i for entry in node.attribute if entry.name == "output_dtype"), 0) or TensorProto.UINT8)


def _sources(graph: Any, name: str) -> Iterator[str]:
    for node in graph.node:
        if name in node.output:
            yield from node.input


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield constants under the names they are read by: initializers, and what Constant nodes make."""
    yield from graph.initializer
    for node in _nodes(graph):
        for entry in node.attribute:
            if node.op_type == "Constant" and entry.HasField("t"):
                yield _Named(node.output[0], entry.t)


class _Named:
    """A constant of a node, under the name of the node's output."""

    def __init__(self, name: str, tensor: Any) -> None:
        self.name, self.data_type, self.dims = name, tensor.data_type, tensor.dims


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for entry in node.attribute:
            for nested in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
                yield from _nodes(nested)


def boundary_scales(model: onnx.ModelProto) -> dict[str, Scale]:
    """Give the scale of every 8-bit input that is only dequantized, and of every output that is quantized last.

    The scale is read where it is used, so that a file cannot say one thing and do another. One scale per tensor only.
    """
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    small = (TensorProto.INT8, TensorProto.UINT8)

    def scale_of(node: Any) -> Scale | None:
        names = [name for name in node.input[1:] if name]
        if not names or any(name not in constants or math.prod(constants[name].dims) != 1 for name in names):
            return None
        numbers = [numpy_helper.to_array(constants[name]).reshape(()).item() for name in names]
        return Scale(float(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)

    found: dict[str, Scale | None] = {}
    for value in model.graph.input:
        readers = [node for node in model.graph.node if value.name in node.input]
        if value.type.tensor_type.elem_type in small and readers:
            scales = {scale_of(node) if node.op_type == "DequantizeLinear" else None for node in readers}
            found[value.name] = scales.pop() if len(scales) == 1 else None
    for value in model.graph.output:
        if value.type.tensor_type.elem_type in small:
            makers = [node for node in model.graph.node if value.name in node.output]
            for node in makers:
                found[value.name] = scale_of(node) if node.op_type == "QuantizeLinear" else None
    return {name: scale for name, scale in found.items() if scale is not None}
