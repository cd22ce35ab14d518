"""What rewrites of ONNX graphs share: constants by name, names not taken, and nodes in place of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

DOMAINS = ("", "ai.onnx")


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those nested in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(nested)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Give a node's attribute."""
    import onnx

    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def opset(model: onnx.ModelProto) -> int:
    """Give the version of the standard operator set that a model imports."""
    return max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=1)


def sizes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Give the sizes of the main graph's values as far as they are known; None for a free one."""
    return {
        value.name: [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
        for value in _inferred(model)
        if value.type.tensor_type.HasField("shape")
    } | {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Give the ONNX type numbers of the main graph's values as far as they are known."""
    return {value.name: value.type.tensor_type.elem_type for value in _inferred(model)} | {
        tensor.name: tensor.data_type for tensor in model.graph.initializer
    }


def _inferred(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    import onnx
    from google.protobuf.message import EncodeError

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, EncodeError):  # one that is not valid yet, or is over 2 GB
        graph = model.graph
    return [*graph.input, *graph.value_info, *graph.output]


class Names:
    """Names for new values of a model that none of its values has."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken = {
            name
            for graph in graphs(model.graph)
            for name in (
                *(value.name for value in (*graph.input, *graph.output, *graph.initializer)),
                *(name for node in graph.node for name in (*node.input, *node.output)),
            )
        }

    def new(self, base: str) -> str:
        """Give a name that begins with `base`."""
        found = next(
            name for i in range(len(self._taken) + 1) if (name := f"{base}_{i}" if i else base) not in self._taken
        )
        self._taken.add(found)
        return found


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Give the constants of a graph by name: initializers and Constant nodes."""
    from onnx import numpy_helper

    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in DOMAINS:
            value = attribute(node, "value")
            if value is not None:
                found[node.output[0]] = value
    return _Arrays(found, numpy_helper.to_array)


class _Arrays(dict[str, Any]):
    """Tensors by name that are turned into arrays when they are asked for."""

    def __init__(self, tensors: dict[str, Any], read: Callable[[Any], Any]) -> None:
        super().__init__(tensors)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        return self._read(super().__getitem__(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Give an array, or `default` where the name is no constant's."""
        try:
            return self[name]
        except KeyError:
            return default


def add_constant(graph: onnx.GraphProto, name: str, values: Any) -> str:
    """Add an initializer and give its name."""
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def replace_nodes(
    graph: onnx.GraphProto, replace: Callable[[onnx.NodeProto], Iterable[onnx.NodeProto] | None]
) -> list[str]:
    """Put what `replace` gives in the place of each node, where it is not None; name the nodes replaced."""
    done: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = replace(node)
        if made is None:
            nodes.append(node)
        else:
            done.append(node.name or node.output[0])
            nodes += made
    if done:
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    return done


def counted(names: list[str]) -> str:
    """Say how many nodes, and which where they are few."""
    return f"{len(names)} nodes" if len(names) > 2 else " and ".join(names)
