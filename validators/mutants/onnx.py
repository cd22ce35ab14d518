"""Mutants of ONNX files, in float and quantized by QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats.onnx import read_model, write_model
from convert.worker import Environment
from validators.mutants import (
    ACTIVATION,
    AXES,
    EPSILON,
    EPSILON_FACTOR,
    LARGEST_EPSILON,
    MUTATORS,
    SCALED,
    SWAPPED,
    UNBIASED,
    Mutator,
    Place,
    Spot,
    pair_to_swap,
    swapped,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: What takes the place of an activation, of the same shape: the nearest other one.
OTHER = {
    "Relu": "LeakyRelu",
    "LeakyRelu": "Relu",
    "Elu": "Relu",
    "Selu": "Elu",
    "Sigmoid": "HardSigmoid",
    "HardSigmoid": "Sigmoid",
    "Tanh": "Softsign",
    "Softsign": "Tanh",
    "HardSwish": "Relu",
    "Softplus": "Relu",
    "Gelu": "Relu",
    "Mish": "Relu",
    "Erf": "Tanh",
    "Softmax": "Sigmoid",
    "Clip": "Identity",
}

#: Operators whose third input is a bias.
BIASED = ("Conv", "ConvTranspose", "Gemm")
ROOTS = ("Sqrt", "Pow")


def places(model: onnx.ModelProto, scale: float) -> Iterator[Place]:
    """List the places of the outermost graph."""
    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    for name, tensor in known.items():
        yield from _weights(graph, name, tensor, scale)
    for node in graph.node:
        yield from _bias(node, known, graph)
        yield from _epsilon(node, known, graph)
        if node.op_type in OTHER and not node.domain:
            yield Place(Spot(ACTIVATION, f"{node.op_type} {node.name or node.output[0]}"), partial(_replace, node))
    for value in graph.output:
        if len(value.type.tensor_type.shape.dim) > 1:
            yield Place(Spot(AXES, value.name), partial(_swap_axes, graph, value))


def _array(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    found: np.ndarray = numpy_helper.to_array(tensor)
    return found


def _set(tensor: Any, array: np.ndarray) -> None:
    from onnx import numpy_helper

    before = _array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(array.astype(before.dtype), tensor.name))


def _scale_name(graph: Any, name: str) -> str:
    """Name the scale by which stored integers are dequantized; nothing where they are not."""
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == name:
            return str(node.input[1])
    return ""


def _weights(graph: Any, name: str, tensor: Any, scale: float) -> Iterator[Place]:
    """A tensor of weights can be scaled, and have two channels swapped."""
    if len(tensor.dims) < 2 or max(tensor.dims) < 2:
        return
    array = _array(tensor)
    if array.dtype.kind == "f":
        yield Place(Spot(SCALED, name), partial(_set, tensor, array * array.dtype.type(scale)))
    elif array.dtype.kind == "i" and (place := _scale_name(graph, name)):
        held = next((other for other in graph.initializer if other.name == place), None)
        if held is not None:
            yield Place(Spot(SCALED, name), partial(_set, held, _array(held) * scale))
    else:
        return
    axis = next(axis for axis, size in enumerate(array.shape) if size > 1)
    pair = pair_to_swap(array, axis)
    if pair is not None:
        yield Place(Spot(SWAPPED, name), partial(_set, tensor, swapped(array, pair, axis)))


def _bias(node: Any, known: dict[str, Any], graph: Any) -> Iterator[Place]:
    """A bias that is not zero can be dropped."""
    if node.op_type in BIASED and len(node.input) > 2:
        name = node.input[2]
    elif node.op_type == "Add":
        name = next((name for name in node.input if name in known and len(known[name].dims) == 1), "")
    else:
        return
    maker = next((other for other in graph.node if name in other.output), None)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    tensor = known.get(name)
    if tensor is not None and len(tensor.dims) == 1 and (array := _array(tensor)).any():
        yield Place(Spot(UNBIASED, f"{node.op_type} {node.name or node.output[0]}"), partial(_set, tensor, array * 0))


def _epsilon(node: Any, known: dict[str, Any], graph: Any) -> Iterator[Place]:
    """An epsilon stands in an attribute, or is added under a root."""
    where = f"{node.op_type} {node.name or node.output[0]}"
    for attribute in node.attribute:
        if attribute.name == "epsilon":
            yield Place(Spot(EPSILON, where), partial(_grow, attribute))
    if node.op_type != "Add":
        return
    rooted = any(node.output[0] in other.input for other in graph.node if other.op_type in ROOTS)
    for name in node.input:
        tensor = known.get(name)
        if rooted and tensor is not None and _count(tensor) == 1:
            array = _array(tensor)
            if array.dtype.kind == "f" and 0 < float(array.reshape(())) <= LARGEST_EPSILON:
                yield Place(Spot(EPSILON, where), partial(_set, tensor, array * array.dtype.type(EPSILON_FACTOR)))


def _count(tensor: Any) -> int:
    import math

    return math.prod(tensor.dims)


def _grow(attribute: Any) -> None:
    attribute.f *= EPSILON_FACTOR


def _replace(node: Any) -> None:
    """Put another activation in an activation's place; with its defaults, and one input."""
    node.op_type = OTHER[node.op_type]
    del node.input[1:]
    del node.attribute[:]


def _swap_axes(graph: Any, value: Any) -> None:
    """Transpose the last two axes of an output."""
    from onnx import helper

    rank = len(value.type.tensor_type.shape.dim)
    before = f"{value.name}_before_swapping"
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == value.name:
                    names[position] = before
    order = [*range(rank - 2), rank - 1, rank - 2]
    graph.node.append(helper.make_node("Transpose", [before], [value.name], perm=order))
    dims = [type(dim).FromString(dim.SerializeToString()) for dim in value.type.tensor_type.shape.dim]
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.dim.extend(dims[axis] for axis in order)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the file; shapes that were inferred before the change are forgotten."""
    del model.graph.value_info[:]
    write_model(path, model)


MUTATORS.register(Mutator("onnx", Environment("onnx-mutants", ("numpy", "onnx")), read_model, places, save))
