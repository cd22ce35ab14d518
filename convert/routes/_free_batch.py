"""Giving a TFLite file that was converted at one batch size a free one.

litert-torch cannot export a free batch (litert-torch#870, #685). Converted at an unusual prime batch size, the places
where the batch went into the graph are recognisable: axes of activations, constants of RESHAPE and SLICE,
constants with one equal row per case. Those are made free; a file where the batch went anywhere else is refused. Parity
over several batch sizes proves the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.errors import RouteError
from convert.formats.tflite import read_model, write_model
from convert.spec import Signature

#: Batch sizes to convert at: primes of which few other sizes, positions or paddings are multiples.
PRIMES = (37, 41, 43, 47, 53)

INT32 = 2  # TFLite's type number (schema.fbs, enum TensorType)


def recognisable_batch(signature: Signature) -> int:
    """Choose a batch size that no fixed dimension of the signature is a multiple of."""
    fixed = {dim for spec in (*signature.inputs, *signature.outputs) for dim in spec.shape if isinstance(dim, int)}
    for prime in PRIMES:
        if all(size % prime for size in fixed):
            return prime
    raise RouteError("no batch size can be told apart from this model's dimensions")


def free_batch(path: Path, batch: int) -> None:
    """Make the batch of a file that was converted at `batch` free, in place.

    Raises RouteError where the batch is part of something other than a leading axis, a reshape or a slice.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    model = read_model(path)
    if len(model.subgraphs) != 1:
        raise RouteError("the graph has loops or branches, whose bodies may hold the batch size")
    graph = model.subgraphs[0]
    constants = {index for index, tensor in enumerate(graph.tensors) if _data(model, tensor) is not None}
    done: set[int] = set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        for position, index in enumerate(operator.inputs):
            if index not in constants or index in done:
                continue
            tensor = graph.tensors[index]
            if tensor.type == INT32 and len(tensor.shape) == 1 and tensor.shape[0] != batch:
                begin: Any = None
                if kind == BuiltinOperator.SLICE and position == 2:
                    begin = _vector(model, graph.tensors[operator.inputs[1]])
                elif kind == BuiltinOperator.RESHAPE and position == 1:
                    begin = [0] * int(tensor.shape[0])
                changed = _free_vector(model, tensor, batch, begin)
            else:
                changed = _collapse(model, tensor, batch)
            if changed:
                done.add(index)
        if kind == BuiltinOperator.RESHAPE and operator.builtinOptions is not None:
            operator.builtinOptions.newShape = None
    _free_activations(graph, constants, batch)
    write_model(path, model)


def _free_vector(model: Any, tensor: Any, batch: int, begin: Any) -> bool:
    """Let a constant shape follow the batch: as the one open axis of a reshape, or of a slice that begins with it.

    `begin` is where the slice begins, zeros for a reshape, None for any other operator. Raises RouteError where the
    batch is in the constant in another way.
    """
    vector = _vector(model, tensor)
    axes = [axis for axis, size in enumerate(vector) if size > 0 and size % batch == 0]
    if not axes:
        return False
    if begin is None or len(axes) > 1 or -1 in vector or begin[axes[0]] != 0:
        raise RouteError(f"the batch size is part of a constant, {_name(tensor)}")
    vector[axes[0]] = -1
    _replace(model, tensor, vector)
    return True


def _collapse(model: Any, tensor: Any, batch: int) -> bool:
    """Shrink a constant that is equal for every case to a single one, which operators broadcast; parity proves they do.

    Raises RouteError where it differs.
    """
    import numpy as np

    shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
    if batch not in shape:
        return False
    axis = shape.index(batch)
    # Bytes of each element on a last axis, so that every dtype compares alike.
    values = np.frombuffer(bytes(_data(model, tensor)), np.uint8).reshape(*shape, -1)
    first = values.take([0], axis)
    if not (values == first).all():
        raise RouteError(f"the batch size is part of a constant, {_name(tensor)}")
    _replace(model, tensor, first)
    tensor.shape = np.array([1 if i == axis else size for i, size in enumerate(shape)], np.int32)
    return True


def _free_activations(graph: Any, constants: set[int], batch: int) -> None:
    """Declare the batch of all that is computed free; raises RouteError for an input or output without one."""
    import numpy as np

    for index, tensor in enumerate(graph.tensors):
        if index in constants or tensor.shape is None:
            continue
        shape = np.array(tensor.shape, np.int32)
        free = (shape > 0) & (shape % batch == 0)
        if free.any():
            tensor.shape = np.where(free, shape // batch, shape).astype(np.int32)
            tensor.shapeSignature = np.where(free, -1, shape).astype(np.int32)
    for index in (*graph.inputs, *graph.outputs):
        if graph.tensors[index].shapeSignature is None:
            raise RouteError(f"{_name(graph.tensors[index])} does not lead with the batch")


def _replace(model: Any, tensor: Any, values: Any) -> None:
    """Give a constant other values, in a buffer of its own: equal constants share one, and only this one is meant."""
    import numpy as np

    buffer = type(model.buffers[0])()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _vector(model: Any, tensor: Any) -> Any:
    """Give the values of a constant of int32 numbers, or None for what is computed."""
    import numpy as np

    data = _data(model, tensor)
    return None if data is None else np.frombuffer(bytes(data), np.int32).copy()


def _data(model: Any, tensor: Any) -> Any:
    """Give a constant's bytes, or None for what is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else data


def _name(tensor: Any) -> str:
    return str(tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name)[:80]
