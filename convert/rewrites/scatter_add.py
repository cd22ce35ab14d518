"""Scattering that adds up, which TFLite's converters have no working form for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import Names, add_constant, attribute, counted, graphs, replace_nodes, sizes, types

if TYPE_CHECKING:
    import onnx

FLOAT = 1  # ONNX's type number (onnx.proto, enum DataType)


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Write rows that are added at indices as a product with the matrix that says which row goes where."""
    if not any(_adds(node) for graph in graphs(model.graph) for node in graph.node):
        return ()
    names, shapes, kinds = Names(model), sizes(model), types(model)
    done: list[str] = []
    for graph in graphs(model.graph):

        def replace(node: onnx.NodeProto, graph: onnx.GraphProto = graph) -> list[onnx.NodeProto] | None:
            if not _adds(node):
                return None
            data, index = shapes.get(node.input[0]), shapes.get(node.input[1], [])
            if data is None or None in data or kinds.get(node.input[0]) != FLOAT:
                return None
            rows = node.op_type == "ScatterND" and len(index) == 2 and index[-1] == 1
            elements = node.op_type == "ScatterElements" and len(data) == 1 and not attribute(node, "axis", 0)
            return _product(graph, node, names, data) if rows or elements else None

        done += replace_nodes(graph, replace)
    return (f"additions at indices rewritten as matrix products ({counted(done)})",) if done else ()


def _adds(node: onnx.NodeProto) -> bool:
    reduction = attribute(node, "reduction", b"none") if node.op_type in ("ScatterND", "ScatterElements") else b"none"
    return bool(reduction == b"add")


def _product(
    graph: onnx.GraphProto, node: onnx.NodeProto, names: Names, data: list[int | None]
) -> list[onnx.NodeProto]:
    """Give data + onehot(index) @ updates; an index may count from the end."""
    import numpy as np
    from onnx import helper

    base = node.name or node.output[0]
    count = data[0] or 0
    row = add_constant(graph, names.new(f"{base}_row"), np.array([1, -1], np.int64))
    flat = add_constant(graph, names.new(f"{base}_flat"), np.array([-1, 1] if len(data) == 1 else [0, -1], np.int64))
    back = add_constant(graph, names.new(f"{base}_back"), np.array(data, np.int64))
    places = add_constant(graph, names.new(f"{base}_places"), np.arange(count)[:, None])
    from_end = add_constant(graph, names.new(f"{base}_from_end"), np.arange(count)[:, None] - count)
    parts = ("index", "here", "there", "either", "hot", "updates", "sums", "shaped")
    value = {part: names.new(f"{base}_{part}") for part in parts}

    def made(kind: str, inputs: list[str], output: str, **attributes: int) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=names.new(f"{base}_{kind}"), **attributes)

    return [
        made("Reshape", [node.input[1], row], value["index"]),
        made("Equal", [value["index"], places], value["here"]),
        made("Equal", [value["index"], from_end], value["there"]),
        made("Or", [value["here"], value["there"]], value["either"]),
        made("Cast", [value["either"]], value["hot"], to=FLOAT),
        made("Reshape", [node.input[2], flat], value["updates"]),
        made("MatMul", [value["hot"], value["updates"]], value["sums"]),
        made("Reshape", [value["sums"], back], value["shaped"]),
        made("Add", [node.input[0], value["shaped"]], node.output[0]),
    ]


REWRITES.register(
    Rewrite(
        name="scatter-add",
        title="additions at indices as matrix products",
        why="onnx2tf leaves a custom ONNX_SCATTERND, and the STABLEHLO_SCATTER of litert-torch does not prepare",
        rank=30,
        apply=apply,
        serves=("onnx2tf", "litert-torch"),
    )
)
