"""Canonical order and names for ONNX graphs whose exporter's vary from run to run.

tf2onnx merges equal nodes in the order of sets and numbers what it generates by a counter that goes on from one
conversion to the next, so one model gives other names each time. Here nodes come in the order in which the outputs need
them and are named after their layer and operator; constants after the node that uses them first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any


def canonicalise(graph: Any, kept: frozenset[str]) -> None:
    """Order and name all of a graph and of the graphs nested in it; values in `kept` keep their names."""
    _Renaming(kept).graph(graph, "")


class _Renaming:
    """The names given so far; values of an outer graph are known in the graphs nested in it."""

    def __init__(self, kept: frozenset[str]) -> None:
        self._kept = kept
        self._names: dict[str, str] = {}
        self._used: Counter[str] = Counter()

    def graph(self, graph: Any, prefix: str) -> None:
        """Rename one graph; `prefix` is the node it is nested in."""
        graph.doc_string = ""
        del graph.value_info[:]
        for position, value in enumerate(graph.input):
            value.name = self._give(value.name, f"{prefix}input_{position}")
        constants = {tensor.name for tensor in graph.initializer}
        ordered = list(_in_order(graph))
        for node in ordered:
            self._node(node, prefix, constants)
        for tensor in graph.initializer:
            tensor.name = self._give(tensor.name, f"{prefix}unused")
        for value in graph.output:
            value.name = self._names.get(value.name, value.name)
        initializers = sorted(graph.initializer, key=lambda tensor: tensor.name)
        nodes = [type(node).FromString(node.SerializeToString()) for node in ordered]
        tensors = [type(tensor).FromString(tensor.SerializeToString()) for tensor in initializers]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensors)

    def _node(self, node: Any, prefix: str, constants: set[str]) -> None:
        base = f"{prefix}{_layer(node.name)}{node.op_type}"
        node.name = self._unique(base)
        node.doc_string = ""
        for position, name in enumerate(node.input):
            if name in constants and name not in self._names:
                self._give(name, f"{node.name}.{position}")
            node.input[position] = self._names.get(name, name)
        for nested in _nested(node):
            self.graph(nested, f"{node.name}/")
        for position, name in enumerate(node.output):
            node.output[position] = self._give(name, f"{node.name}:{position}") if name else ""

    def _give(self, old: str, new: str) -> str:
        if old in self._kept:
            return old
        return self._names.setdefault(old, new)

    def _unique(self, base: str) -> str:
        self._used[base] += 1
        return base if self._used[base] == 1 else f"{base}_{self._used[base] - 1}"


def _layer(name: str) -> str:
    """Give `model/layer/` of a TensorFlow scope, or nothing for a node the exporter made up."""
    parts = name.split("/")
    return "/".join(parts[:2]) + "/" if len(parts) > 2 else ""


def _nested(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _needs(node: Any) -> Iterator[str]:
    """Name the values a node needs, those that the graphs nested in it take from outside included."""
    yield from node.input
    for graph in _nested(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _needs(inner)


def _in_order(graph: Any) -> Iterator[Any]:
    """Yield the nodes that the outputs need, each after what it needs itself, whatever order the file has."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    done: set[int] = set()
    for output in graph.output:
        # A stack of its own, because real graphs are deeper than Python's recursion.
        pending = [(maker[output.name], False)] if output.name in maker else []
        while pending:
            index, ready = pending.pop()
            if index in done:
                continue
            if ready:
                done.add(index)
                yield graph.node[index]
                continue
            pending.append((index, True))
            needed = [maker[name] for name in _needs(graph.node[index]) if name in maker]
            pending += [(other, False) for other in reversed(needed) if other not in done]
