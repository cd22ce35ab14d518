"""`Erfc`, TensorFlow's operator that tf2onnx leaves in the graph of an exact GELU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import Names, add_constant, counted, graphs, replace_nodes

if TYPE_CHECKING:
    import onnx


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Write Erfc(x) as 1 - Erf(x), in the type the graph computes in."""
    import numpy as np
    from onnx import helper

    names = Names(model)
    done: list[str] = []
    for graph in graphs(model.graph):
        one = ""

        def replace(node: onnx.NodeProto, graph: onnx.GraphProto = graph) -> list[onnx.NodeProto] | None:
            nonlocal one
            if node.op_type != "Erfc":
                return None
            one = one or add_constant(graph, names.new("erfc_one"), np.array(1, np.float32))
            inner = names.new(f"{node.output[0]}_erf")
            return [
                helper.make_node("Erf", [node.input[0]], [inner], name=names.new(f"{node.name}_erf")),
                helper.make_node("Sub", [one, inner], [node.output[0]], name=node.name),
            ]

        done += replace_nodes(graph, replace)
    return (f"Erfc rewritten as 1 - Erf ({counted(done)}): tf2onnx leaves TensorFlow's operator",) if done else ()


REWRITES.register(
    Rewrite(
        name="erfc",
        title="Erfc as 1 - Erf",
        why="tf2onnx has no mapping for Erfc, which an exact GELU becomes; ONNX has Erf only",
        rank=10,
        apply=apply,
    )
)
