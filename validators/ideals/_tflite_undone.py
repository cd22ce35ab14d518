"""A quantized TFLite file with its integer arithmetic undone, for want of the float one it was made of."""

from __future__ import annotations

from typing import Any

from convert.formats._tflite_precision import is_quantized, operator_kinds
from validators.ideals._tflite_numbers import is_constant, numbers, stored, write_floats

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def undo(model: Any) -> None:
    """Turn every quantized tensor into floats and take out the conversions between both, in place."""
    from ai_edge_litert.schema_py_generated import TensorType

    kinds = operator_kinds(model)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            how = stored(tensor)
            if how is not None and is_constant(model, tensor):
                write_floats(model, tensor, how.meant(numbers(model, tensor, how)))
            elif how is not None and (is_quantized(tensor) or tensor.type == TensorType.FLOAT16):
                tensor.type, tensor.quantization = TensorType.FLOAT32, None
        instead: dict[int, int] = {}
        kept = []
        for operator in graph.operators or ():
            operator.inputs = [instead.get(int(index), int(index)) for index in operator.inputs]
            if kinds[operator.opcodeIndex] in CONVERSIONS:
                instead[int(operator.outputs[0])] = operator.inputs[0]
            else:
                kept.append(operator)
        graph.operators = kept
        graph.outputs = [instead.get(int(index), int(index)) for index in graph.outputs]
        for definition in model.signatureDefs or ():
            for entry in definition.outputs if model.subgraphs[definition.subgraphIndex] is graph else ():
                entry.tensorIndex = instead.get(entry.tensorIndex, entry.tensorIndex)
