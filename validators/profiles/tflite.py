"""LiteRT's own profile of a TFLite file, operators inside the XNNPACK delegate included."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from validators.delegation import Examination, examine
from validators.profiles import PROFILERS, Operator, Profiler, Taken, repeat, typical
from validators.runtimes import Arrays, Subject
from validators.runtimes.litert import LITERT

ENGINE = "LiteRT with XNNPACK, by its own profiler"

#: How far ahead an operator of the file is looked for that one of the delegate's stands for: the delegate leaves out
#: what it joins to a neighbour, as activations and paddings.
AHEAD = 8

#: What XNNPACK calls its operators where that is no operator of TFLite's in other letters.
STANDS_FOR = {
    "Convolution": {"CONV_2D", "DEPTHWISE_CONV_2D"},
    "Fully Connected": {"FULLY_CONNECTED", "CONV_2D"},  # a convolution of one place is a product
    "Dynamic Fully Connected": {"FULLY_CONNECTED", "BATCH_MATMUL"},
    "Batch Matrix Multiply": {"BATCH_MATMUL"},
    "Deconvolution": {"TRANSPOSE_CONV"},
    "Static Reshape": {"RESHAPE", "EXPAND_DIMS", "SQUEEZE"},
    "Copy": {"RESHAPE", "EXPAND_DIMS", "SQUEEZE"},
    "Slice": {"SLICE", "STRIDED_SLICE", "SPLIT"},
    "Constant Pad": {"PAD", "PADV2"},
    "Multiply": {"MUL"},
    "Subtract": {"SUB"},
    "Divide": {"DIV"},
    "Reciprocal Square Root": {"RSQRT"},
    "Square Root": {"SQRT"},
    "Negate": {"NEG"},
    "Exp": {"EXP"},
    "Sigmoid": {"LOGISTIC"},
    "Clamp": {"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"},
    "HardSwish": {"HARD_SWISH"},
    "Max Pooling": {"MAX_POOL_2D"},
    "Average Pooling": {"AVERAGE_POOL_2D"},
    "Global Average Pooling": {"MEAN", "AVERAGE_POOL_2D"},
    "Concatenate": {"CONCATENATION"},
    "Convert": {"QUANTIZE", "DEQUANTIZE"},
    "Resize Bilinear": {"RESIZE_BILINEAR"},
}


def take(subject: Subject, given: Arrays) -> Taken:
    """Run a file with LiteRT's profiler on, and give every operator the layer that the file names."""
    from convert.formats.tflite import read_model
    from validators.profiles._litert import Event, Profiled

    path = Path(subject.file.path)
    delegation = examine(Examination(str(path)))  # first, since it refuses a damaged file where the other would crash
    profiled = Profiled(path, dict(given))
    taken: list[list[Event]] = []
    recording = False

    def run() -> None:
        taken.append(profiled.timed()) if recording else profiled.run()

    def record() -> None:
        nonlocal recording
        recording = True

    runs, run_seconds = repeat(run, record)
    seen: dict[tuple[int, str], list[float]] = defaultdict(list)
    for events in taken:
        for place, event in enumerate(events):
            seen[place, event.name].append(event.elapsed * 1e-6)
    seconds = typical(seen)
    nodes = nodes_of(read_model(path))
    places = match([(event.name, event.delegated, event.index) for event in taken[0]], nodes, set(delegation.left))
    operators = []
    for at, (event, found) in enumerate(zip(taken[0], places, strict=True)):
        node = None if found is None else nodes[found]
        kind, layer, weight = (called(event.name), "", "") if node is None else (node.kind, node.layer, node.weight)
        operators.append(Operator(kind, layer, seconds[at, event.name], delegated=event.delegated, weight=weight))
    return Taken(ENGINE, runs, tuple(operators), run_seconds, delegation.partitions)


class Node:
    """One operator of a file's graph: its kind, the layer that its output names, its first constant and output."""

    def __init__(self, kind: str, layer: str, weight: str, output: int) -> None:
        self.kind, self.layer, self.weight, self.output = kind, layer, weight, output


def nodes_of(model: Any) -> list[Node]:
    """List the operators of a file's main graph."""
    from convert.formats._tflite_precision import operator_kinds
    from validators.taps.litert import layers_of

    graph, kinds = model.subgraphs[0], operator_kinds(model)
    nodes = []
    for operator in graph.operators or ():
        output = int(operator.outputs[0]) if operator.outputs is not None and len(operator.outputs) else -1
        name = (graph.tensors[output].name or b"").decode(errors="replace") if output >= 0 else ""
        inputs = [] if operator.inputs is None else [int(index) for index in operator.inputs]
        held = [index for index in inputs if index >= 0 and model.buffers[graph.tensors[index].buffer].data is not None]
        weight = (graph.tensors[held[0]].name or b"").decode(errors="replace") if held else ""
        # Tensors of unnamed modules are numbered, and only the whole name tells them apart.
        layer = next(iter(layers_of(name)), "")
        nodes.append(Node(kinds[operator.opcodeIndex], name if layer == "model" else layer, weight, output))
    return nodes


def match(events: Sequence[tuple[str, bool, int]], nodes: Sequence[Node], left: set[int]) -> list[int | None]:
    """Say which of the file's operators each event is of, by their order; None where none is found.

    An event is a name, whether it is of the delegate, and its number: in the graph, or of the delegate's own.
    """
    delegated = [at for at, node in enumerate(nodes) if node.output not in left]
    found: list[int | None] = []
    position = 0
    for name, inside, index in events:
        if not inside:
            found.append(index if index < len(nodes) else None)
            continue
        stands_for = kinds_of(name)
        near = delegated[position : position + AHEAD]
        ahead = next((at for at, node in enumerate(near) if nodes[node].kind in stands_for), None)
        found.append(None if ahead is None else near[ahead])
        position += 0 if ahead is None else ahead + 1
    return found


def called(name: str) -> str:
    """Name an operator of XNNPACK's without its types and kernel.

    >>> called("Convolution (NHWC, F32) IGEMM")
    'Convolution'
    """
    return re.sub(r"\s*\(.*", "", name)


def kinds_of(name: str) -> set[str]:
    """Say which of TFLite's operators one of XNNPACK's may stand for."""
    plain = called(name)
    return STANDS_FOR.get(plain, {plain.upper().replace(" ", "_")})


PROFILERS.register(Profiler("tflite", LITERT, take))
