"""ONNX graphs made plain: constants computed once, batch normalization folded into the convolution before it.

Quantizers begin here, and so do the ideals that judge them: both see the same weights under the same names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convert.sources._onnx import STANDARD

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: Operators computed once where all they take is constant: what exporters put between a weight and its use.
COMPUTED = frozenset(
    {"Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Cast", "Concat", "Slice", "Gather"}
    | {"Dropout", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "Pow", "Exp"}
)

#: Convolutions, and the axis of their weights that output channels are on.
CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}


def fold(model: onnx.ModelProto, *, scalings: bool = True) -> None:
    """Turn, in place, what is constant into initializers and what scales a convolution's output into its weights.

    Names of values that stay are kept; a folded convolution has the name of what it took in. External data must have
    been read. `scalings` says whether the second is done at all.
    """
    _name_nodes(model.graph)
    _fold_constants(model)
    while scalings and _fold_scalings(model.graph):
        pass
    drop_unused(model.graph)


def _name_nodes(graph: Any) -> None:
    """Name every node of the outer graph after its first output, which is unique."""
    for node in graph.node:
        node.name = next((name for name in node.output if name), node.name)


def mentions(graph: Any) -> Counter[str]:
    """Count how often each value is read: by nodes, by nested graphs, as an output."""
    found = Counter(value.name for value in graph.output)
    for node in graph.node:
        found.update(name for name in node.input if name)
        for nested in nested_graphs(node):
            found.update(mentions(nested))
    return found


def nested_graphs(node: Any) -> Iterator[Any]:
    """Yield the graphs a node has as attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def constants(graph: Any) -> dict[str, onnx.TensorProto]:
    """Give the constants of the outer graph that callers cannot replace, by name."""
    inputs = {value.name for value in graph.input}
    return {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}


def drop_unused(graph: Any) -> None:
    """Remove, in place, nodes and initializers that nothing needs, and what is said of values that are gone."""
    read = mentions(graph)
    alive = []
    for node in reversed(graph.node):
        if any(read[name] for name in node.output if name):
            alive.append(node)
            continue
        read.subtract(name for name in node.input if name)
        for nested in nested_graphs(node):
            read.subtract(mentions(nested))
    replace_items(graph.node, alive[::-1])
    replace_items(graph.initializer, [tensor for tensor in graph.initializer if read[tensor.name]])
    there = {name for node in graph.node for name in node.output}
    replace_items(graph.value_info, [value for value in graph.value_info if value.name in there])


def replace_items(field: Any, wanted: list[Any]) -> None:
    """Make a repeated field hold `wanted`; copies first, because clearing takes the items themselves."""
    if len(field) == len(wanted) and all(old is new for old, new in zip(field, wanted, strict=True)):
        return
    copies = []
    for item in wanted:
        copy = type(item)()
        copy.CopyFrom(item)
        copies.append(copy)
    del field[:]
    field.extend(copies)


def _fold_constants(model: onnx.ModelProto) -> None:
    from onnx import numpy_helper

    graph = model.graph
    known = constants(graph)
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        foldable = node.domain in STANDARD and not outputs & set(node.output)
        if foldable and node.op_type == "Constant" and (tensor := _constant_of(node)) is not None:
            known[node.output[0]] = tensor
            graph.initializer.append(tensor)
        elif foldable and node.op_type in COMPUTED and node.input and all(n in known for n in node.input if n):
            inputs = {name: numpy_helper.to_array(known[name]) for name in node.input if name}
            tensor = numpy_helper.from_array(_computed(model, node, inputs), node.output[0])
            known[node.output[0]] = tensor
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    replace_items(graph.node, kept)


def _constant_of(node: Any) -> onnx.TensorProto | None:
    """Give what a Constant node holds as a tensor of its output's name; None for strings and sparse tensors."""
    import numpy as np
    import onnx

    (attribute,) = node.attribute
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    dtypes = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in dtypes:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return onnx.numpy_helper.from_array(np.asarray(value, dtypes[attribute.name]), node.output[0])


def _computed(model: onnx.ModelProto, node: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Compute one node of constants with the standard's own reference implementation."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    takes = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    gives = [onnx.helper.make_empty_tensor_value_info(node.output[0])]
    graph = onnx.helper.make_graph([node], "constant", takes, gives)
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    (array,) = ReferenceEvaluator(alone).run([node.output[0]], inputs)
    return np.ascontiguousarray(array).reshape(np.shape(array))


def _fold_scalings(graph: Any) -> bool:
    """Fold every scaling that directly follows a convolution once; say whether there was any."""
    from onnx import numpy_helper

    known, read = constants(graph), mentions(graph)
    made_by = {name: node for node in graph.node for name in node.output}
    gone = set()
    for index, node in enumerate(graph.node):
        before = made_by.get(node.input[0]) if node.input else None
        if before is None or before.op_type not in CONVOLUTIONS:
            before = made_by.get(node.input[1]) if len(node.input) == 2 else None
        if before is None or before.op_type not in CONVOLUTIONS or read[before.output[0]] != 1:
            continue
        if any(name not in known for name in before.input[1:] if name) or len(known[before.input[1]].dims) < 3:
            continue
        weights = numpy_helper.to_array(known[before.input[1]])
        groups = next((entry.i for entry in before.attribute if entry.name == "group"), 1)
        if weights.dtype != "float32" or (before.op_type == "ConvTranspose" and groups != 1):
            continue
        scaling = _scaling_of(node, before.output[0], known, weights.ndim, weights.shape[CONVOLUTIONS[before.op_type]])
        if scaling is None:
            continue
        bias = numpy_helper.to_array(known[before.input[2]]) if len(before.input) > 2 and before.input[2] else 0.0
        _scale(graph, before, weights, bias, scaling, node.output[0])
        gone.add(index)
    replace_items(graph.node, [node for index, node in enumerate(graph.node) if index not in gone])
    return bool(gone)


Scaling = tuple["np.ndarray", "np.ndarray"]  # what each channel is multiplied by, and what is added; float64


def _scaling_of(node: Any, value: str, known: dict[str, onnx.TensorProto], rank: int, channels: int) -> Scaling | None:
    """Read how a node scales the channels of `value`; None where it does something else."""
    import numpy as np
    from onnx import numpy_helper

    others = [name for name in node.input if name != value]
    if any(name not in known for name in others) or node.domain not in STANDARD:
        return None
    arrays = [numpy_helper.to_array(known[name]).astype(np.float64) for name in others]
    if node.op_type == "BatchNormalization" and len(node.output) == 1 and len(arrays) == 4:
        epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-5)
        gamma, beta, mean, variance = arrays
        factor = gamma / np.sqrt(variance + epsilon)
        return factor, beta - mean * factor
    if node.op_type not in ("Mul", "Add") or len(arrays) != 1:
        return None
    (array,) = arrays
    # Per channel, or one number for all: what broadcasts over the axis after the batch and over no other.
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or shape[1] not in (1, channels) or any(size != 1 for size in shape[2:] + shape[:1]):
        return None
    flat = np.broadcast_to(array.reshape(-1), (channels,))
    return (flat, np.zeros(channels)) if node.op_type == "Mul" else (np.ones(channels), flat)


def _scale(graph: Any, node: Any, weights: np.ndarray, bias: np.ndarray | float, scaling: Scaling, output: str) -> None:
    """Give a convolution scaled weights, a scaled bias and the output it has from now on."""
    import numpy as np
    from onnx import numpy_helper

    factor, added = scaling
    axis = CONVOLUTIONS[node.op_type]
    shape = tuple(-1 if place == axis else 1 for place in range(weights.ndim))
    scaled = (weights * factor.reshape(shape)).astype(np.float32)
    shifted = (bias * factor + added).astype(np.float32)
    names = f"{output}.folded_weight", f"{output}.folded_bias"
    graph.initializer.extend(map(numpy_helper.from_array, (scaled, shifted), names))
    source, stored = node.input[0], names
    del node.input[:]
    node.input.extend((source, *stored))
    node.output[0] = output
    node.name = output
