"""Weight equalisation of ONNX graphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats.onnx import graphs, read_model, write_model
from convert.precision._equalise import FIRST, LAST, MOVES, Linear, Passing, equalise, pairs
from convert.sources._onnx import STANDARD

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: Positively homogeneous on each value alone, and those on each channel's plane alone.
ELEMENTWISE = ("Relu", "LeakyRelu", "Identity", "Dropout")
PLANES = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")


def write_equalised(base: Path, out: Path) -> int:
    """Write a float file with the channels between its layers scaled to like ranges; gives how many weights changed."""
    model = read_model(base)
    changed = equalised(model)
    write_model(out, model)
    return changed


def equalised(model: onnx.ModelProto) -> int:
    """Scale a model's weights in place; gives how many arrays changed."""
    from onnx import numpy_helper

    uses = Counter(name for graph in graphs(model.graph) for node in graph.node for name in node.input)
    read = _Reader(model, uses)
    for node in model.graph.node:
        read.take(node)
    outputs = [value.name for value in model.graph.output]
    found = list(pairs(read.linears, read.passing, uses, outputs))
    # Weights that two layers of the pairs share are found by `equalise`; what something else reads too is found here.
    once = [pair for pair in found if all(uses[str(key)] == 1 for key in pair.keys)]
    arrays = {key: read.numbers(str(key)) for pair in once for key in pair.keys}
    changed = equalise(arrays, once)
    for name, tensor in _constants(model.graph).items():
        if name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[name], tensor.name))
    return len(changed)


def _constants(graph: Any) -> dict[str, Any]:
    """Give the constant tensors of the main graph by the names that nodes read them by."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD:
            found.update((node.output[0], entry.t) for entry in node.attribute if entry.name == "value")
    return found


def _attribute(node: Any, name: str, default: Any) -> Any:
    import onnx

    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def _sizes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Give the sizes of the main graph's values as far as they are known; 0 for a free one."""
    import onnx
    from google.protobuf.message import EncodeError

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, EncodeError):  # the latter of one that is over 2 GB
        graph = model.graph
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


class _Reader:
    """What of a graph's nodes takes part."""

    def __init__(self, model: onnx.ModelProto, uses: Counter[str]) -> None:
        self.tensors = _constants(model.graph)
        self.sizes = _sizes(model)
        self.uses = uses
        self.readers = {name: node for node in model.graph.node for name in node.input}
        self.linears: list[Linear] = []
        self.passing: list[Passing] = []

    def numbers(self, name: str) -> np.ndarray:
        """Give a constant's numbers."""
        from onnx import numpy_helper

        found: np.ndarray = numpy_helper.to_array(self.tensors[name])
        return found

    def array(self, name: str) -> np.ndarray | None:
        """Give a constant's numbers, or None where it is none."""
        return self.numbers(name) if name in self.tensors else None

    def take(self, node: Any) -> None:
        """Note a node where it is a layer or lets scales pass."""
        if node.domain not in STANDARD:
            return
        kind = node.op_type
        if kind in ("Conv", "ConvTranspose"):
            self._convolution(node)
        elif kind in ("Gemm", "MatMul"):
            self._product(node)
        elif kind in ELEMENTWISE or kind in PLANES:
            self.passing.append(Passing(node.input[0], node.output[0], FIRST if kind in PLANES else ""))
        elif kind == "Transpose" and tuple(_attribute(node, "perm", ())) in MOVES:
            self.passing.append(Passing(node.input[0], node.output[0], *MOVES[tuple(_attribute(node, "perm", ()))]))
        elif kind in ("Flatten", "Reshape", "Squeeze"):
            rank, after = (len(self.sizes.get(name, ())) for name in (node.input[0], node.output[0]))
            if rank > 2 and after == 2 and self._keeps_batch(node):
                self.passing.append(Passing(node.input[0], node.output[0], becomes=LAST, flattens=True))

    def _keeps_batch(self, node: Any) -> bool:
        """Whether all axes but the batch are merged, in their order."""
        if node.op_type == "Flatten":
            return bool(_attribute(node, "axis", 1) == 1)
        before, after = (self.sizes[name] for name in (node.input[0], node.output[0]))
        size = 1
        for dim in before[1:]:
            if not dim:
                return False
            size *= dim
        return after[1] == size

    def _convolution(self, node: Any) -> None:
        weights = self.array(node.input[1])
        if weights is None:
            return
        groups = _attribute(node, "group", 1)
        turned = node.op_type == "ConvTranspose"
        if groups == 1:
            ins, outs = (0, 1) if turned else (1, 0)
        elif not turned and groups == weights.shape[0] and weights.shape[1] == 1:
            ins = outs = 0
        else:
            return
        self._add(node.input[0], node.output[0], node.input[1], ins, outs, list(node.input[2:]), FIRST)

    def _product(self, node: Any) -> None:
        weights = self.array(node.input[1])
        if weights is None or weights.ndim != 2 or _attribute(node, "transA", 0):
            return
        ins, outs = (1, 0) if _attribute(node, "transB", 0) else (0, 1)
        gives, biases = node.output[0], list(node.input[2:])
        after = self.readers.get(gives)
        if node.op_type == "MatMul" and after is not None and after.op_type == "Add" and self.uses[gives] == 1:
            other = next((name for name in after.input if name != gives), "")
            if other in self.tensors:
                gives, biases = after.output[0], [other]
        self._add(node.input[0], gives, node.input[1], ins, outs, biases, LAST)

    def _add(self, takes: str, gives: str, weights: str, ins: int, outs: int, biases: list[str], along: str) -> None:
        channels = self.tensors[weights].dims[outs]
        biases = [name for name in biases if name]
        plain = all(self._is_bias(name, channels) for name in biases)
        # Zeros need no scale, and layers without a bias may share them.
        biases = [name for name in biases if not plain or self.numbers(name).any()]
        self.linears.append(Linear(takes, gives, weights, ins, outs if plain else None, tuple(biases), along))

    def _is_bias(self, name: str, channels: int) -> bool:
        values = self.array(name)
        return values is not None and values.size == channels and values.shape[-1] == channels
