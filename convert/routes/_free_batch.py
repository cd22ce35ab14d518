"""Giving a TFLite file that was converted at one batch size a free one.

litert-torch cannot export a free batch (litert-torch#870, #685). Converted at an unusual prime batch size, the places
where the batch went into the graph are recognisable: leading axes of activations, and constants of RESHAPE. Those are
made free; a file where the batch went anywhere else is refused. Parity over several batch sizes proves the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.errors import RouteError
from convert.formats.tflite import read_model, write_model
from convert.spec import Signature

#: Batch sizes to convert at: primes large enough not to be a kernel size or a stride.
PRIMES = (7, 11, 13, 17, 19, 23)


def recognisable_batch(signature: Signature) -> int:
    """Choose a batch size that no fixed dimension of the signature is a multiple of."""
    fixed = {dim for spec in (*signature.inputs, *signature.outputs) for dim in spec.shape if isinstance(dim, int)}
    for prime in PRIMES:
        if all(size % prime for size in fixed):
            return prime
    raise RouteError("no batch size can be told apart from this model's dimensions")


def free_batch(path: Path, batch: int) -> None:
    """Make the batch of a file that was converted at `batch` free, in place.

    Raises RouteError where the batch is part of something other than a leading axis or a reshape.
    """
    import numpy as np
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    model = read_model(path)
    if len(model.subgraphs) != 1:
        raise RouteError("the graph has loops or branches, whose bodies may hold the batch size")
    graph = model.subgraphs[0]
    constants = {i for i, tensor in enumerate(graph.tensors) if _data(model, tensor) is not None}
    freed: set[int] = set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        for position, index in enumerate(operator.inputs):
            if index not in constants:
                continue
            tensor = graph.tensors[index]
            if tensor.type == 2 and len(tensor.shape) == 1:  # int32 vectors: shapes, paddings, permutations
                vector = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int32).copy()
                if not _holds(vector, batch) or index in freed:
                    continue
                if kind != BuiltinOperator.RESHAPE or position != 1 or not _leads(vector, batch):
                    raise RouteError(f"the batch size is part of a constant, {_name(tensor)}")
                vector[0] = -1
                # NOTE: Why a buffer of its own: equal constants share one, and only this reshape is meant.
                buffer = type(model.buffers[0])()
                buffer.data = np.frombuffer(vector.tobytes(), np.uint8)
                model.buffers.append(buffer)
                tensor.buffer = len(model.buffers) - 1
                freed.add(index)
            elif len(tensor.shape) and tensor.shape[0] == batch:
                raise RouteError(f"the batch size is part of a constant, {_name(tensor)}")
        if kind == BuiltinOperator.RESHAPE and operator.builtinOptions is not None:
            operator.builtinOptions.newShape = None
    for index, tensor in enumerate(graph.tensors):
        if index in constants or tensor.shape is None or not len(tensor.shape) or tensor.shape[0] % batch:
            continue
        shape = np.array(tensor.shape, np.int32)
        shape[0] //= batch
        tensor.shape = shape
        tensor.shapeSignature = shape.copy()
        tensor.shapeSignature[0] = -1
    for index in (*graph.inputs, *graph.outputs):
        if graph.tensors[index].shapeSignature is None:
            raise RouteError(f"{_name(graph.tensors[index])} does not lead with the batch")
    write_model(path, model)


def _holds(vector: Any, batch: int) -> bool:
    return bool(((vector > 0) & (vector % batch == 0)).any())


def _leads(vector: Any, batch: int) -> bool:
    """Whether the batch, or a multiple of it, is the first entry and only there."""
    return bool(vector[0] > 0 and vector[0] % batch == 0 and not _holds(vector[1:], batch) and (vector != -1).all())


def _data(model: Any, tensor: Any) -> Any | None:
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else data


def _name(tensor: Any) -> str:
    return str(tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name)[:80]
