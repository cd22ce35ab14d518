"""TFLite artifacts: every tensor that LiteRT computes, its buffers kept.

Tensors inside a delegate can only be read, and int8 buffers are only not reused, where the interpreter preserves all
tensors; XNNPACK then runs operator by operator. Where that changes an output, the file is cut instead: a copy that ends
at a tensor computes it as the untouched file would up to there.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.worker import summary
from validators.divergence import Value
from validators.runtimes import Arrays, Subject, cannot_open
from validators.runtimes.litert import LITERT
from validators.taps import TAPS, Isolated, Isolation, Tap, Trace
from validators.taps._litert_steps import step

if TYPE_CHECKING:
    import numpy as np

PRESERVED = "LiteRT with XNNPACK and all tensors preserved"
CUT = "LiteRT on copies of the file that end at each tensor, because preserving all tensors changes its answers"

MOVES = frozenset(
    {"TRANSPOSE", "RESHAPE", "PAD", "PADV2", "MIRROR_PAD", "QUANTIZE", "DEQUANTIZE", "CAST", "SQUEEZE", "EXPAND_DIMS"}
    | {"GATHER", "CONCATENATION", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "PACK", "UNPACK", "BROADCAST_TO"}
)


class LiteRTProbe:
    """A file run so that its inner tensors can be read; `cut` runs a copy per tensor in place of preserving them."""

    def __init__(self, subject: Subject, *, cut: bool = False, delegates: bool = True) -> None:
        from ai_edge_litert.interpreter import OpResolverType

        from convert.formats.tflite import read_model

        self.how = CUT if cut else PRESERVED if delegates else "LiteRT without delegates, all tensors preserved"
        self._resolver = OpResolverType.AUTO if delegates else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.model = read_model(Path(subject.file.path))
        self._subject, self._cut = subject, cut
        self._graph = self.model.subgraphs[0]
        self._values, self.places, self._outputs = described(self.model)
        self._preserving: Any = None

    def run(self, inputs: Arrays) -> Trace:
        """Run once; tensors that are constants under another name, and so are never computed, are left out."""
        raw = self._each(inputs) if self._cut else self._preserved(inputs)
        by_value = {at: raw[tensor] for tensor, at in self.places.items() if tensor in raw}
        arrays = [
            numbers(self._graph.tensors[tensor], by_value[at]) if at in by_value else None
            for tensor, at in sorted(self.places.items(), key=lambda item: item[1])
        ]
        return Trace(self._values, arrays, self._outputs, by_value)

    def tensor(self, position: int) -> int:
        """Give the index in the file of the tensor at a position of the run."""
        return next(tensor for tensor, at in self.places.items() if at == position)

    def _preserved(self, inputs: Arrays) -> dict[int, np.ndarray]:
        from ai_edge_litert.interpreter import Interpreter

        if self._preserving is None:
            self._preserving = Interpreter(
                model_path=self._subject.file.path,
                num_threads=self._subject.threads,
                experimental_op_resolver_type=self._resolver,
                experimental_preserve_all_tensors=True,
            )
        invoke(self._preserving, inputs)
        return _read(self._preserving, self.places)

    def _each(self, inputs: Arrays) -> dict[int, np.ndarray]:
        from ai_edge_litert.interpreter import Interpreter

        found: dict[int, np.ndarray] = {}
        with tempfile.TemporaryDirectory() as folder:
            for tensor, at in self.places.items():
                if not self._values[at].operator:
                    continue
                path = Path(folder) / "cut.tflite"
                cut_at(self.model, tensor, path)
                interpreter = Interpreter(model_path=str(path), num_threads=self._subject.threads)
                invoke(interpreter, inputs)
                found[tensor] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        for tensor, at in self.places.items():
            if not self._values[at].operator:
                found[tensor] = inputs[self._values[at].name]
        return found


def described(model: Any) -> tuple[tuple[Value, ...], dict[int, int], tuple[tuple[str, int], ...]]:
    """Describe what a file's first graph computes from its inputs: the tensors, where each is, and the outputs."""
    from convert.formats._tflite_precision import operator_kinds
    from convert.formats.tflite import read_names

    graph = model.subgraphs[0]
    kinds = operator_kinds(model)
    inputs, outputs = read_names(model)
    values = [Value(name, "") for name, _ in inputs]
    places = {tensor: at for at, (_, tensor) in enumerate(inputs)}
    for operator in graph.operators or ():
        taken = tuple(sorted({places[int(i)] for i in _indices(operator.inputs) if int(i) in places}))
        if not taken:
            continue  # NOTE: Why: what is computed from constants alone is folded at the start, and reads as zeros.
        kind = kinds[operator.opcodeIndex]
        for index in _indices(operator.outputs):
            name = (graph.tensors[index].name or b"").decode(errors="replace")
            places[int(index)] = len(values)
            values.append(Value(name, kind, taken, layers_of(name), "", kind in MOVES))
    return tuple(values), places, tuple((name, places[tensor]) for name, tensor in outputs if tensor in places)


def _indices(found: Any) -> list[int]:
    return [] if found is None else [int(index) for index in found]


def layers_of(name: str) -> tuple[str, ...]:
    """Split a tensor's name into the layers that were fused into it, the last one first.

    >>> layers_of("model/stem/2;;model/stem/1;;model/stem/0;2")
    ('model/stem/2', 'model/stem/1', 'model/stem/0')
    """
    return tuple(part for part in name.split(";") if part and not part.isdigit())


def numbers(tensor: Any, array: np.ndarray) -> np.ndarray | None:
    """Give the numbers that a tensor's integers stand for, or its own; None where they are scaled by channel."""
    import numpy as np

    if array.dtype.kind == "f":
        return array
    stated = tensor.quantization
    if stated is None or stated.scale is None or not len(stated.scale):
        return array
    if len(stated.scale) > 1:
        return None
    zero = int(stated.zeroPoint[0]) if stated.zeroPoint is not None and len(stated.zeroPoint) else 0
    found: np.ndarray = ((array.astype(np.float64) - zero) * float(stated.scale[0])).astype(np.float32)
    return found


def invoke(interpreter: Any, inputs: Arrays) -> None:
    """Run an interpreter's graph on inputs named as its signature, or its tensors, say."""
    signatures = interpreter.get_signature_list()
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    if signatures:
        key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
        runner = interpreter.get_signature_runner(key)
        runner(**inputs)
        return
    for name, array in inputs.items():
        interpreter.resize_tensor_input(details[name]["index"], array.shape, strict=False)
    interpreter.allocate_tensors()
    for name, array in inputs.items():
        interpreter.set_tensor(details[name]["index"], array)
    interpreter.invoke()


def _read(interpreter: Any, places: dict[int, int]) -> dict[int, np.ndarray]:
    import numpy as np

    found = {}
    for tensor in places:
        try:
            found[tensor] = np.array(interpreter.get_tensor(tensor))
        except ValueError:  # of a type without numbers, or without a buffer
            continue
    return found


def cut_at(model: Any, tensor: int, path: Path) -> None:
    """Write a copy of a file that ends at one tensor, its only output."""
    from convert.formats.tflite import write_model

    cut = copy.copy(model)
    graph = copy.copy(model.subgraphs[0])
    needed = {tensor}
    kept = []
    for operator in reversed(graph.operators):
        if needed & set(_indices(operator.outputs)):
            needed |= set(_indices(operator.inputs))
            kept.append(operator)
    graph.operators = kept[::-1]
    graph.outputs = [tensor]
    cut.subgraphs = [graph, *model.subgraphs[1:]]
    cut.signatureDefs = [_ending_at(signature, tensor) for signature in _default(model)]
    write_model(path, cut)


def _default(model: Any) -> list[Any]:
    from convert.formats.tflite import default_signature

    found = default_signature(model)
    return [] if found is None else [found]


def _ending_at(signature: Any, tensor: int) -> Any:
    ended = copy.copy(signature)
    entry = copy.copy(signature.outputs[0])
    entry.name, entry.tensorIndex = b"cut", tensor
    ended.outputs = [entry]
    return ended


def open_litert(subject: Subject) -> LiteRTProbe:
    """Open the file; raises LoadError where LiteRT refuses it."""
    try:
        return LiteRTProbe(subject)
    except (ValueError, RuntimeError) as error:
        raise cannot_open("LiteRT", subject.file.path, error) from error


def open_cut(subject: Subject) -> LiteRTProbe:
    """Open the file to be cut at every tensor."""
    return LiteRTProbe(subject, cut=True)


def isolate(job: Isolation) -> Isolated:
    """Write one operator with its constants to a file of its own, and run it there."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    from convert.formats._tflite_precision import operator_kinds
    from convert.formats.tflite import write_model
    from validators.runtimes import feed

    probe = open_litert(job.subject)
    with np.load(job.inputs) as arrays:
        trace = probe.run(feed(arrays, job.case, job.feeds))
    model = probe.model
    graph = model.subgraphs[0]
    tensor = probe.tensor(job.position)
    (operator,) = (item for item in graph.operators if tensor in _indices(item.outputs))
    taken = [i for i in dict.fromkeys(_indices(operator.inputs)) if i in probe.places]
    alone = copy.copy(model)
    alone_graph = copy.copy(graph)
    alone_graph.operators = [operator]
    alone_graph.inputs, alone_graph.outputs = taken, [tensor]
    alone_graph.tensors = [_sized(item, trace, probe.places.get(at)) for at, item in enumerate(graph.tensors)]
    alone.subgraphs = [alone_graph, *model.subgraphs[1:]]
    alone.signatureDefs = None
    path = Path(job.out) / "operator.tflite"
    write_model(path, _swept(alone))
    names = [(item.name or b"").decode(errors="replace") for item in (graph.tensors[i] for i in taken)]
    given = [trace.raw[probe.places[i]] for i in taken]
    np.savez(Path(job.out) / "inputs.npz", **dict(zip(names, given, strict=True)))
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        for detail, array in zip(interpreter.get_input_details(), given, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    except (ValueError, RuntimeError) as error:
        raise LoadError(f"the operator does not run alone: {summary(error, 2)}") from error
    stood_for = numbers(graph.tensors[tensor], answer)
    np.save(Path(job.out) / "answer.npy", answer if stood_for is None else stood_for)
    kind = operator_kinds(model)[operator.opcodeIndex]
    return Isolated(str(path), str(Path(job.out) / "inputs.npz"), str(Path(job.out) / "answer.npy"), (kind,))


def _sized(tensor: Any, trace: Trace, at: int | None) -> Any:
    """Give a tensor the size it has in a run, where it is computed in one."""
    if at is None or at not in trace.raw:
        return tensor
    found = copy.copy(tensor)
    found.shape, found.shapeSignature = list(trace.raw[at].shape), None
    return found


def _swept(model: Any) -> Any:
    """Leave out the tensors and buffers that nothing uses any more; of the first graph, the others stay whole."""
    from convert.formats.tflite import METADATA

    graph = model.subgraphs[0]
    operator = graph.operators[0]
    used = sorted(
        {
            i
            for i in (*_indices(operator.inputs), *_indices(operator.outputs), *_indices(operator.intermediates))
            if i >= 0
        }
    )
    moved = {old: new for new, old in enumerate(used)} | {-1: -1}
    operator = copy.copy(operator)
    operator.inputs = [moved[i] for i in _indices(operator.inputs)]
    operator.outputs = [moved[i] for i in _indices(operator.outputs) if i in moved]
    if operator.intermediates is not None:
        operator.intermediates = [moved[i] for i in _indices(operator.intermediates)]
    graph.operators = [operator]
    graph.tensors = [copy.copy(graph.tensors[i]) for i in used]
    graph.inputs, graph.outputs = [moved[i] for i in graph.inputs], [moved[i] for i in graph.outputs]
    model.metadata = [entry for entry in model.metadata or () if entry.name != METADATA]
    kept = {0} | {tensor.buffer for item in model.subgraphs for tensor in item.tensors}
    kept |= {entry.buffer for entry in model.metadata}
    empty = type(model.buffers[0])
    model.buffers = [buffer if at in kept else empty() for at, buffer in enumerate(model.buffers)]
    return model


TAPS.register(
    Tap(
        "litert",
        LITERT,
        open_litert,
        formats=("tflite",),
        runtime="litert",
        isolate=isolate,
        open_cut=open_cut,
        step=step,
    )
)
