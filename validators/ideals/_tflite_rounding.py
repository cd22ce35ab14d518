"""Rounding a float TFLite graph where, and as, a quantized file of the same graph rounds.

Operators correspond by the names of what they compute, or by their order. What an operator reads is traced back through
the quantized file's conversions to a tensor of the float graph; every rounding on that way is done there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convert.errors import LoadError, OtherFunction
from convert.formats._tflite_graph import Additions
from convert.formats._tflite_precision import operator_kinds
from convert.formats.tflite import DTYPES
from convert.spec import Scale
from validators.ideals._tflite_numbers import Stored, is_constant, numbers, stored, write_floats

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")

#: Operators whose kernels quantize a float input as they run where their weights are integers, and its position.
DYNAMIC = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "TRANSPOSE_CONV": 2, "BATCH_MATMUL": 0}

#: Functions of one value, none of which a quantizer puts in another's place. RELU6 and the like are left out: where the
#: quantized range ends there, RELU is the same.
FUNCTIONS = frozenset(
    ("ABS", "COS", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "LOG_SOFTMAX", "NEG", "RELU",
     "RSQRT", "SIN", "SOFTMAX", "SQRT", "SQUARE", "TANH")
)  # fmt: skip

#: The least scale, where a row is all zeros.
LEAST_SCALE = 1e-30


class Unmatched(LoadError):
    """A quantized file whose operators are not those of the float one."""


def round_as(base: Any, reduced: Any) -> dict[int, int]:
    """Round the float graph as the quantized one does, in place.

    Gives, for the tensors that the first graph computes or takes, which of the quantized file's each one is.

    Raises Unmatched where the operators do not correspond by name, OtherFunction where they do and compute something
    else, LoadError where a rounding cannot be simulated.
    """
    if len(base.subgraphs) != len(reduced.subgraphs):
        raise Unmatched("the quantized file has other subgraphs than the float one")
    graphs = [_Graph(base, reduced, number) for number in range(len(base.subgraphs))]
    for graph in graphs:
        graph.round()
    return graphs[0].twins


@dataclass(slots=True)
class _Trace:
    """Where a tensor of the quantized file comes from, and the roundings on the way."""

    root: int
    roundings: list[Stored] = field(default_factory=list)


class _Graph:
    """One graph of the float file on its way, beside its counterpart."""

    def __init__(self, base: Any, reduced: Any, number: int) -> None:
        self.base, self.reduced = base, reduced
        self.graph, self.other = base.subgraphs[number], reduced.subgraphs[number]
        self.added = Additions(base, {}, number)
        self.kinds, self.other_kinds = operator_kinds(base), operator_kinds(reduced)
        self.made = {int(out): op for op in self.other.operators or () for out in op.outputs}
        self.rounded: dict[tuple[int, Stored], int] = {}
        self.twins: dict[int, int] = {}  # the quantized file's tensors of the float one's that are computed

    def round(self) -> None:
        """Round what every operator reads, and what the graph gives."""
        pairs = self._pairs()
        self.twins = dict(zip(map(int, self.graph.inputs), map(int, self.other.inputs), strict=True))
        for operator, twin in pairs:
            self.twins |= dict(zip(map(int, operator.outputs), map(int, twin.outputs), strict=True))
        for operator, twin in pairs:
            operator.inputs = [
                self._as_read(int(index), int(read)) for index, read in zip(operator.inputs, twin.inputs, strict=True)
            ]
            self._dynamic(self.kinds[operator.opcodeIndex], operator, twin)
        self._give()
        self.graph.operators = _sorted([*(operator for operator, _ in pairs), *self.added.operators])

    def _pairs(self) -> list[tuple[Any, Any]]:
        """Pair the operators of both graphs: by what they compute, else by their order where it is the same.

        TFLiteConverter names tensors anew where it quantizes, and keeps the order.
        """
        own = list(self.graph.operators or ())
        others = [op for op in self.other.operators or () if self.other_kinds[op.opcodeIndex] not in CONVERSIONS]
        named = {self.other.tensors[int(op.outputs[0])].name: op for op in others if len(op.outputs)}
        found = [named.get(self.graph.tensors[int(op.outputs[0])].name) if len(op.outputs) else None for op in own]
        for twins in (found, others):
            pairs = list(zip(own, twins, strict=False))
            if len(own) == len(twins) and all(twin is not None and self._alike(op, twin) for op, twin in pairs):
                return pairs
            if len(own) == len(twins) and all(twin is not None and self._near(op, twin) for op, twin in pairs):
                raise OtherFunction(self._replaced(pairs))
        raise Unmatched("the operators of the quantized file are not those of the float one")

    def _near(self, operator: Any, twin: Any) -> bool:
        """Whether two operators are alike, or compute two functions that no quantizer exchanges."""
        kinds = {self.kinds[operator.opcodeIndex], self.other_kinds[twin.opcodeIndex]}
        places = (len(operator.inputs), len(operator.outputs)) == (len(twin.inputs), len(twin.outputs))
        return places and (len(kinds) == 1 or kinds <= FUNCTIONS)

    def _replaced(self, pairs: list[tuple[Any, Any]]) -> str:
        """Name the first operator that computes something else."""
        for operator, twin in pairs:
            own, other = self.kinds[operator.opcodeIndex], self.other_kinds[twin.opcodeIndex]
            if own != other:
                name = self.graph.tensors[int(operator.outputs[0])].name.decode()
                return f"{name} is computed by {other}, in the float file by {own}"
        raise ValueError("every operator is alike")

    def _alike(self, operator: Any, twin: Any) -> bool:
        return (
            self.kinds[operator.opcodeIndex] == self.other_kinds[twin.opcodeIndex]
            and len(operator.inputs) == len(twin.inputs)
            and len(operator.outputs) == len(twin.outputs)
        )

    def _give(self) -> None:
        outputs = [
            self._as_read(int(index), int(read))
            for index, read in zip(self.graph.outputs, self.other.outputs, strict=True)
        ]
        instead = dict(zip(map(int, self.graph.outputs), outputs, strict=True))
        self.graph.outputs = outputs
        for definition in self.base.signatureDefs or ():
            if self.base.subgraphs[definition.subgraphIndex] is self.graph:
                for entry in definition.outputs:
                    entry.tensorIndex = instead.get(int(entry.tensorIndex), entry.tensorIndex)

    def _as_read(self, index: int, read: int) -> int:
        """Give a tensor of the float graph as rounded as its counterpart is where it is read."""
        if index < 0 or read < 0:
            return index
        trace = self._trace(read)
        if not is_constant(self.base, self.graph.tensors[index]) and self.twins.get(index) != trace.root:
            raise Unmatched(f"what reads {self.graph.tensors[index].name.decode()} reads another tensor when quantized")
        for rounding in trace.roundings:
            index = self._round(index, rounding, trace.root)
        return index

    def _trace(self, read: int) -> _Trace:
        roundings: list[Stored] = []
        while True:
            how = stored(self.other.tensors[read])
            if how is not None:
                roundings.append(how)
            operator = self.made.get(read)
            if operator is None or self.other_kinds[operator.opcodeIndex] not in CONVERSIONS:
                return _Trace(read, roundings[::-1])
            read = int(operator.inputs[0])

    def _round(self, index: int, how: Stored, root: int) -> int:
        key = (index, how)
        if key not in self.rounded:
            tensor = self.graph.tensors[index]
            if DTYPES.get(tensor.type) != "float32":
                raise Unmatched(f"{tensor.name.decode()} is no float tensor in the float file")
            constant = is_constant(self.base, tensor)
            self.rounded[key] = self._constant(tensor, how, root) if constant else self._activation(index, how)
        return self.rounded[key]

    def _constant(self, tensor: Any, how: Stored, root: int) -> int:
        import copy

        import numpy as np

        values = np.frombuffer(bytes(self.base.buffers[tensor.buffer].data), np.float32)
        twin = copy.copy(tensor)
        twin.name = b"%s/%d" % (tensor.name, len(self.graph.tensors))
        shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        model = self.other.tensors[root]
        held = is_constant(self.reduced, model) and stored(model) == how and how.dtype != "float16"
        integers = numbers(self.reduced, model, how) if held else None
        write_floats(self.base, twin, how.rounded(values.reshape(shape), integers))
        self.graph.tensors.append(twin)
        return len(self.graph.tensors) - 1

    def _activation(self, index: int, how: Stored) -> int:
        """Quantize and dequantize, as the runtime itself does."""
        shape = self._shape(index)
        if how.dtype == "float16":
            return self.added.add("CAST", [self.added.add("CAST", [index], shape, "float16")], shape, "float32")
        if len(how.scales) != 1:
            raise LoadError(f"{self.graph.tensors[index].name.decode()} has a scale per channel, which none computes")
        scale = Scale(how.scales[0], how.zero_points[0])
        integers = self.added.add("QUANTIZE", [index], shape, how.dtype, scale)
        return self.added.add("DEQUANTIZE", [integers], shape, "float32")

    def _shape(self, index: int) -> list[int]:
        tensor = self.graph.tensors[index]
        sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        return [] if sizes is None else [int(size) for size in sizes]

    def _dynamic(self, kind: str, operator: Any, twin: Any) -> None:
        """Round the float input of an operator with integer weights per row or image, as its kernel does."""
        position = DYNAMIC.get(kind, -1)
        if position < 0 or stored(self.other.tensors[int(twin.inputs[position])]) is not None:
            return
        weights = self.other.tensors[int(twin.inputs[1])]
        how = stored(weights)
        if how is None or how.dtype not in ("int8", "uint8", "int4") or not is_constant(self.reduced, weights):
            return
        shape = self._shape(int(operator.inputs[position]))
        rows = kind in ("FULLY_CONNECTED", "BATCH_MATMUL") or (kind == "CONV_2D" and _is_pointwise(operator, weights))
        axes = [len(shape) - 1] if rows else list(range(1, len(shape)))
        operator.inputs[position] = self._per_row(int(operator.inputs[position]), axes)

    def _per_row(self, index: int, axes: list[int]) -> int:
        """Round to 255 steps between the least and the greatest value over `axes`, zero among them."""
        import numpy as np

        shape = self._shape(index)
        row = [1 if axis in axes else size for axis, size in enumerate(shape)]
        over = self.added.constant(np.array(axes, np.int32))

        def number(value: float) -> int:
            return self.added.constant(np.array(value, np.float32))

        def add(kind: str, *inputs: int, sizes: list[int] = row) -> int:
            return self.added.add(kind, inputs, sizes, "float32")

        def reduce(kind: str) -> int:
            return self.added.add(kind, (index, over), row, "float32", keepDims=True)

        least, most = (
            add("MINIMUM", reduce("REDUCE_MIN"), number(0.0)),
            add("MAXIMUM", reduce("REDUCE_MAX"), number(0.0)),
        )
        step = add("MAXIMUM", add("MUL", add("SUB", most, least), number(1 / 255)), number(LEAST_SCALE))
        steps = add("ROUND", add("DIV", index, step, sizes=shape), sizes=shape)
        return add("MUL", steps, step, sizes=shape)


def _is_pointwise(operator: Any, weights: Any) -> bool:
    """Whether a convolution is a product of matrices, in which XNNPACK scales every pixel by itself."""
    options = operator.builtinOptions
    return [int(size) for size in weights.shape[1:3]] == [1, 1] and (options.strideH, options.strideW) == (1, 1)


def _sorted(operators: list[Any]) -> list[Any]:
    """Order operators so that each comes after those whose tensors it reads, else as they were."""
    made = {int(out): op for op in operators for out in op.outputs}
    placed: set[int] = set()
    ordered: list[Any] = []

    def place(first: Any) -> None:
        pending: list[tuple[Any, bool]] = [(first, False)]
        while pending:
            operator, ready = pending.pop()
            if id(operator) in placed:
                continue
            if ready:
                placed.add(id(operator))
                ordered.append(operator)
                continue
            pending.append((operator, True))
            pending += [(made[int(i)], False) for i in operator.inputs if int(i) in made]

    for operator in operators:
        place(operator)
    return ordered
