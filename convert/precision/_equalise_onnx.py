"""Weight equalisation of ONNX graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats.onnx import read_model, write_model
from convert.precision._equalise import FIRST, LAST, Linear, Passing, equalise, pairs
from convert.rewrites._graph import attribute, constants, graphs, sizes
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
    keys = {key for pair in found for key in (pair.first.weights, *pair.first.biases, pair.second.weights)}
    # The same key in two roles is found by `equalise`; one that something else reads too is found here.
    arrays: dict[Hashable, np.ndarray] = {key: read.constants[str(key)] for key in keys}
    once = [
        pair
        for pair in found
        if all(uses[str(k)] == 1 for k in (pair.first.weights, *pair.first.biases, pair.second.weights))
    ]
    changed = equalise(arrays, once)
    for tensor in _tensors(model):
        if tensor[0] in changed:
            tensor[1].CopyFrom(numpy_helper.from_array(changed[tensor[0]], tensor[1].name))
    return len(changed)


def _tensors(model: onnx.ModelProto) -> list[tuple[str, Any]]:
    """List the constants of the main graph with the names that nodes read them by."""
    found: list[tuple[str, Any]] = [(tensor.name, tensor) for tensor in model.graph.initializer]
    for node in model.graph.node:
        if node.op_type == "Constant":
            found += [(node.output[0], entry.t) for entry in node.attribute if entry.name == "value"]
    return found


class _Reader:
    """What of a graph's nodes takes part."""

    def __init__(self, model: onnx.ModelProto, uses: Counter[str]) -> None:
        self.constants = constants(model.graph)
        self.sizes = sizes(model)
        self.uses = uses
        self.readers = {name: node for node in model.graph.node for name in node.input}
        self.linears: list[Linear] = []
        self.passing: list[Passing] = []

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
        elif kind in ("Flatten", "Reshape", "Squeeze"):
            rank, after = (len(self.sizes.get(name, ())) for name in (node.input[0], node.output[0]))
            if rank > 2 and after == 2 and self._keeps_batch(node):
                self.passing.append(Passing(node.input[0], node.output[0], FIRST, LAST))

    def _keeps_batch(self, node: Any) -> bool:
        """Whether all axes but the batch are merged, in their order."""
        if node.op_type == "Flatten":
            return bool(attribute(node, "axis", 1) == 1)
        before, after = (self.sizes[name] for name in (node.input[0], node.output[0]))
        size = 1
        for dim in before[1:]:
            if not dim:
                return False
            size *= dim
        return after[1] == size

    def _convolution(self, node: Any) -> None:
        weights = self.constants.get(node.input[1])
        if weights is None:
            return
        groups = attribute(node, "group", 1)
        turned = node.op_type == "ConvTranspose"
        if groups == 1:
            ins, outs = (0, 1) if turned else (1, 0)
        elif not turned and groups == weights.shape[0] and weights.shape[1] == 1:
            ins = outs = 0
        else:
            return
        self._add(node.input[0], node.output[0], node.input[1], ins, outs, list(node.input[2:]), FIRST)

    def _product(self, node: Any) -> None:
        weights = self.constants.get(node.input[1])
        if weights is None or weights.ndim != 2 or attribute(node, "transA", 0):
            return
        ins, outs = (1, 0) if attribute(node, "transB", 0) else (0, 1)
        gives, biases = node.output[0], list(node.input[2:])
        after = self.readers.get(gives)
        if node.op_type == "MatMul" and after is not None and after.op_type == "Add" and self.uses[gives] == 1:
            other = next((name for name in after.input if name != gives), "")
            if other in self.constants:
                gives, biases = after.output[0], [other]
        self._add(node.input[0], gives, node.input[1], ins, outs, biases, LAST)

    def _add(self, takes: str, gives: str, weights: str, ins: int, outs: int, biases: list[str], along: str) -> None:
        channels = self.constants[weights].shape[outs]
        biases = [name for name in biases if name]
        plain = all(self._is_bias(name, channels) for name in biases)
        self.linears.append(Linear(takes, gives, weights, ins, outs if plain else None, tuple(biases), along))

    def _is_bias(self, name: str, channels: int) -> bool:
        values = self.constants.get(name)
        return values is not None and values.size == channels and values.shape[-1] == channels
