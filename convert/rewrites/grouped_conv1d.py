"""Grouped 1-D convolutions as 2-D ones of height one, which TFLite's CONV_2D knows with groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import DOMAINS, Names, add_constant, attribute, constants, counted, opset, replace_nodes

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: What an axis of height one adds to a convolution's attributes.
HEIGHT = {"strides": [1], "dilations": [1], "kernel_shape": [1]}


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Rewrite those of constant weights that are neither dense nor depthwise, which onnx2tf knows."""
    names = Names(model)
    known = constants(model.graph)
    version = opset(model)

    def replace(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if node.op_type != "Conv" or node.domain not in DOMAINS or node.input[1] not in known:
            return None
        weights = known[node.input[1]]
        if weights.ndim != 3 or attribute(node, "group", 1) == 1 or weights.shape[1] == 1:
            return None
        return raised(model.graph, node, weights, names, version)

    done = replace_nodes(model.graph, replace)
    return (f"grouped 1-D convolutions written as 2-D ones ({counted(done)})",) if done else ()


def raised(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: np.ndarray, names: Names, version: int
) -> list[onnx.NodeProto]:
    """Give the convolution between an Unsqueeze and a Squeeze."""
    import numpy as np
    from onnx import helper

    base = node.name or node.output[0]
    flat, tall = names.new(f"{base}_flat"), names.new(f"{base}_tall")
    conv = type(node).FromString(node.SerializeToString())
    conv.input[0], conv.output[0] = flat, tall
    conv.input[1] = add_constant(graph, names.new(f"{base}_weights"), weights[:, :, None, :])
    for entry in conv.attribute:
        if entry.name in HEIGHT:
            entry.ints[:] = [*HEIGHT[entry.name], *entry.ints]
        elif entry.name == "pads":
            entry.ints[:] = [0, entry.ints[0], 0, entry.ints[1]]
    rest: list[str] = []
    stated: dict[str, list[int]] = {"axes": [2]}
    if version >= 13:
        rest, stated = [add_constant(graph, names.new(f"{base}_axis"), np.array([2], np.int64))], {}
    unsqueeze, squeeze = (names.new(f"{base}_{kind}") for kind in ("unsqueeze", "squeeze"))
    return [
        helper.make_node("Unsqueeze", [node.input[0], *rest], [flat], name=unsqueeze, **stated),
        conv,
        helper.make_node("Squeeze", [tall, *rest], [node.output[0]], name=squeeze, **stated),
    ]


REWRITES.register(
    Rewrite(
        name="grouped-conv1d",
        title="grouped 1-D convolutions as 2-D ones",
        why="onnx2tf knows groups in two dimensions only and leaves a custom operator (ONNX_CONV) with exit code 0",
        rank=30,
        apply=apply,
        serves=("onnx2tf",),
    )
)
