"""The costs of a TFLite file: LiteRT's own plan of its memory, its operators' shapes, and its delegate's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.worker import summary
from validators.costs import COSTERS, Coster, Counted, Macs
from validators.costs._tflite_operators import macs_of
from validators.delegation import Examination, examine
from validators.runtimes.litert import LITERT

if TYPE_CHECKING:
    import numpy as np

BASIS = "memory that LiteRT gave to tensors and scratch of its own kernels, without a delegate"

#: Operators that run another graph of the file, as often as the data says.
LOOPS = frozenset({"WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE"})


def count(path: Path, given: Mapping[str, np.ndarray] | None) -> Counted:
    """Count what a file costs; its shapes are those of a run on LiteRT's own kernels, else those that it states."""
    from convert.formats.tflite import read, read_model

    model = read_model(path)
    reasons: dict[str, str] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    activation = None
    if given is None:
        reasons["activation_bytes"] = "it was not run"
    else:
        try:
            shapes, activation = _observed(path, model, given)
        except (ValueError, RuntimeError) as error:
            reasons["activation_bytes"] = f"it does not run on LiteRT's own kernels: {summary(error, 1)}"
    if activation is not None and _kinds(model, 0) & LOOPS:
        activation = None
        reasons["activation_bytes"] = "LiteRT does not show the memory of the graphs that loops and branches run"
    shapes = shapes or _stated(model.subgraphs[0])
    macs = _macs(model, shapes)
    share = parts = None
    try:
        found = examine(Examination(str(path)))
    except LoadError as error:
        reasons["delegated_share"] = reasons["partitions"] = error.message
    else:
        whole = found.delegated + sum(count for _, count in found.undelegated)
        share, parts = (found.delegated / whole if whole else None), found.partitions
        if share is None:
            reasons["delegated_share"] = "it has no operators"
    return Counted(
        weight_bytes=weight_bytes(model),
        activation_bytes=activation,
        basis=BASIS if activation is not None else "",
        macs=macs.all,
        known_macs=macs.known,
        operators=read(path).operators,
        unknown=macs.unknown,
        delegated_share=share,
        partitions=parts,
        reasons=reasons | macs.reason(),
    )


def weight_bytes(model: Any) -> int:
    """Add up the buffers of constant tensors, each once; metadata is none."""
    used = {int(tensor.buffer) for graph in model.subgraphs for tensor in graph.tensors}
    return sum(len(model.buffers[index].data) for index in used if model.buffers[index].data is not None)


def _observed(path: Path, model: Any, given: Mapping[str, np.ndarray]) -> tuple[dict[int, tuple[int, ...]], int]:
    """Run a file once and give the shapes of its tensors, and the bytes that those have that inputs lead to.

    LiteRT's planner gives several tensors the same place where they do not live at once, so what counts is how much of
    the memory's addresses any of them covers.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from validators.taps.litert import described, invoke

    interpreter = Interpreter(
        model_path=str(path),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    invoke(interpreter, given)
    details = interpreter.get_tensor_details()
    shapes = {int(detail["index"]): tuple(int(size) for size in detail["shape"]) for detail in details}
    _, places, _ = described(model)
    graph = model.subgraphs[0]
    states = {index for index, tensor in enumerate(graph.tensors) if tensor.isVariable}
    counted = {*places, *states, *(index for index in shapes if index >= len(graph.tensors))}
    spans = []
    for index in sorted(counted):
        try:
            array = interpreter.tensor(index)()
        except ValueError:  # a tensor that has no memory: folded away, or of a type without numbers
            continue
        start = array.__array_interface__["data"][0]
        spans.append((start, start + array.nbytes))
        del array
    return shapes, covered(spans)


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """Give how many addresses lie in any of the spans."""
    total = end = 0
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total


def _stated(graph: Any) -> dict[int, tuple[int, ...]]:
    """Give the shapes that a graph states, of the tensors whose sizes do not follow the inputs."""
    shapes = {}
    for index, tensor in enumerate(graph.tensors):
        free = tensor.shapeSignature is not None and -1 in list(tensor.shapeSignature)
        if not free and tensor.shape is not None:
            shapes[index] = tuple(int(size) for size in tensor.shape)
    return shapes


def _macs(model: Any, shapes: Mapping[int, tuple[int, ...]]) -> Macs:
    from convert.formats._tflite_precision import operator_kinds

    macs = Macs()
    kinds = operator_kinds(model)
    computes = _computing(model)
    for operator in model.subgraphs[0].operators or ():
        code = model.operatorCodes[operator.opcodeIndex]
        kind = kinds[operator.opcodeIndex]
        called = code.customCode.decode() if kind == "CUSTOM" else kind
        taken = [shapes.get(int(index)) for index in operator.inputs] if operator.inputs is not None else []
        made = shapes.get(int(operator.outputs[0])) if operator.outputs is not None and len(operator.outputs) else None
        transposed = kind == "BATCH_MATMUL" and bool(getattr(operator.builtinOptions, "adjX", False))
        found = macs_of(kind, taken, made, transposed=transposed)
        if kind in LOOPS and not any(computes[index] for index in _called(operator)):
            found = 0
        macs.add(called, found)
    return macs


def _computing(model: Any) -> dict[int, bool]:
    """Say of each graph whether it may make any multiply-accumulates."""
    from validators.costs._tflite_operators import NONE

    kinds = {index: _kinds(model, index) for index in range(len(model.subgraphs))}
    return {index: not found <= NONE for index, found in kinds.items()}


def _kinds(model: Any, graph: int) -> set[str]:
    from convert.formats._tflite_precision import operator_kinds

    kinds = operator_kinds(model)
    return set(Counter(kinds[operator.opcodeIndex] for operator in model.subgraphs[graph].operators or ()))


def _called(operator: Any) -> list[int]:
    """Give the graphs that an operator runs, by the names that the schema's options have for them."""
    named = ("condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex", "initSubgraphIndex")
    found = [getattr(operator.builtinOptions, name, None) for name in (*named, "subgraph")]
    return [int(index) for index in found if index is not None]


COSTERS.register(Coster("tflite", LITERT, count))
