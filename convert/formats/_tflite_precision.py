"""What precision a TFLite file is of, as the types of its tensors and the operators that read them tell."""

from __future__ import annotations

from typing import Any

from convert.spec import FP16, FP32, INT4_WEIGHTS, INT8, INT8_DYNAMIC, INT8_WEIGHTS, INT16X8

#: Operators that move or convert numbers: quantized tensors around them make no integer arithmetic.
MOVES = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", "GATHER", "EMBEDDING_LOOKUP", "RESHAPE", "SQUEEZE", "TRANSPOSE"})


def precision_of(model: Any) -> str:
    """Name the precision of a file's object tree: that of its activations where they are quantized, else its weights'.

    A file in which layers are kept in a finer precision is of the coarsest it has.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    computed, direct, unpacked = _types(model)
    if computed & {TensorType.INT8, TensorType.UINT8}:
        return INT8
    if TensorType.INT16 in computed:
        return INT16X8
    if direct & {TensorType.INT8, TensorType.UINT8}:
        return INT8_DYNAMIC
    if TensorType.INT4 in direct | unpacked:
        return INT4_WEIGHTS
    if unpacked & {TensorType.INT8, TensorType.UINT8}:
        return INT8_WEIGHTS
    return FP16 if TensorType.FLOAT16 in computed | unpacked else FP32


def _types(model: Any) -> tuple[set[int], set[int], set[int]]:
    """Give the types of what operators compute, of the constants they compute with, and of those they only unpack.

    Integers without a scale are numbers in their own right and are left out.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    kinds = operator_kinds(model)
    computed: set[int] = set()
    direct: set[int] = set()
    unpacked: set[int] = set()
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            kind = kinds[operator.opcodeIndex]
            for index in operator.outputs:
                tensor = graph.tensors[index]
                if kind not in MOVES and (is_quantized(tensor) or tensor.type == TensorType.FLOAT16):
                    computed.add(tensor.type)
            for index in operator.inputs if operator.inputs is not None else ():
                tensor = graph.tensors[index]
                if index < 0 or model.buffers[tensor.buffer].data is None:
                    continue
                if is_quantized(tensor) or tensor.type == TensorType.FLOAT16:
                    (unpacked if kind in MOVES else direct).add(tensor.type)
    return computed, direct, unpacked


def operator_kinds(model: Any) -> list[str]:
    """Name the operators of a file's table of codes, by index."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = {value: key for key, value in vars(BuiltinOperator).items() if isinstance(value, int)}
    return [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]


def is_quantized(tensor: Any) -> bool:
    """Whether a tensor's numbers stand for others by a scale; float tables may carry ranges, and no scale."""
    details = tensor.quantization
    if details is None:
        return False
    return details.details is not None or (details.scale is not None and len(details.scale) > 0)
