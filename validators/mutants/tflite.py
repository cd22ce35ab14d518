"""Mutants of TFLite files, in float and quantized."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats._tflite_precision import is_quantized, operator_kinds
from convert.formats.tflite import read_model, write_model
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

#: What takes the place of an activation, of the same shape and without options of its own.
OTHER = {
    "RELU": "ELU",
    "ELU": "RELU",
    "RELU6": "RELU",
    "LOGISTIC": "TANH",
    "TANH": "LOGISTIC",
    "HARD_SWISH": "RELU",
    "GELU": "RELU",
    "LEAKY_RELU": "RELU",
    "SOFTMAX": "LOGISTIC",
}
ROOTS = ("RSQRT", "SQRT", "POW")

#: Operators whose third input is a bias.
BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "FULLY_CONNECTED")

#: NumPy's names of the types (schema.fbs, enum TensorType) whose numbers can be changed; int4 stays packed.
DTYPES = {0: "float32", 1: "float16", 2: "int32", 9: "int8", 7: "int16", 4: "int64"}
TRANSPOSE = 39  # BuiltinOperator
INT32 = 2  # TensorType


def places(model: Any, scale: float) -> Iterator[Place]:
    """List the places of the first graph."""
    graph, kinds = model.subgraphs[0], operator_kinds(model)
    producers = [(operator, kinds[operator.opcodeIndex]) for operator in graph.operators]
    for tensor in graph.tensors:
        yield from _weights(model, tensor, scale)
    for operator, kind in producers:
        where = f"{kind} {_text(graph.tensors[operator.outputs[0]].name)}"
        yield from _bias(model, operator, kind, where)
        yield from _epsilon(model, producers, operator, kind, where)
        if kind in OTHER:
            yield Place(Spot(ACTIVATION, where), partial(_replace, model, operator, OTHER[kind]))
        elif getattr(operator.builtinOptions, "fusedActivationFunction", 0):
            yield Place(Spot(ACTIVATION, f"fused into {where}"), partial(_unfuse, operator))
    for number, index in enumerate(graph.outputs):
        if graph.tensors[index].shape is not None and len(graph.tensors[index].shape) > 1:
            yield Place(Spot(AXES, _text(graph.tensors[index].name)), partial(_swap_axes, model, number))


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""


def _array(model: Any, tensor: Any) -> np.ndarray | None:
    """Read a constant; None for what is computed or packed."""
    import numpy as np

    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in DTYPES:
        return None
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    return np.frombuffer(bytes(data), DTYPES[tensor.type]).reshape(shape)


def _set(model: Any, tensor: Any, array: np.ndarray) -> None:
    """Give one tensor another content; others that share its buffer keep theirs."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(array, DTYPES[tensor.type]).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _weights(model: Any, tensor: Any, scale: float) -> Iterator[Place]:
    """A tensor of weights can be scaled, and have two channels swapped."""
    name = _text(tensor.name)
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if len(shape) < 2 or max(shape) < 2 or model.buffers[tensor.buffer].data is None:
        return
    array = _array(model, tensor)
    if is_quantized(tensor):
        yield Place(Spot(SCALED, name), partial(_scale, tensor, scale))
    elif array is not None and array.dtype.kind == "f":
        yield Place(Spot(SCALED, name), partial(_set, model, tensor, array * array.dtype.type(scale)))
    else:
        return
    if array is not None:
        axis = next(axis for axis, size in enumerate(array.shape) if size > 1)
        pair = pair_to_swap(array, axis)
        if pair is not None:
            yield Place(Spot(SWAPPED, name), partial(_set, model, tensor, swapped(array, pair, axis)))


def _scale(tensor: Any, factor: float) -> None:
    tensor.quantization.scale = [float(scale) * factor for scale in tensor.quantization.scale]


def _bias(model: Any, operator: Any, kind: str, where: str) -> Iterator[Place]:
    """A bias that is not zero can be dropped."""
    graph = model.subgraphs[0]
    position = 2 if kind in BIASED else 3 if kind == "TRANSPOSE_CONV" else 1 if kind == "ADD" else None
    if position is None or position >= len(operator.inputs) or operator.inputs[position] < 0:
        return
    tensor = graph.tensors[operator.inputs[position]]
    array = _array(model, tensor)
    if array is not None and array.ndim == 1 and array.size > 1 and array.any():
        yield Place(Spot(UNBIASED, where), partial(_set, model, tensor, array * 0))


def _epsilon(model: Any, producers: list[tuple[Any, str]], operator: Any, kind: str, where: str) -> Iterator[Place]:
    """An epsilon is a small constant that is added under a root."""
    if kind != "ADD":
        return
    rooted = any(other in ROOTS and operator.outputs[0] in list(maker.inputs) for maker, other in producers)
    for index in operator.inputs if rooted else ():
        tensor = model.subgraphs[0].tensors[index]
        array = _array(model, tensor)
        if array is None or array.size != 1 or array.dtype.kind != "f":
            continue
        if 0 < float(array.reshape(())) <= LARGEST_EPSILON:
            grown = array * array.dtype.type(EPSILON_FACTOR)
            yield Place(Spot(EPSILON, where), partial(_set, model, tensor, grown))


def _opcode(model: Any, number: int, version: int = 1) -> int:
    """Add an operator code and give its index."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = number
    code.deprecatedBuiltinCode = min(number, 127)  # schema.fbs: 127 stands for all that an int8 cannot hold
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _replace(model: Any, operator: Any, kind: str) -> None:
    """Put another activation in an activation's place."""
    from ai_edge_litert import schema_py_generated as schema

    quantized = is_quantized(model.subgraphs[0].tensors[operator.outputs[0]])
    operator.opcodeIndex = _opcode(model, getattr(schema.BuiltinOperator, kind), 2 if quantized else 1)
    operator.builtinOptionsType, operator.builtinOptions = 0, None
    operator.builtinOptions2Type, operator.builtinOptions2 = 0, None


def _unfuse(operator: Any) -> None:
    operator.builtinOptions.fusedActivationFunction = 0  # ActivationFunctionType.NONE


def _swap_axes(model: Any, number: int) -> None:
    """Transpose the last two axes of an output."""
    import copy

    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    index = int(graph.outputs[number])
    rank = len(graph.tensors[index].shape)
    order = [*range(rank - 2), rank - 1, rank - 2]
    turned = copy.copy(graph.tensors[index])
    turned.name = (turned.name or b"") + b"_turned"
    for field in ("shape", "shapeSignature"):
        if getattr(turned, field) is not None:
            setattr(turned, field, [int(getattr(turned, field)[axis]) for axis in order])
    axes = schema.TensorT()
    axes.name, axes.type, axes.shape, axes.buffer = b"axes_of_turning", INT32, [rank], 0
    graph.tensors += [turned, axes]
    _set(model, axes, np.array(order, "int32"))
    operator = schema.OperatorT()
    operator.opcodeIndex = _opcode(model, TRANSPOSE, 2 if is_quantized(turned) else 1)
    operator.inputs, operator.outputs = [index, len(graph.tensors) - 1], [len(graph.tensors) - 2]
    graph.operators.append(operator)
    graph.outputs = [len(graph.tensors) - 2 if n == number else int(kept) for n, kept in enumerate(graph.outputs)]
    for signature in model.signatureDefs or ():
        for entry in signature.outputs or ():
            if entry.tensorIndex == index and signature.subgraphIndex == 0:
                entry.tensorIndex = len(graph.tensors) - 2


def save(model: Any, path: Path) -> None:
    """Write the file."""
    write_model(path, model)


MUTATORS.register(
    Mutator(
        "tflite",
        Environment("tflite-mutants", ("numpy", "ai_edge_litert.schema_py_generated", "flatbuffers")),
        read_model,
        places,
        save,
    )
)
