"""Nodes that come before what they need, as in the bodies of loops that tf2onnx writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import graphs

if TYPE_CHECKING:
    import onnx


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Put every node after those that make what it needs; an order that is right already is kept."""
    done = [graph.name or "the graph" for graph in graphs(model.graph) if _sort(graph)]
    return (f"nodes put in topological order in {', '.join(done)}",) if done else ()


def _sort(graph: onnx.GraphProto) -> bool:
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = [{maker[name] for name in _needed(node) if name in maker} for node in graph.node]
    if all(other < index for index, others in enumerate(needs) for other in others):
        return False
    order: list[int] = []
    placed: set[int] = set()
    waiting = list(range(len(needs)))
    while waiting:
        ready = [index for index in waiting if needs[index] <= placed]
        if not ready:
            return False  # a circle, which no order helps; loading the file says so
        order += ready
        placed |= set(ready)
        waiting = [index for index in waiting if index not in placed]
    nodes = [type(graph.node[0]).FromString(graph.node[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def _needed(node: onnx.NodeProto) -> set[str]:
    """Name the values a node needs, those that graphs nested in it take from outside included."""
    found = set(node.input)
    for attribute in node.attribute:
        for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            found |= {value.name for value in nested.output}
            for inner in nested.node:
                found |= _needed(inner)
    return found


REWRITES.register(
    Rewrite(
        name="topological-order",
        title="nodes in topological order",
        why="the standard asks for it, and ONNX Runtime refuses files without it",
        rank=90,
        apply=apply,
    )
)
