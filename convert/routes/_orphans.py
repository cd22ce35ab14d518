"""Tensors that onnx2tf reads and never computes, computed again from what it made of them.

Its layout passes may give a value to its readers as channels last and forget one reader, which then has a tensor that
nothing writes: EdgeNeXt's splits, for one. The file still loads and fails when it runs. The report that onnx2tf writes
beside it has the names each value went through, and one of them is the same value in the other layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from convert.errors import RouteError
from convert.formats.tflite import read_model, write_model

#: Channels last to channels first, by rank.
FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


def names_of(report: Path) -> dict[str, list[str]]:
    """Read from onnx2tf's report the names that each value of the ONNX graph went through."""
    records = msgspec.json.decode(report.read_bytes())["records"]
    return {record["onnx_output_name"]: list(record["rewrite_name_chain"]) for record in records}


def adopt(path: Path, names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Compute the orphans of a file from the values they stand for, in place; one sentence for what was done.

    Raises RouteError, naming it, for an orphan whose value is not found.
    """
    model = read_model(path)
    graph = model.subgraphs[0]
    done = []
    for orphan in orphans(model):
        name = _name(graph.tensors[orphan])
        twins = [twin for other in names.get(name, ()) for twin in _twins(model, orphan, other)]
        if not twins:
            raise RouteError(f"onnx2tf's file reads {name}, which nothing in it computes")
        _transpose(model, twins[0], orphan)
        done.append(name)
    if not done:
        return ()
    write_model(path, model)
    return (f"values that onnx2tf lost between two layouts are computed again ({', '.join(done)})",)


def orphans(model: Any) -> list[int]:
    """List the tensors that operators read and nothing writes, in the order they are read."""
    graph = model.subgraphs[0]
    written = {int(index) for operator in graph.operators for index in operator.outputs}
    written |= {int(index) for index in graph.inputs}
    found: dict[int, None] = {}
    for operator in graph.operators:
        for index in map(int, operator.inputs):
            if index < 0 or index in written or graph.tensors[index].isVariable:
                continue
            tensor = graph.tensors[index]
            data = model.buffers[tensor.buffer].data
            empty = tensor.shape is not None and 0 in [int(size) for size in tensor.shape]
            if (data is None or len(data) == 0) and not empty:
                found[index] = None
    return list(found)


def _twins(model: Any, orphan: int, name: str) -> list[int]:
    """Find computed tensors of a name that have the orphan's sizes with channels last."""
    graph = model.subgraphs[0]
    shape = [int(size) for size in graph.tensors[orphan].shape]
    order = FIRST.get(len(shape))
    if order is None:
        return []
    written = {int(index) for operator in graph.operators for index in operator.outputs}
    return [
        index
        for index in sorted(written - {orphan})
        if _name(graph.tensors[index]) == name
        and len(graph.tensors[index].shape) == len(shape)
        # The first axis is left out: it is 1 where onnx2tf forgot the tensor before it knew the batch.
        and [int(graph.tensors[index].shape[axis]) for axis in order][1:] == shape[1:]
    ]


def _transpose(model: Any, twin: int, orphan: int) -> None:
    """Write the orphan from its twin, right after that is computed, with the twin's sizes."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    order = FIRST[len(graph.tensors[twin].shape)]
    for side in ("shape", "shapeSignature"):
        sizes = getattr(graph.tensors[twin], side)
        setattr(graph.tensors[orphan], side, None if sizes is None else np.array([sizes[a] for a in order], np.int32))
    buffer, axes, operator = schema.BufferT(), schema.TensorT(), schema.OperatorT()
    buffer.data = np.frombuffer(np.array(order, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    axes.name, axes.type = f"{_name(graph.tensors[orphan])}_order".encode(), schema.TensorType.INT32
    axes.shape, axes.buffer = np.array([len(order)], np.int32), len(model.buffers) - 1
    graph.tensors.append(axes)
    operator.opcodeIndex = _code(schema, model)
    operator.inputs, operator.outputs = [twin, len(graph.tensors) - 1], [orphan]
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    operator.builtinOptions = schema.TransposeOptionsT()
    writer = next(at for at, item in enumerate(graph.operators) if twin in [int(index) for index in item.outputs])
    graph.operators = [*graph.operators[: writer + 1], operator, *graph.operators[writer + 1 :]]


def _code(schema: Any, model: Any) -> int:
    """Give the operator's place in the model's table."""
    kind = schema.BuiltinOperator.TRANSPOSE
    for place, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
            return place
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _name(tensor: Any) -> str:
    return tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
