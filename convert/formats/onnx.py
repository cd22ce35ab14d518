"""ONNX graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.formats import FORMATS, Draft, Facts, Format, FormatError
from convert.formats._onnx_names import canonicalise
from convert.sources import Probe
from convert.spec import BATCH, Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx


#: The producer whose names and order vary from run to run; others' names lead back to the source's modules.
UNSTEADY = "tf2onnx"


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
    """Name inputs, outputs and free dimensions as promised, in the promised order; make what varies canonical.

    Raises FormatError where the file lacks a promised tensor.
    """
    import onnx

    model = read_model(path)
    graph = model.graph
    if model.producer_name == UNSTEADY:
        canonicalise(graph, frozenset((*draft.input_names, *draft.output_names)))
    sides = (
        (graph.input, draft.signature.inputs, draft.input_names),
        (graph.output, draft.signature.outputs, draft.output_names),
    )
    renames = {old: spec.name for _, specs, drafted in sides for old, spec in zip(drafted, specs, strict=True)}
    rename_values(graph, renames)
    for values, specs, _ in sides:
        by_name = {value.name: value for value in values}
        missing = [spec.name for spec in specs if spec.name not in by_name]
        if missing:
            raise FormatError(f"the converter's file has no tensor for {', '.join(missing)}")
        ordered = [onnx.ValueInfoProto.FromString(by_name[spec.name].SerializeToString()) for spec in specs]
        for value, spec in zip(ordered, specs, strict=True):
            _name_dimensions(value, spec)
        del values[:]
        values.extend(ordered)
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


def rename_values(graph: Any, renames: dict[str, str]) -> None:
    """Rename values wherever a graph or a nested one mentions them; others of a new name step aside."""
    taken = set(renames.values())
    names = {name for inner in graphs(graph) for node in inner.node for name in (*node.input, *node.output)}
    names |= {value.name for inner in graphs(graph) for value in (*inner.input, *inner.output, *inner.initializer)}
    aside = {}
    for name in sorted((taken & names) - set(renames)):
        aside[name] = next(new for i in range(len(names) + 1) if (new := f"{name}_inner{i}") not in names | taken)
    renames = {**aside, **renames}
    for inner in graphs(graph):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = renames.get(value.name, value.name)
        for node in inner.node:
            for side in (node.input, node.output):
                for position, name in enumerate(side):
                    side[position] = renames.get(name, name)


def _name_dimensions(value: Any, spec: TensorSpec) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(spec.shape):
        del dims[:]
        for _ in spec.shape:
            dims.add()
    for dim, promised in zip(dims, spec.shape, strict=True):
        # NOTE: Why a fixed dimension of the file is left: it is what the file can do; `structure` judges it.
        if dim.HasField("dim_value"):
            continue
        if isinstance(promised, str):
            dim.dim_param = promised
        else:
            dim.dim_value = promised


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
