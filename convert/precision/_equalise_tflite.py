"""Weight equalisation of TFLite graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats._tflite_precision import operator_kinds
from convert.formats.tflite import read_model, write_model
from convert.precision._equalise import LAST, MOVES, Linear, Passing, equalise, pairs

if TYPE_CHECKING:
    import numpy as np

#: Positively homogeneous on each value or each channel alone, where nothing else is fused into them.
PASSING = ("RELU", "LEAKY_RELU", "MAX_POOL_2D", "AVERAGE_POOL_2D")

#: Which axis of a layer's weights holds what it takes, and which what it gives.
AXES = {"CONV_2D": (3, 0), "DEPTHWISE_CONV_2D": (3, 3), "FULLY_CONNECTED": (1, 0)}


def write_equalised(base: Path, out: Path) -> int:
    """Write a float file with the channels between its layers scaled to like ranges; gives how many weights changed."""
    model = read_model(base)
    changed = equalised(model)
    write_model(out, model)
    return changed


def equalised(model: Any) -> int:
    """Scale a model's weights in place; gives how many arrays changed."""
    import numpy as np

    graph, kinds = model.subgraphs[0], operator_kinds(model)
    read = _Reader(model, graph)
    for operator in graph.operators or ():
        read.take(operator, kinds[operator.opcodeIndex])
    uses = Counter(str(index) for operator in graph.operators or () for index in operator.inputs)
    owners = Counter(tensor.buffer for each in model.subgraphs for tensor in each.tensors)
    found = [
        pair
        for pair in pairs(read.linears, read.passing, uses, [str(index) for index in graph.outputs])
        if all(uses[str(key)] == 1 and owners[graph.tensors[key].buffer] == 1 for key in pair.keys)
    ]
    changed = equalise(read.arrays, found)
    for key, array in changed.items():
        buffer = model.buffers[graph.tensors[key].buffer]
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    return len(changed)


class _Reader:
    """What of a graph's operators takes part; weights and biases are known by their tensors' indices."""

    def __init__(self, model: Any, graph: Any) -> None:
        self.model, self.graph = model, graph
        self.arrays: dict[Hashable, np.ndarray] = {}
        self.linears: list[Linear] = []
        self.passing: list[Passing] = []

    def take(self, operator: Any, kind: str) -> None:
        """Note an operator where it is a layer or lets scales pass."""
        if not len(operator.inputs) or not len(operator.outputs):
            return
        takes, gives = str(operator.inputs[0]), str(operator.outputs[0])
        if kind in AXES:
            self._layer(operator, kind, takes, gives)
        elif kind in PASSING and self._homogeneous(operator):
            self.passing.append(Passing(takes, gives))
        elif (kind == "MEAN" and self._keeps_channels(operator)) or kind == "RESHAPE":
            before, after = (self.graph.tensors[int(index)].shape for index in (operator.inputs[0], gives))
            if kind == "MEAN" and before[-1] == after[-1]:
                self.passing.append(Passing(takes, gives))
            elif kind == "RESHAPE" and len(before) > len(after) == 2 and _size(before[1:]) == after[1]:
                self.passing.append(Passing(takes, gives, becomes=LAST, flattens=True))
        elif kind == "TRANSPOSE" and tuple(self._integers(int(operator.inputs[1]))) in MOVES:
            self.passing.append(Passing(takes, gives, *MOVES[tuple(self._integers(int(operator.inputs[1])))]))

    def _layer(self, operator: Any, kind: str, takes: str, gives: str) -> None:
        indices = [int(index) for index in operator.inputs[1:] if index >= 0]
        if not all(self._constant(index) for index in indices):
            return
        weights, biases = indices[0], indices[1:]
        ins: int | None
        ins, outs = AXES[kind]
        if kind == "DEPTHWISE_CONV_2D" and operator.builtinOptions.depthMultiplier != 1:
            ins = None
        channels = self.arrays[weights].shape[outs]
        # A grouped convolution's weights hold the inputs of one group only.
        if kind == "CONV_2D" and self.arrays[weights].shape[3] != self.graph.tensors[int(takes)].shape[-1]:
            ins = None
        plain = all(self.arrays[index].size == channels for index in biases) and self._homogeneous(operator)
        # Zeros need no scale, and layers without a bias may share them.
        biases = [index for index in biases if self.arrays[index].any()]
        self.linears.append(Linear(takes, gives, weights, ins, outs if plain else None, tuple(biases)))

    def _constant(self, index: int) -> bool:
        """Read a tensor's values; gives whether it is a constant of float32."""
        import numpy as np
        from ai_edge_litert.schema_py_generated import TensorType

        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if tensor.type != TensorType.FLOAT32 or data is None or not len(data):
            return False
        self.arrays[index] = np.asarray(data, np.uint8).view(np.float32).reshape(tensor.shape)
        return True

    def _homogeneous(self, operator: Any) -> bool:
        """Whether what is fused into an operator is nothing or ReLU."""
        from ai_edge_litert.schema_py_generated import ActivationFunctionType as Fused

        fused = getattr(operator.builtinOptions, "fusedActivationFunction", Fused.NONE)
        return fused in (Fused.NONE, Fused.RELU)

    def _keeps_channels(self, operator: Any) -> bool:
        """Whether a mean is over neither the batch nor the last axis."""
        rank = len(self.graph.tensors[int(operator.inputs[0])].shape)
        axes = {axis % rank for axis in self._integers(int(operator.inputs[1]))}
        return bool(axes) and not axes & {0, rank - 1}

    def _integers(self, index: int) -> list[int]:
        """Give the numbers of a constant of int32; none where it is no constant."""
        import numpy as np

        data = self.model.buffers[self.graph.tensors[index].buffer].data
        return [] if data is None or not len(data) else np.asarray(data, np.uint8).view(np.int32).tolist()


def _size(shape: Any) -> int:
    size = 1
    for dim in shape:
        size *= int(dim)
    return size
