"""ONNX artifacts: every tensor of the graph that ONNX Runtime makes of the file, its own fusions kept.

NOTE: Why the optimised graph: a tensor that becomes an output can no longer be fused away, so taps of the file itself
change what is computed. The graph is optimised first, written, tapped, and run as it is.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.worker import summary
from validators.divergence import Value
from validators.runtimes import Arrays, Subject, cannot_open
from validators.runtimes.onnxruntime import ONNXRUNTIME
from validators.taps import TAPS, Isolated, Isolation, Tap, Trace
from validators.taps._onnxruntime_steps import step

if TYPE_CHECKING:
    import numpy as np

BLOCKED = "com.microsoft.nchwc"  # the domain of operators on channels in blocks
REORDER = "ReorderOutput"  # which gives them back one by one
FX_NODE = "pkg.torch.onnx.fx_node"  # under which torch.onnx says what it made a node of
MARK = "_nchwc"  # that ONNX Runtime appends to the names of nodes it moves to that domain

SUMMAND = 3  # the place among a blocked convolution's inputs of what it adds

MOVES = frozenset(
    {"ReorderInput", "ReorderOutput", "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
    | {"Expand", "Slice", "Gather", "Concat", "Pad", "Split", "QuantizeLinear", "DequantizeLinear"}
    | {"DynamicQuantizeLinear"}
)


class OnnxProbe:
    """The optimised graph with all its tensors as outputs."""

    how = "ONNX Runtime's optimised graph, tapped and run as it is"

    def __init__(self, subject: Subject) -> None:
        import onnx
        import onnxruntime

        self.original = onnx.load(subject.file.path)
        with tempfile.TemporaryDirectory() as folder:
            optimised = str(Path(folder) / "optimised.onnx")
            options = _options(subject.threads)
            options.optimized_model_filepath = optimised
            onnxruntime.InferenceSession(subject.file.path, options, providers=["CPUExecutionProvider"])
            model = onnx.load(optimised)
            self._ends = [value.name for value in model.graph.output]
            self._said = Said(self.original)
            self._names = self._tap(model.graph)
            tapped = str(Path(folder) / "tapped.onnx")
            onnx.save(model, tapped, save_as_external_data=model.ByteSize() > LARGE)
            options = _options(subject.threads)
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._session = onnxruntime.InferenceSession(tapped, options, providers=["CPUExecutionProvider"])

    def _tap(self, graph: Any) -> dict[str, Value]:
        """Make every tensor an output, those in blocks of channels through an operator that undoes these.

        Gives what is known of each, by the name to fetch it by.
        """
        import onnx

        constants = {tensor.name for tensor in graph.initializer}
        inputs = [value.name for value in graph.input if value.name not in constants]
        self._fetched = {name: name for name in inputs}  # by the name of the tensor in the optimised graph
        values = {name: Value(name, "") for name in inputs}
        where = {name: at for at, name in enumerate(inputs)}
        undone = {node.input[0]: node for node in graph.node if node.op_type == REORDER and node.domain == BLOCKED}
        taps: list[Any] = []
        for node in graph.node:
            for name in node.output:
                if not name:
                    continue
                sources = tuple(sorted({where[taken] for taken in taken_by(node) if taken in where}))
                fetched, shown = name, self._said.quantized(node, name)
                if node.domain == BLOCKED and node.op_type != REORDER:
                    shown = undone[name].output[0] if name in undone else self._said.blocked(node)
                    channels = self._said.channels(shown)
                    if channels:
                        fetched = f"edgeproof_tap_{len(taps)}"
                        taps.append(
                            onnx.helper.make_node(REORDER, [name], [fetched], domain=BLOCKED, channels=channels)
                        )
                    elif name in undone:
                        fetched = undone[name].output[0]
                    else:
                        fetched = ""
                where[name] = len(values)
                self._fetched[name] = fetched
                values[f"{name}\0{fetched}"] = Value(
                    shown,
                    node.op_type,
                    sources,
                    self._said.layers(shown),
                    self._said.line(shown),
                    node.op_type in MOVES,
                    self._said.is_partial(shown),
                )
        graph.node.extend(taps)
        there = {value.name for value in graph.output} | set(inputs)
        graph.output.extend(
            onnx.ValueInfoProto(name=name)
            for name in dict.fromkeys(self._fetched.values())
            if name and name not in there
        )
        self._where = where
        self._shown = [value.name for value in values.values()]
        return values

    def numbers(self, name: str, array: np.ndarray) -> np.ndarray:
        """Give the numbers that the integers of a tensor stand for."""
        found = self._said.numbers(name, array)
        return array if found is None else found

    def run(self, inputs: Arrays) -> Trace:
        """Run the tapped graph once."""
        wanted = [name for name in dict.fromkeys(self._fetched.values()) if name and name not in inputs]
        found = dict(zip(wanted, self._session.run(wanted, dict(inputs)), strict=True)) | dict(inputs)
        arrays: list[np.ndarray | None] = []
        raw: dict[int, np.ndarray] = {}
        for at, fetched in enumerate(self._fetched.values()):
            array = found.get(fetched)
            if array is None or not hasattr(array, "dtype"):  # sequences are no tensors
                arrays.append(None)
                continue
            raw[at] = array
            arrays.append(self._said.numbers(self._shown[at], array))
        return Trace(tuple(self._names.values()), arrays, tuple((end, self._where[end]) for end in self._ends), raw)


class CutProbe(OnnxProbe):
    """The file cut at each of its tensors, every cut optimised and run as the whole file is."""

    how = "the graph cut at each tensor, since tapping it changes what it computes"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        if self.original.ByteSize() > LARGE:
            raise LoadError("the file is too large to be cut at each of its tensors")
        self._threads = subject.threads

    def run(self, inputs: Arrays) -> Trace:
        """Run the whole file, for its outputs, and one cut for every tensor that it names."""
        answers = dict(zip(self._ends, self._cut(self._ends).run(self._ends, dict(inputs)), strict=True))
        arrays: list[np.ndarray | None] = []
        raw: dict[int, np.ndarray] = {}
        made = {name for node in self.original.graph.node for name in node.output if name}
        for at, shown in enumerate(self._shown):
            if shown in answers or shown in inputs:
                array = answers.get(shown, inputs.get(shown))
            else:
                array = self._cut([shown]).run([shown], dict(inputs))[0] if shown in made else None
            if array is None or not hasattr(array, "dtype"):
                arrays.append(None)
                continue
            raw[at] = array
            arrays.append(self.numbers(shown, array))
        return Trace(tuple(self._names.values()), arrays, tuple((end, self._where[end]) for end in self._ends), raw)

    def _cut(self, ends: list[str]) -> Any:
        """Open what of the file computes some of its tensors, which become its outputs."""
        import onnx
        import onnxruntime

        model = onnx.ModelProto()
        model.CopyFrom(self.original)
        graph = model.graph
        if ends != self._ends:
            given = {value.name for value in graph.input}
            kept = [node for end in ends for node in _nodes_between(graph, given, end)]
            del graph.node[:], graph.output[:]
            graph.node.extend(kept)
            graph.output.extend(onnx.ValueInfoProto(name=end) for end in ends)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), _options(self._threads), providers=["CPUExecutionProvider"]
        )


LARGE = 1 << 30  # bytes of a model whose tensors are kept in a file beside it, since protobuf takes 2 GiB


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def taken_by(node: Any) -> list[str]:
    """Name what a node takes, what its nested graphs take from outside included."""
    from convert.formats.onnx import graphs

    names = list(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names += [name for inner in graphs(graph) for nested in inner.node for name in nested.input]
    return names


class Said:
    """What the file itself says of its tensors: their layers, source lines and scales."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self._nodes = {name: node for node in model.graph.node for name in node.output if name}
        self._by_node = {node.name: node for node in model.graph.node if node.name}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        # Of the nodes that an exporter made of one operator, the last one computes what it does.
        self._last = {_metadata(node).get(FX_NODE, name): name for name, node in self._nodes.items()}
        self._scales: dict[str, tuple[Any, Any]] = {}
        self._quantized: dict[str, str] = {}  # tensors of integers by the names of their scales
        for node in model.graph.node:
            at = node.output[0] if node.op_type == "QuantizeLinear" else None
            at = node.input[0] if node.op_type == "DequantizeLinear" else at
            if at and all(name in self._constants for name in node.input[1:3]):
                self._quantized[node.input[1]] = at
                held = [numpy_helper.to_array(self._constants[name]) for name in node.input[1:3]]
                self._scales[at] = (held[0], held[1] if len(held) > 1 else 0)

    def numbers(self, name: str, array: np.ndarray) -> np.ndarray | None:
        """Give the numbers that a tensor's integers stand for, or its own."""
        import numpy as np

        if array.dtype.kind == "f" or name not in self._scales:
            return array.astype(np.float32) if array.dtype == np.float16 else array
        scale, zero = self._scales[name]
        if np.ndim(scale):
            return None
        return ((array.astype(np.float64) - float(zero)) * float(scale)).astype(np.float32)

    def quantized(self, node: Any, name: str) -> str:
        """Name what an operator on integers computes as the file does, by the scale of its output.

        It is the first or the last of its scales of tensors; weights have scales of their own.
        """
        if name in self._nodes or not node.op_type.startswith(("QLinear", "QGemm")):
            return name
        scales = [taken for taken in node.input if taken in self._quantized]
        if not scales:
            return name
        return self._quantized[scales[0 if node.op_type == "QLinearConcat" else -1]]

    def blocked(self, node: Any) -> str:
        """Name what an operator in blocks computes as the file does, where it can be told."""
        name = re.sub(rf"{MARK}(_token_\d+)?$", "", node.name)
        if name not in self._nodes:
            name = str(self._by_node[name].output[0]) if name in self._by_node else str(node.output[0])
        if node.op_type == "Conv" and len(node.input) > SUMMAND and node.input[SUMMAND]:
            # It adds another tensor, and its name is of what it was before that.
            name = self._after(name, {"Add", "Sum"})
            if any(attribute.name == "activation" for attribute in node.attribute):
                name = self._after(name, None)
        return str(name)

    def _after(self, name: str, kinds: set[str] | None) -> str:
        """Give what the one node computes that takes a tensor, where there is one, of some kinds."""
        taking = [node for node in self._nodes.values() if name in node.input and (not kinds or node.op_type in kinds)]
        return str(taking[0].output[0]) if len(taking) == 1 else name

    def channels(self, name: str) -> int:
        """Give how many channels the nearest convolution before a tensor computes, along first inputs; 0: unknown.

        Operators in blocks pad them.
        """
        node = self._nodes.get(name)
        while node is not None and node.op_type != "Conv":
            node = self._nodes.get(node.input[0]) if node.input else None
        weight = self._constants.get(node.input[1]) if node is not None else None
        return int(weight.dims[0]) if weight is not None else 0

    def layers(self, name: str) -> tuple[str, ...]:
        """Give the layers a tensor belongs to."""
        node = self._nodes.get(name)
        while node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input:
            name = node.input[0]
            node = self._nodes.get(name)
        said = _metadata(node) if node is not None else {}
        scopes = re.findall(r"'([^']*)'", said.get("pkg.torch.onnx.name_scopes", ""))
        if len(scopes) > 1:
            return (scopes[-2],) if scopes[-2] else ()
        return (name.partition(":")[0],)

    def is_partial(self, name: str) -> bool:
        """Whether a tensor is computed by one of the nodes that an exporter made of one operator, and not the last."""
        node = self._nodes.get(name)
        return node is not None and self._last.get(_metadata(node).get(FX_NODE, name), name) != name

    def line(self, name: str) -> str:
        """Give the source line a tensor is computed in."""
        node = self._nodes.get(name)
        trace = _metadata(node).get("pkg.torch.onnx.stack_trace", "") if node is not None else ""
        places = re.findall(r'File "([^"]+)", line (\d+)', trace)
        return f"{Path(places[-1][0]).name}:{places[-1][1]}" if places else ""


def _metadata(node: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def open_onnx(subject: Subject) -> OnnxProbe:
    """Optimise and tap the file; raises LoadError where ONNX Runtime refuses it."""
    try:
        return OnnxProbe(subject)
    except Exception as error:
        raise cannot_open("ONNX Runtime, tapped,", subject.file.path, error) from error


def open_cut(subject: Subject) -> CutProbe:
    """Load the file to be cut at each of its tensors; raises LoadError where it cannot be."""
    try:
        return CutProbe(subject)
    except LoadError:
        raise
    except Exception as error:
        raise cannot_open("ONNX Runtime", subject.file.path, error) from error


def isolate(job: Isolation) -> Isolated:
    """Write the nodes of the file that compute one tensor from those the optimised graph computes it from."""
    import numpy as np
    import onnx
    import onnxruntime

    from validators.runtimes import feed

    probe = open_onnx(job.subject)
    with np.load(job.inputs) as arrays:
        trace = probe.run(feed(arrays, job.case, job.feeds))
    value = trace.values[job.position]
    given = {trace.values[at].name: trace.raw[at] for at in value.inputs}
    graph = probe.original.graph
    nodes = _nodes_between(graph, set(given), value.name)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = {name for node in nodes for name in taken_by(node)}
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "operator",
            [
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in given.items()
                if name in used
            ],
            [onnx.ValueInfoProto(name=value.name)],
            [tensor for name, tensor in constants.items() if name in used],
        ),
        opset_imports=probe.original.opset_import,
        ir_version=probe.original.ir_version,
        functions=probe.original.functions,
    )
    model = onnx.shape_inference.infer_shapes(model)
    folder = Path(job.out)
    path = folder / "operator.onnx"
    onnx.save(model, str(path))
    fed = {name: array for name, array in given.items() if name in used}
    np.savez(folder / "inputs.npz", **fed)  # type: ignore[arg-type]
    try:
        session = onnxruntime.InferenceSession(str(path), _options(1), providers=["CPUExecutionProvider"])
        (answer,) = session.run([value.name], fed)
    except Exception as error:
        raise LoadError(f"the operator {value.name} does not run alone: {summary(error, 2)}") from error
    np.save(folder / "answer.npy", probe.numbers(value.name, answer))
    kinds = tuple(node.op_type for node in nodes)
    return Isolated(str(path), str(folder / "inputs.npz"), str(folder / "answer.npy"), kinds)


def _nodes_between(graph: Any, given: set[str], last: str) -> list[Any]:
    """List the nodes that compute one tensor from given ones and constants; raises LoadError where that is not all."""
    makers = {name: node for node in graph.node for name in node.output if name}
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input} - constants
    if last not in makers:
        raise LoadError(f"the tensor {last} is only in ONNX Runtime's optimised graph")
    needed: set[str] = set()
    pending = [last]
    while pending:
        name = pending.pop()
        if name in needed or not name or name in constants or (name in given and name != last):
            continue
        if name in inputs or name not in makers:
            raise LoadError(f"{last} is computed from {name} too, which the optimised graph does not hold")
        needed.add(name)
        pending += taken_by(makers[name])
    return [node for node in graph.node if any(name in needed for name in node.output)]


TAPS.register(
    Tap(
        "onnxruntime",
        ONNXRUNTIME,
        open_onnx,
        formats=("onnx",),
        runtime="onnxruntime",
        isolate=isolate,
        open_cut=open_cut,
        step=step,
    )
)
