"""Weights that ai-edge-quantizer leaves in float where weights alone are reduced: tables of rows, recurrent kernels."""

from __future__ import annotations

from typing import Any

from convert.formats._tflite_graph import Additions
from convert.formats._tflite_precision import operator_kinds
from convert.spec import FP16, INT4_WEIGHTS, INT8_DYNAMIC, INT8_WEIGHTS

#: The fewest numbers of a constant that are worth an operator to unpack them; TFLiteConverter's own bound.
FEWEST = 1024

#: The greatest number that half precision holds; a weight beyond it would become infinite.
LARGEST_FP16 = 65504.0


def store_rest(model: Any, precision: str, kept: frozenset[str]) -> None:
    """Reduce what is left in float, in place, but for the layers `kept`, by the names of what they compute."""
    for number in range(len(model.subgraphs)):
        if precision == FP16:
            _halve(model, number, kept)
        elif precision in (INT8_DYNAMIC, INT8_WEIGHTS, INT4_WEIGHTS):
            _gather_integers(model, number, kept)
    _forget(model)


def _forget(model: Any) -> None:
    """Drop the contents of constants that nothing reads any longer, in place."""
    used = {int(entry.buffer) for entry in model.metadata or ()}
    used |= set() if model.metadataBuffer is None else {int(number) for number in model.metadataBuffer}
    for graph in model.subgraphs:
        read = {int(index) for operator in graph.operators or () for index in operator.inputs}
        read |= {int(index) for index in graph.outputs}
        used |= {graph.tensors[index].buffer for index in read if index >= 0}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _halve(model: Any, number: int, kept: frozenset[str]) -> None:
    """Store large float constants as halves, unpacked once, as the tool and TFLiteConverter do for others."""
    import numpy as np

    added, graph = Additions(model, {}, number), model.subgraphs[number]
    for operator in _free(graph, kept):
        inputs = [int(index) for index in operator.inputs]
        for position, index in enumerate(inputs):
            values = _large(model, graph, index)
            if values is not None and np.abs(values).max() <= LARGEST_FP16:
                halves = added.constant(values.astype(np.float16))
                inputs[position] = added.add("DEQUANTIZE", [halves], values.shape, "float32")
        operator.inputs = inputs
    added.finish()


def _gather_integers(model: Any, number: int, kept: frozenset[str]) -> None:
    """Let GATHER take rows of an int8 table, which are unpacked after it; per-row scales it has no kernel for."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    added, graph = Additions(model, {}, number), model.subgraphs[number]
    kinds, ordered = operator_kinds(model), []
    given = {int(index) for index in graph.outputs}
    free = {id(operator) for operator in _free(graph, kept)}
    for operator in graph.operators or ():
        ordered.append(operator)
        table = int(operator.inputs[0]) if kinds[operator.opcodeIndex] == "GATHER" else -1
        values = _large(model, graph, table)
        if values is None or int(operator.outputs[0]) in given or id(operator) not in free:
            continue
        step = float(np.abs(values).max()) / 127
        if not 0 < step < np.inf:
            continue
        rows = int(operator.outputs[0])
        stored = added.constant(np.rint(values / np.float32(step)).astype(np.int8))
        operator.inputs = [stored, *map(int, operator.inputs[1:])]
        sizes = (
            graph.tensors[rows].shape
            if graph.tensors[rows].shapeSignature is None
            else graph.tensors[rows].shapeSignature
        )
        for index in (stored, rows):
            graph.tensors[index].type = schema.TensorType.INT8
            graph.tensors[index].quantization = schema.QuantizationParametersT()
            graph.tensors[index].quantization.scale, graph.tensors[index].quantization.zeroPoint = [step], [0]
        floats = added.add("DEQUANTIZE", [rows], [int(size) for size in sizes], "float32")
        for reader in graph.operators:
            reader.inputs = [floats if int(index) == rows else int(index) for index in reader.inputs]
        ordered.append(added.operators[-1])
    graph.operators = ordered


def _free(graph: Any, kept: frozenset[str]) -> list[Any]:
    return [
        operator
        for operator in graph.operators or ()
        if len(operator.outputs) and graph.tensors[int(operator.outputs[0])].name.decode() not in kept
    ]


def _large(model: Any, graph: Any, index: int) -> Any:
    """Give a float constant that is worth it, as an array; None for other tensors."""
    import numpy as np
    from ai_edge_litert.schema_py_generated import TensorType

    tensor = graph.tensors[index] if index >= 0 else None
    if tensor is None or tensor.type != TensorType.FLOAT32 or model.buffers[tensor.buffer].data is None:
        return None
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
    return values.reshape([int(size) for size in tensor.shape]) if values.size >= FEWEST else None
