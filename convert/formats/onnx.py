"""ONNX graphs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats import FORMATS, Draft, Facts, Format, FormatError
from convert.sources import Probe
from convert.spec import BATCH, Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx


def recognise(seen: Probe) -> bool:
    """Know an ONNX file by how its protobuf begins: field 1, the IR version, then a known next field.

    Protobuf has no magic bytes; 0x08 0x03..0x0f is `ir_version` 3 to 15, and producers write producer_name (0x12),
    opset imports (0x42) or the graph (0x3a) after it.
    """
    head = seen.head
    return len(head) > 3 and head[0] == 0x08 and 3 <= head[1] <= 15 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42)


def read_model(path: Path) -> onnx.ModelProto:
    """Parse a file.

    Raises FormatError where it is damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise FormatError(f"{path} is a damaged ONNX file: {error}", fix="copy or convert it again") from error
    if not model.graph.output:
        raise FormatError(f"{path} is an ONNX file without a graph", fix="convert it again")
    return model


def seal(path: Path, draft: Draft) -> None:
    """Name inputs, outputs and free dimensions as promised, in the promised order, and make generated names canonical.

    NOTE: Why renamed: tf2onnx numbers its nodes by a global counter and orders initializers by hash, so two
    conversions of one model give different bytes for the same graph.
    """
    import onnx

    model = read_model(path)
    graph = model.graph
    renames = canonical_names(graph)
    kept = set(draft.input_names) | set(draft.output_names)
    renames = {old: new for old, new in renames.items() if old not in kept}
    for specs, drafted in (
        (draft.signature.inputs, draft.input_names),
        (draft.signature.outputs, draft.output_names),
    ):
        renames |= {old: spec.name for old, spec in zip(drafted, specs, strict=True)}
    # A promised name may be an inner value's already; that one steps aside.
    promised = {spec.name for spec in (*draft.signature.inputs, *draft.signature.outputs)}
    taken = {new for old, new in renames.items()} | promised
    for name in value_names(graph):
        if name in promised and name not in kept:
            renames[name] = next(f"{name}_inner{i}" for i in range(len(taken) + 1) if f"{name}_inner{i}" not in taken)
    rename_values(graph, renames)
    for values, specs in ((graph.input, draft.signature.inputs), (graph.output, draft.signature.outputs)):
        by_name = {value.name: value for value in values}
        missing = [spec.name for spec in specs if spec.name not in by_name]
        if missing:
            raise FormatError(f"the converter's file has no tensor for {', '.join(missing)}")
        ordered = [onnx.ValueInfoProto.FromString(by_name[spec.name].SerializeToString()) for spec in specs]
        for value, spec in zip(ordered, specs, strict=True):
            _name_dimensions(value, spec)
        del values[:]
        values.extend(ordered)
    order = {name: position for position, name in enumerate(value_names(graph))}
    initializers = sorted(graph.initializer, key=lambda tensor: order.get(tensor.name, len(order)))
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    onnx.save(model, str(path))


def read(path: Path) -> Facts:
    """Read the graph's inputs, outputs and operators."""
    model = read_model(path)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value) for value in model.graph.input if value.name not in initializers)
    outputs = tuple(_spec(value) for value in model.graph.output)
    operators = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for graph in graphs(model.graph)
        for node in graph.node
    )
    return Facts(Signature(inputs, outputs), dict(sorted(operators.items())))


def graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and the graphs nested in its nodes (bodies of If, Loop and Scan)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)
            for nested in attribute.graphs:
                yield from graphs(nested)


def value_names(graph: Any) -> list[str]:
    """Name all values of a graph and its nested ones, each once, in the order nodes use them."""
    names: dict[str, None] = {}
    for inner in graphs(graph):
        for value in inner.input:
            names[value.name] = None
        for node in inner.node:
            for name in (*node.input, *node.output):
                names[name] = None
        for value in inner.output:
            names[value.name] = None
    names.pop("", None)
    return list(names)


def canonical_names(graph: Any) -> dict[str, str]:
    """Number tf2onnx's generated suffixes (`__123`) in the order of their appearance."""
    generated = re.compile(r"__\d+(?=\b|_|:|/|$)")
    renames = {}
    numbers: dict[str, int] = {}
    for name in value_names(graph):
        new = generated.sub(lambda match: f"__{numbers.setdefault(match[0], len(numbers))}", name)
        if new != name:
            renames[name] = new
    return renames


def rename_values(graph: Any, renames: dict[str, str]) -> None:
    """Rename values wherever a graph or a nested one mentions them; node names follow the same map."""
    generated = re.compile(r"__\d+(?=\b|_|:|/|$)")
    numbers: dict[str, int] = {}
    for inner in graphs(graph):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = renames.get(value.name, value.name)
        for node in inner.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    names[position] = renames.get(name, name)
            node.name = generated.sub(lambda match: f"__{numbers.setdefault(match[0], len(numbers))}", node.name)


def _name_dimensions(value: Any, spec: TensorSpec) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(spec.shape):
        del dims[:]
        for _ in spec.shape:
            dims.add()
    for dim, promised in zip(dims, spec.shape, strict=True):
        # NOTE: Why a fixed dimension of the file is left: it is what the file can do; `structure` judges it.
        if isinstance(promised, str) and not dim.HasField("dim_value"):
            dim.dim_param = promised


def _spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(int(dim.dim_value))
        else:
            shape.append(dim.dim_param or (BATCH if axis == 0 else f"{value.name}_{axis}"))
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return TensorSpec(value.name, dtype, tuple(shape))


FORMATS.register(Format("onnx", "ONNX (.onnx)", ".onnx", recognise, seal, read))
