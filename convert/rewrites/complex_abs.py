"""`ComplexAbs`, TensorFlow's operator that tf2onnx leaves in the graph of a spectrogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import Names, add_constant, counted, graphs, opset, replace_nodes

if TYPE_CHECKING:
    import onnx


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Write the absolute value as the norm over the leading axis, in which tf2onnx keeps the two parts of a number."""
    import numpy as np
    from onnx import helper

    names = Names(model)
    as_input = opset(model) >= 18  # from there on, axes are an input
    done: list[str] = []
    for graph in graphs(model.graph):
        axes = ""

        def replace(node: onnx.NodeProto, graph: onnx.GraphProto = graph) -> list[onnx.NodeProto] | None:
            nonlocal axes
            if node.op_type != "ComplexAbs":
                return None
            if not as_input:
                return [helper.make_node("ReduceL2", node.input[:1], node.output, name=node.name, axes=[0], keepdims=0)]
            axes = axes or add_constant(graph, names.new("complex_parts"), np.array([0], np.int64))
            return [helper.make_node("ReduceL2", [node.input[0], axes], node.output, name=node.name, keepdims=0)]

        done += replace_nodes(graph, replace)
    return (f"ComplexAbs rewritten as a norm ({counted(done)}): tf2onnx leaves TensorFlow's operator",) if done else ()


REWRITES.register(
    Rewrite(
        name="complex-abs",
        title="ComplexAbs as a norm",
        why="tf2onnx maps a Fourier transform to real and imaginary parts and can leave the absolute value behind",
        rank=10,
        apply=apply,
    )
)
