"""Initial states of recurrent layers that are zeros of a computed size left out, which means the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import DOMAINS, attribute, constants, counted, graphs

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: Operators that only move or repeat what is in their first input.
MOVES = ("Expand", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Cast", "Gather")

#: Where recurrent operators take their initial states.
STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Leave out every initial state that is zero whatever the model is given."""
    done: list[str] = []
    for graph in graphs(model.graph):
        known = constants(graph)
        makers = {name: node for node in graph.node for name in node.output}
        for node in graph.node:
            if node.op_type not in STATES or node.domain not in DOMAINS:
                continue
            places = [place for place in STATES[node.op_type] if place < len(node.input) and node.input[place]]
            zero = [place for place in places if is_zero(node.input[place], known, makers)]
            for place in zero:
                node.input[place] = ""
            while node.input and not node.input[-1]:
                del node.input[-1]
            if zero:
                done.append(node.name or node.output[0])
    return (f"Initial states of zeros left out ({counted(done)})",) if done else ()


def is_zero(name: str, known: dict[str, np.ndarray], makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a value is zero everywhere, seen from how it is made."""
    import numpy as np
    from onnx import numpy_helper

    while name not in known:
        node = makers.get(name)
        if node is None or node.domain not in DOMAINS:
            return False
        if node.op_type == "ConstantOfShape":
            value = attribute(node, "value")
            return value is None or not np.any(numpy_helper.to_array(value))
        if node.op_type == "Concat":
            return all(is_zero(part, known, makers) for part in node.input)
        if node.op_type not in MOVES:
            return False
        name = node.input[0]
    return not np.any(known[name])


REWRITES.register(
    Rewrite(
        name="zero-states",
        title="no initial state instead of zeros",
        why="exporters expand zeros to the batch; onnx2tf unrolls an LSTM with a computed state and refuses a GRU",
        rank=30,
        apply=apply,
        serves=("onnx2tf",),
    )
)
