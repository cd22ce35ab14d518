"""Products with constant weights in a TFLite file as fully connected layers, with their bias and activation inside.

onnx2tf writes the linear layer of a sequence as BATCH_MATMUL and ADD: two passes over the data, and a form that XNNPACK
cannot resize where the length is computed. FULLY_CONNECTED that keeps its dimensions is the same in one operator.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

#: The operator's versions (tflite/tools/versioning/op_version.cc): one that keeps dimensions, one that has no bias.
KEEPS_DIMENSIONS, NO_BIAS = 5, 6

FLOAT32 = 0  # TFLite's type number (schema.fbs, enum TensorType)


def connect_fully(model: Any) -> int:
    """Rewrite the products of a model in place, and say how many there were."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    kinds = schema.BuiltinOperator
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    readers = Counter(int(index) for operator in graph.operators for index in operator.inputs)
    readers.update(int(index) for index in graph.outputs)
    done = 0
    for operator in list(graph.operators):
        if codes[operator.opcodeIndex] != kinds.BATCH_MATMUL:
            continue
        weights = _weights(model, operator)
        if weights is None:
            continue
        added = _bias(model, operator, codes, kinds.ADD, readers, weights.shape[0])
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        bias = -1
        if added is not None:
            addition, bias = added
            options.fusedActivationFunction = addition.builtinOptions.fusedActivationFunction
            operator.outputs = addition.outputs
            graph.operators.remove(addition)
        operator.inputs = [int(operator.inputs[0]), _constant(model, operator.inputs[1], weights), bias]
        operator.opcodeIndex = _code(schema, model, NO_BIAS if bias < 0 else KEEPS_DIMENSIONS)
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = options
        done += 1
    return done


def _weights(model: Any, operator: Any) -> Any:
    """Give the constant a product is with, one row per output; None where it is computed or no float matrix."""
    import numpy as np

    graph, options = model.subgraphs[0], operator.builtinOptions
    tensor = graph.tensors[operator.inputs[1]]
    data = model.buffers[tensor.buffer].data
    matrix = tensor.type == FLOAT32 and tensor.shape is not None and len(tensor.shape) == 2
    if data is None or len(data) == 0 or not matrix or (options is not None and options.adjX):
        return None
    given = graph.tensors[operator.inputs[0]]
    if given.shape is None or len(given.shape) < 2:
        return None
    values = np.frombuffer(bytes(data), np.float32).reshape([int(size) for size in tensor.shape])
    return values if options is not None and options.adjY else np.ascontiguousarray(values.T)


def _bias(
    model: Any, operator: Any, codes: list[int], add: int, readers: Counter[int], outputs: int
) -> tuple[Any, int] | None:
    """Find the only reader of a product where it adds a constant per output; give it and that constant's tensor."""
    graph = model.subgraphs[0]
    made = int(operator.outputs[0])
    if readers[made] != 1:
        return None
    reader = next((item for item in graph.operators if made in [int(index) for index in item.inputs]), None)
    if reader is None or codes[reader.opcodeIndex] != add:
        return None
    (other,) = [int(index) for index in reader.inputs if int(index) != made] or (made,)
    tensor = graph.tensors[other]
    data = model.buffers[tensor.buffer].data
    sizes = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    per_output = sizes[-1:] == [outputs] and all(size == 1 for size in sizes[:-1])
    if data is None or len(data) == 0 or tensor.type != FLOAT32 or not per_output:
        return None
    return reader, _constant(model, other, _values(data))


def _values(data: Any) -> Any:
    import numpy as np

    return np.frombuffer(bytes(data), np.float32)


def _constant(model: Any, like: int, values: Any) -> int:
    """Add a constant named after another one, and give its tensor."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name = model.subgraphs[0].tensors[like].name
    tensor.type, tensor.shape, tensor.buffer = FLOAT32, np.array(values.shape, np.int32), len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _code(schema: Any, model: Any, version: int) -> int:
    """Give the place of the operator in the model's table, of at least the version that is needed."""
    kind = schema.BuiltinOperator.FULLY_CONNECTED
    for place, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
            code.version = max(code.version, version)
            return place
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
