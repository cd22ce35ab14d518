"""Grouped 3-D convolutions, which TFLite's CONV_3D does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import Names, add_constant, attribute, constants, counted, graphs, opset, replace_nodes

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: Up to this many groups become convolutions of their own; more become one dense convolution with zeros between them,
#: which costs arithmetic and not hundreds of operators.
GROUPS = 8


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Write a grouped 3-D convolution as several, or as one whose weights are zero between groups."""
    names = Names(model)
    version = opset(model)
    done: list[str] = []
    for graph in graphs(model.graph):
        known = constants(graph)

        def replace(
            node: onnx.NodeProto, graph: onnx.GraphProto = graph, known: dict[str, np.ndarray] = known
        ) -> list[onnx.NodeProto] | None:
            groups = int(attribute(node, "group", 1))
            if node.op_type != "Conv" or groups == 1 or node.input[1] not in known:
                return None
            weight = known[node.input[1]]
            if weight.ndim != 5:
                return None
            bias = known.get(node.input[2]) if len(node.input) > 2 else None
            if groups > GROUPS or (len(node.input) > 2 and bias is None):
                return _dense(graph, node, names, weight, groups)
            return _split(graph, node, names, weight, bias, groups, version)

        done += replace_nodes(graph, replace)
    return (f"grouped 3-D convolutions lowered to plain ones ({counted(done)}): TFLite has no others",) if done else ()


def _plain(node: onnx.NodeProto, inputs: list[str], output: str, name: str) -> onnx.NodeProto:
    from onnx import helper

    made = helper.make_node("Conv", inputs, [output], name=name)
    made.attribute.extend(entry for entry in node.attribute if entry.name != "group")
    return made


def _dense(
    graph: onnx.GraphProto, node: onnx.NodeProto, names: Names, weight: np.ndarray, groups: int
) -> list[onnx.NodeProto]:
    import numpy as np

    outputs, inner = weight.shape[0], weight.shape[1]
    whole = np.zeros((outputs, inner * groups, *weight.shape[2:]), weight.dtype)
    each = outputs // groups
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        whole[rows, group * inner : (group + 1) * inner] = weight[rows]
    dense = add_constant(graph, names.new(f"{node.input[1]}_dense"), whole)
    return [_plain(node, [node.input[0], dense, *node.input[2:]], node.output[0], node.name)]


def _split(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    names: Names,
    weight: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
    version: int,
) -> list[onnx.NodeProto]:
    import numpy as np
    from onnx import helper

    base = node.name or node.output[0]
    sizes = [weight.shape[1]] * groups
    parts = [names.new(f"{base}_in") for _ in sizes]
    if version >= 13:
        lengths = add_constant(graph, names.new(f"{base}_sizes"), np.array(sizes, np.int64))
        split = helper.make_node("Split", [node.input[0], lengths], parts, name=names.new(f"{base}_split"), axis=1)
    else:
        split = helper.make_node("Split", [node.input[0]], parts, name=names.new(f"{base}_split"), axis=1, split=sizes)
    made, outputs = [split], []
    for group, part in enumerate(parts):
        each = weight.shape[0] // groups
        rows = slice(group * each, (group + 1) * each)
        inputs = [part, add_constant(graph, names.new(f"{base}_weight"), np.ascontiguousarray(weight[rows]))]
        if bias is not None:
            inputs.append(add_constant(graph, names.new(f"{base}_bias"), np.ascontiguousarray(bias[rows])))
        outputs.append(names.new(f"{base}_out"))
        made.append(_plain(node, inputs, outputs[-1], names.new(f"{base}_group")))
    return [*made, helper.make_node("Concat", outputs, [node.output[0]], name=names.new(f"{base}_concat"), axis=1)]


REWRITES.register(
    Rewrite(
        name="grouped-conv3d",
        title="grouped 3-D convolutions as plain ones",
        why="TFLite's CONV_3D has no groups; onnx2tf writes an orphan tensor and exits 0, litert-torch crashes",
        rank=30,
        apply=apply,
        serves=("onnx2tf", "litert-torch"),
    )
)
