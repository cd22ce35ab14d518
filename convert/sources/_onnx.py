"""Reading ONNX files safely: recognised, parsed, their external data confined to the file's own folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError, MissingInputs, UsageError
from convert.sources._probe import Probe
from convert.spec import BATCH, DTYPES, GRID_SAMPLE, RECURRENT, Dim, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime

#: Domains of the standard's operators.
STANDARD = ("", "ai.onnx")

#: What exporters call a leading dimension that is the batch, or that they have no name for.
_BATCH_NAMES = re.compile(r"(?i)n|b|bs|batch\w*|num_batch\w*|unk_*\d+|none|unknown\w*|s\d+|dynamic_axes_\w+|\w*_dim_0")

#: Operators through which an index reaches an embedding, or by which negative ones are wrapped first.
_PASSING = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Less", "Not", "Add", "Mul", "Where")


def looks_like_onnx(seen: Probe) -> bool:
    """Know an ONNX file by how its protobuf begins: field 1, the IR version, then a known next field.

    Protobuf has no magic bytes; 0x08 0x03..0x1f is `ir_version` 3 to 31, and producers write producer_name (0x12),
    opset imports (0x42) or the graph (0x3a) after it.
    """
    head = seen.head
    return len(head) > 3 and head[0] == 0x08 and 3 <= head[1] <= 31 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42)


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file: its graph without external data, and a session that is opened when it is first run."""

    path: Path
    proto: onnx.ModelProto  # external data left where it is
    _sessions: list[Any] = field(default_factory=list, repr=False)

    def whole(self) -> onnx.ModelProto:
        """Give the graph with its external data read in; a copy, which callers may change."""
        import onnx

        copy = onnx.ModelProto()
        copy.CopyFrom(self.proto)
        onnx.external_data_helper.load_external_data_for_model(copy, str(self.path.parent))
        return copy

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file in ONNX Runtime on named arrays."""
        if not self._sessions:
            self._sessions.append(open_session(self.path, 1))
        return run_session(self._sessions[0], inputs)


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a file in ONNX Runtime with its graph optimisations; raises LoadError where it cannot."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", summary(error, 2))
        raise LoadError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {said}", fix=_fix_of(said)
        ) from error


def _fix_of(said: str) -> str:
    if "is not a registered function/op" in said or "No Op registered" in said:
        return "export it again with operators of the standard, or with the function that defines this one in the file"
    return "export it again; `python -m onnx.checker FILE` may say more"


def run_session(session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a session on named arrays and give its outputs by name, in its order."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def read_model(path: Path) -> OnnxModel:
    """Parse a file without its external data, which is checked to be there and below the file's folder.

    Raises:
        LoadError: it is damaged, newer than the installed packages, or takes or gives what is no tensor.
        UsageError: it names external data outside its folder, or that is not there.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise LoadError(
            f"{path} begins like an ONNX file, but is truncated or damaged: {summary(error, 1)}",
            fix="copy or download it again, and compare its size with the original's",
        ) from error
    if not proto.graph.output:
        raise LoadError(f"{path} is an ONNX file whose graph has no outputs", fix="copy or export it again")
    for value in proto.graph.output:
        if value.type.WhichOneof("value") not in ("tensor_type", None):
            raise LoadError(
                f"the output {value.name} of {path} is a {value.type.WhichOneof('value')}, not a tensor",
                fix="export it again with tensors only (skl2onnx: zipmap=False)",
            )
    require_known_opset(proto, path)
    check_external_data(proto, path)
    return OnnxModel(path, proto)


def require_known_opset(proto: onnx.ModelProto, path: Path) -> None:
    """Raise LoadError for an operator set or IR newer than the installed onnx knows."""
    import onnx

    known = onnx.defs.onnx_opset_version()
    version = max((entry.version for entry in proto.opset_import if entry.domain in STANDARD), default=1)
    if version > known:
        raise LoadError(
            f"{path} needs ONNX opset {version}; the installed onnx {onnx.__version__} knows up to {known}",
            fix=f"export it again with opset {known} or lower, or update onnx and onnxruntime",
        )
    if proto.ir_version > onnx.IR_VERSION:
        raise LoadError(
            f"{path} has ONNX IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}",
            fix="update onnx and onnxruntime, or export it again with older ones",
        )


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant tensor of a model: initializers and attributes, nested graphs and functions included."""

    def in_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
        for node in nodes:
            for entry in node.attribute:
                if entry.HasField("t"):
                    yield entry.t
                yield from entry.tensors
                for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
                    yield from in_graph(graph)

    def in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        yield from in_nodes(graph.node)

    yield from in_graph(proto.graph)
    for function in proto.functions:
        yield from in_nodes(function.node)


def external_files(proto: onnx.ModelProto) -> dict[str, int]:
    """Give the files that a model's external data is in, by the names it has for them, and the bytes each must have."""
    import onnx

    files: dict[str, int] = {}
    for tensor in tensors_of(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            said = {entry.key: entry.value for entry in tensor.external_data}
            end = int(said.get("offset", 0)) + int(said.get("length", 0))
            name = said.get("location", "")
            files[name] = max(end, files.get(name, 0))
    return files


def check_external_data(proto: onnx.ModelProto, path: Path) -> None:
    """Raise UsageError where external data is not below the file's own folder or not there, LoadError where short.

    A model must not make a reader open other files of the machine, by an absolute path, by `..` or by a link.
    """
    home = path.parent.resolve()
    for name, end in sorted(external_files(proto).items()):
        place = path.parent / name
        outside = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or not name
        if outside or not place.resolve().is_relative_to(home):
            raise UsageError(
                f"{path} keeps data outside its folder, in {name!r}",
                fix="do not open this file; or, when you know who made it, save it again with its data beside it",
            )
        if not place.is_file():
            raise UsageError(
                f"{path} keeps its weights in {name}, which is not there", fix=f"put {name} beside the model file"
            )
        if place.stat().st_size < end:
            raise LoadError(
                f"{name}, in which {path} keeps its weights, is truncated: it has {place.stat().st_size:,} bytes of at "
                f"least {end:,}",
                fix="copy or download it again",
            )


def inputs_of(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Read what callers feed: names, dtypes, sizes and free dimensions, and the range of indices into embeddings.

    A free leading dimension without a telling name is called `batch`, another one after its input and axis. Raises
    LoadError for what is no tensor or of a type that is not supported, MissingInputs for a tensor of unknown rank.
    """
    graph = model.proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {sparse.values.name for sparse in graph.sparse_initializer}
    values = [value for value in graph.input if value.name not in constants]
    leading = {
        value.type.tensor_type.shape.dim[0].dim_param
        for value in values
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].dim_param
    }
    renames = {name: BATCH for name in leading if _BATCH_NAMES.fullmatch(name)}
    if len(renames) > 1:
        renames = {}  # inputs that vary on their own keep the names that tell them apart
    rows = embedding_rows(graph)
    return tuple(_spec(value, renames, rows, model.path) for value in values)


def _spec(value: onnx.ValueInfoProto, renames: Mapping[str, str], rows: Mapping[str, int], path: Path) -> TensorSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        raise LoadError(
            f"the input {value.name} of {path} is a {value.type.WhichOneof('value')}, not a tensor",
            fix="export it again with tensors only",
        )
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    if dtype not in DTYPES:
        raise LoadError(
            f"the input {value.name} of {path} is of type {dtype}, which edgeproof does not feed",
            fix=f"export it again with inputs of: {', '.join(DTYPES)}",
        )
    if not tensor.HasField("shape"):
        raise MissingInputs(
            f"the file does not say how many axes the input {value.name} has",
            fix="save it again with its shapes; for example with onnx.tools.update_model_dims",
        )
    shape = tuple(_dim(value.name, axis, dim, renames) for axis, dim in enumerate(tensor.shape.dim))
    bounds = (0, rows[value.name] - 1) if value.name in rows and dtype in ("int32", "int64") else (None, None)
    return TensorSpec(value.name, dtype, shape, *bounds)


def _dim(name: str, axis: int, dim: Any, renames: Mapping[str, str]) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    called: str = renames.get(dim.dim_param, dim.dim_param)
    if called.isidentifier():
        return called
    if axis == 0 and not called:
        return BATCH
    return re.sub(r"\W", "_", called if called and not called[0].isdigit() else f"{name}_{axis}")


def embedding_rows(graph: onnx.GraphProto) -> dict[str, int]:
    """Find how many rows the constants have that inputs pick from, by the input's name.

    An index may be wrapped on its way, as Keras does: negative ones have the number of rows added, and nothing else.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    # For every value: the one input it is made of, and what was added to it.
    made: dict[str, tuple[str, frozenset[int]]] = {
        value.name: (value.name, frozenset()) for value in graph.input if value.name not in tensors
    }
    rows: dict[str, int] = {}
    for node in graph.node:
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
        if node.op_type == "Gather" and axis == 0 and node.input[0] in tensors and node.input[1] in made:
            name, added = made[node.input[1]]
            count = int(next(iter(tensors[node.input[0]].dims), 0))
            if added <= {count}:
                rows[name] = min(count, rows.get(name, count))
        known = [made[name] for name in node.input if name in made]
        others = [name for name in node.input if name and name not in made]
        if node.op_type not in _PASSING or len({name for name, _ in known}) != 1:
            continue
        if any(name not in tensors or len(tensors[name].dims) > 1 for name in others):
            continue
        added = frozenset().union(*(added for _, added in known))
        if node.op_type == "Add":
            added |= {int(numpy_helper.to_array(tensors[name]).max()) for name in others}
        made[node.output[0]] = (known[0][0], added)
    return rows


def parameters_of(proto: onnx.ModelProto) -> int:
    """Count the numbers in floating and quantised constants."""
    import math

    import onnx

    kinds = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
    kinds |= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    return sum(math.prod(tensor.dims) for tensor in tensors_of(proto) if tensor.data_type in kinds and tensor.dims)


def traits_of(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Name the traits of a model that its operators show."""
    kinds = {node.op_type for node in proto.graph.node}
    found = ((RECURRENT, {"LSTM", "GRU", "RNN", "Loop", "Scan"}), (GRID_SAMPLE, {"GridSample"}))
    return tuple(trait for trait, operators in found if kinds & operators)
