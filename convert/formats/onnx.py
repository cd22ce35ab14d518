"""ONNX graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import EdgeproofError
from convert.formats import FORMATS, Draft, Facts, Foreign, Format, FormatError
from convert.formats._onnx_names import canonicalise
from convert.formats._onnx_precision import boundary_scales, precision_of
from convert.sources._onnx import STANDARD, check_external_data, external_files, looks_like_onnx, tensors_of
from convert.spec import BATCH, CUSTOM, Dim, Scale, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx


#: The producer whose names and order vary from run to run; others' names lead back to the source's modules.
UNSTEADY = "tf2onnx"


#: From this many bytes of constants on, they go into a file of their own beside the graph: a protobuf ends at 2 GiB,
#: and the graph needs some of that.
INSIDE_BYTES = (1 << 31) - (1 << 26)

#: Constants of fewer bytes stay in the graph, where readers look for shapes and axes.
SMALL_BYTES = 1024


def read_model(path: Path, *, whole: bool = True) -> onnx.ModelProto:
    """Parse a file, with its external data or only the graph.

    Raises FormatError where it is damaged, or its external data is not whole and below its own folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError) as error:
        raise FormatError(f"{path} is a damaged ONNX file: {error}", fix="copy or convert it again") from error
    if not model.graph.output:
        raise FormatError(f"{path} is an ONNX file without a graph", fix="convert it again")
    try:
        check_external_data(model, path)
    except EdgeproofError as error:
        raise FormatError(error.message, fix=error.fix) from error
    if whole:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    return model


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Write a file; large constants go into one file beside it, which has its name with `.data` added."""
    import onnx

    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # onnx would add to it
    if sum(tensor.ByteSize() for tensor in tensors_of(model)) < INSIDE_BYTES:
        onnx.save(model, str(path))
        return
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=SMALL_BYTES,
        convert_attribute=False,
    )


def companions(path: Path) -> tuple[Path, ...]:
    """Name the files beside it that hold its external data."""
    return tuple(path.parent / name for name in external_files(read_model(path, whole=False)))


def seal(path: Path, draft: Draft) -> None:
    """Name inputs, outputs and free dimensions as promised, in the promised order; make what varies canonical.

    Raises FormatError where the file lacks a promised tensor.
    """
    import onnx

    model = read_model(path)
    graph = model.graph
    stale = [file for file in companions(path) if file != path.with_name(f"{path.name}.data")]
    forget_stack_traces(model)
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
    write_model(path, model)
    for file in stale:
        file.unlink()


def forget_stack_traces(model: onnx.ModelProto) -> None:
    """Take out, in place, where in its source files PyTorch found each operator: paths of the machine it ran on."""
    bodies = (model.graph, *model.functions)
    for node in (node for body in bodies for inner in graphs(body) for node in inner.node):
        kept = [entry for entry in node.metadata_props if not entry.key.endswith(".stack_trace")]
        if len(kept) < len(node.metadata_props):
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in kept]
            del node.metadata_props[:]
            node.metadata_props.extend(copies)


def read(path: Path) -> Facts:
    """Read the graph's inputs, outputs, operators and precision."""
    model = read_model(path, whole=False)
    initializers = {tensor.name for tensor in model.graph.initializer}
    scales = boundary_scales(model)
    inputs = tuple(_spec(value, scales) for value in model.graph.input if value.name not in initializers)
    outputs = tuple(_spec(value, scales) for value in model.graph.output)
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    operators = Counter(kind_of(node) for node in nodes)
    version = max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=1)
    requires = (f"ONNX opset {version}", f"ONNX IR version {model.ir_version}")
    found = dict(sorted(operators.items()))
    return Facts(Signature(inputs, outputs), found, requires, foreign_in(model), precision_of(model))


def kind_of(node: Any) -> str:
    """Name a node's operator, with its domain where that is not the standard's."""
    return str(node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}")


def foreign_in(model: onnx.ModelProto) -> tuple[Foreign, ...]:
    """List the nodes whose operators neither the standard nor the file itself defines."""
    import onnx

    local = {(function.domain, function.name) for function in model.functions}
    found = []
    for graph in graphs(model.graph):
        for node in graph.node:
            standard = node.domain in STANDARD or node.domain.startswith("ai.onnx.")
            if (node.domain, node.op_type) not in local and not (standard and onnx.defs.has(node.op_type, node.domain)):
                found.append(Foreign(CUSTOM, kind_of(node), node.name or next(iter(node.output), "")))
    return tuple(found)


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


def _spec(value: Any, scales: dict[str, Scale]) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(int(dim.dim_value))
        else:
            shape.append(dim.dim_param or (BATCH if axis == 0 else f"{value.name}_{axis}"))
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return TensorSpec(value.name, dtype, tuple(shape), quantized=scales.get(value.name))


FORMATS.register(Format("onnx", "ONNX (.onnx)", ".onnx", looks_like_onnx, seal, read, companions))
