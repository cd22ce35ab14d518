"""LSTM layers that begin every call with a step that empties their state.

TFLite's fused LSTM kernel keeps its state from one call to the next, so the second call of a file differs from the
first unless the app resets it. One step before the sequence, marked by a feature of its own that shuts every gate,
leaves exactly zeros behind whatever was there: the fused kernel, and the same answer every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import DOMAINS, Names, add_constant, attribute, counted, replace_nodes

if TYPE_CHECKING:
    import onnx

#: What shuts a gate: its sigmoid is 0 in every precision, whatever the weights and inputs add to it.
SHUT = -1e4

#: The gates' and the cell's functions: a gate that is no sigmoid is not shut by a large number.
USUAL = [b"Sigmoid", b"Tanh", b"Tanh"]

#: Inputs of ONNX's LSTM that change what a step does.
LENGTHS, PEEPHOLES = 4, 7


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Rewrite every LSTM without an initial state whose batch is known."""
    if not any(node.op_type == "LSTM" for node in model.graph.node):
        return ()
    names = Names(model)
    sizes = fixed_sizes(model)

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "LSTM" or node.domain not in DOMAINS or not is_plain(node):
            return None
        sequence, weights = (sizes.get(node.input[position], ()) for position in (0, 1))
        if len(sequence) != 3 or len(weights) != 3 or not all((sequence[1], *weights)):
            return None
        return reset(model.graph, node, names, sequence[1], weights)

    done = replace_nodes(model.graph, replace)
    return (f"LSTM layers begin with a step that empties their state ({counted(done)})",) if done else ()


def fixed_sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Give the sizes of the main graph's values, 0 where one is not fixed."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
    } | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def is_plain(node: onnx.NodeProto) -> bool:
    """Whether a layer does what the rewrite relies on: usual gates, zero states to begin with, no final cell state."""
    given = [position for position, name in enumerate(node.input) if name]
    activations = attribute(node, "activations", USUAL)
    changed = attribute(node, "clip") is not None or list(activations) != USUAL * (len(activations) // len(USUAL))
    batch_first = attribute(node, "layout", 0)
    cells = len(node.output) > 2 and bool(node.output[2]) and attribute(node, "direction", b"forward") != b"forward"
    return not changed and not batch_first and not cells and not any(p >= LENGTHS for p in given)


def reset(
    graph: onnx.GraphProto, node: onnx.NodeProto, names: Names, batch: int, sizes: tuple[int, ...]
) -> list[onnx.NodeProto]:
    """Give the nodes of a layer that begins with the step, and where it runs backwards ends with one.

    `sizes` are those of its weights, which may be computed: exporters put large ones together in the graph.
    """
    import numpy as np
    import onnx

    make = onnx.helper.make_node
    directions, gates, features = sizes
    hidden = gates // 4
    base = node.name or node.output[0]
    column = np.full((directions, gates, 1), SHUT, np.float32)
    column[:, 3 * hidden :] = 0  # input, output and forget gates are shut; the cell's candidate is not a gate
    step = np.zeros((1, batch, features + 1), np.float32)
    step[:, :, features] = 1
    direction = attribute(node, "direction", b"forward").decode()
    before, after = direction != "reverse", direction != "forward"
    marked, padded, longer = (names.new(f"{base}_{part}") for part in ("marked", "with_reset", "states"))
    pads = add_constant(graph, names.new(f"{base}_pads"), np.array([0, 0, 0, 0, 0, 1], np.int64))
    mark = add_constant(graph, names.new(f"{base}_reset"), step)
    wider, shut = names.new(f"{base}_weights"), add_constant(graph, names.new(f"{base}_shut"), column)
    parts = [*([mark] if before else []), marked, *([mark] if after else [])]
    layer = type(node).FromString(node.SerializeToString())
    layer.input[0], layer.input[1] = padded, wider
    layer.output[0] = longer
    starts = add_constant(graph, names.new(f"{base}_starts"), np.array([int(before)], np.int64))
    ends = add_constant(graph, names.new(f"{base}_ends"), np.array([-1 if after else np.iinfo(np.int64).max], np.int64))
    axes = add_constant(graph, names.new(f"{base}_axes"), np.array([0], np.int64))
    nodes = [
        make("Pad", [node.input[0], pads], [marked], name=names.new(f"{base}_mark")),
        make("Concat", parts, [padded], name=names.new(f"{base}_begin"), axis=0),
        make("Concat", [node.input[1], shut], [wider], name=names.new(f"{base}_widen"), axis=2),
        layer,
    ]
    whole = node.output[0] or names.new(f"{base}_whole")
    nodes.append(make("Slice", [longer, starts, ends, axes], [whole], name=names.new(f"{base}_real")))
    if after and len(node.output) > 1 and node.output[1]:
        nodes += last_states(graph, layer, names, whole, directions, node.output[1])
    return nodes


def last_states(
    graph: onnx.GraphProto, layer: onnx.NodeProto, names: Names, whole: str, directions: int, wanted: str
) -> list[onnx.NodeProto]:
    """Take the final hidden states from the sequence: the step at its end has emptied those of the layer itself."""
    import numpy as np
    import onnx

    make = onnx.helper.make_node
    base = layer.name or wanted
    layer.output[1] = ""
    zero = add_constant(graph, names.new(f"{base}_first"), np.array(0, np.int64))
    if directions == 1:
        return [make("Gather", [whole, zero], [wanted], name=names.new(f"{base}_last"), axis=0)]
    last = add_constant(graph, names.new(f"{base}_end"), np.array(-1, np.int64))
    halves = add_constant(graph, names.new(f"{base}_halves"), np.array([1, 1], np.int64))
    forward, backward, end, begin = (names.new(f"{base}_{part}") for part in ("forward", "backward", "at_end", "at_0"))
    return [
        make("Gather", [whole, last], [end], name=names.new(f"{base}_end"), axis=0),
        make("Gather", [whole, zero], [begin], name=names.new(f"{base}_begin"), axis=0),
        make("Split", [end, halves], [forward, names.new(f"{base}_unused")], name=names.new(f"{base}_split"), axis=0),
        make(
            "Split", [begin, halves], [names.new(f"{base}_unused"), backward], name=names.new(f"{base}_split"), axis=0
        ),
        make("Concat", [forward, backward], [wanted], name=names.new(f"{base}_last"), axis=0),
    ]


REWRITES.register(
    Rewrite(
        name="reset-states",
        title="LSTM layers that begin anew with every call",
        why="TFLite's fused LSTM keeps its state between calls, and the models it is made from do not",
        rank=40,  # after zero-states, which leaves it layers without an initial state
        apply=apply,
        serves=("onnx2tf",),
    )
)
