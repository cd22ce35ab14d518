"""Adding to a TFLite graph: constants, and operators that compute from the inputs' sizes before all others run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convert.formats.tflite import DTYPES
from convert.spec import Scale

INT32 = "int32"

#: Versions at which runtimes register operators that had none before (tflite/kernels/register.cc).
FIRST_VERSIONS = {"BROADCAST_TO": 2}

#: Operators whose options are not called after them.
OPTIONS = {"REDUCE_MAX": "ReducerOptions", "REDUCE_MIN": "ReducerOptions"}


@dataclass(frozen=True, slots=True)
class Size:
    """A size that follows the inputs: a multiple of the product of free dimensions, and a number added to it."""

    factor: int
    dimensions: tuple[str, ...]
    offset: int = 0


class Additions:
    """What is added to one graph; equal values are computed once."""

    def __init__(self, model: Any, places: dict[str, tuple[int, int]], graph: int = 0) -> None:
        """Take the object tree of a file, for every free dimension an input's tensor and its axis, and which graph."""
        self.model = model
        self.graph = model.subgraphs[graph]
        self._places = places
        self._made: dict[object, int] = {}
        self.operators: list[Any] = []  # that were added, in the order they run

    def finish(self) -> None:
        """Put the operators before all others; they depend on inputs and constants only."""
        self.graph.operators = [*self.operators, *self.graph.operators]

    def constant(self, values: Any) -> int:
        """Add a constant tensor of a NumPy array; gives its index."""
        import numpy as np

        key = ("constant", str(values.dtype), values.shape, values.tobytes())
        if key not in self._made:
            buffer = type(self.model.buffers[0])()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            self._made[key] = self._tensor(values.shape, str(values.dtype), len(self.model.buffers) - 1)
        return self._made[key]

    def scalar(self, value: int) -> int:
        """Add an int32 constant without axes."""
        import numpy as np

        return self.constant(np.array(value, np.int32))

    def size(self, size: Size | int) -> int:
        """Compute a size, as an int32 without axes; gives the tensor's index."""
        return self._computed(size, ()) if isinstance(size, Size) else self.scalar(size)

    def vector(self, sizes: Sequence[Size | int]) -> int:
        """Compute a vector of sizes, as shapes are given to operators; gives the tensor's index.

        NOTE: Why parts are vectors that are concatenated, not packed: LiteRT computes SHAPE, GATHER, MUL and
        CONCATENATION of them as it prepares a graph, but PACK only as it runs it (tflite/kernels/pack.cc). A shape that
        is known no sooner makes what has it dynamic; then LiteRT prepares the rest of the graph again in every run,
        and from the second on XNNPACK's parts may answer from memory that was given back (LiteRT 2.3).
        """
        import numpy as np

        parts = [
            self._computed(part, (1,)) if isinstance(part, Size) else self.constant(np.array(part, np.int32))
            for part in _joined(sizes)
        ]
        if len(parts) == 1:
            return parts[0]
        return self.add("CONCATENATION", parts, (len(sizes),), INT32, axis=0)

    def _computed(self, size: Size, shape: tuple[int, ...]) -> int:
        """Compute a size in the form of an int32 without axes, or of a vector of one."""
        import numpy as np

        numbers = {value: self.constant(np.full(shape, value, np.int32)) for value in (size.factor, size.offset)}
        parts = [self._dimension(name, shape) for name in size.dimensions]
        if size.factor != 1:
            parts.append(numbers[size.factor])
        total = parts[0]
        for part in parts[1:]:
            total = self.add("MUL", (total, part), shape, INT32)
        return self.add("ADD", (total, numbers[size.offset]), shape, INT32) if size.offset else total

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: str,
        scale: Scale | None = None,
        **options: object,
    ) -> int:
        """Add an operator with one output of a shape (-1 where it follows the inputs) and dtype; gives its tensor.

        `scale` is what the output's integers stand for.
        """
        from ai_edge_litert import schema_py_generated as schema

        key = (kind, *inputs, scale, dtype, *options.items())
        if key in self._made:
            return self._made[key]
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(schema, kind)
        operator.inputs = list(inputs)
        operator.outputs = [self._tensor(tuple(shape), dtype, 0)]
        if scale is not None:
            self.graph.tensors[operator.outputs[0]].quantization = schema.QuantizationParametersT()
            self.graph.tensors[operator.outputs[0]].quantization.scale = [scale.scale]
            self.graph.tensors[operator.outputs[0]].quantization.zeroPoint = [scale.zero_point]
        name = OPTIONS.get(kind, "".join(word.capitalize() for word in kind.split("_")) + "Options")
        if hasattr(schema, f"{name}T"):
            operator.builtinOptions = getattr(schema, f"{name}T")()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            for option, value in options.items():
                setattr(operator.builtinOptions, option, value)
        self.operators.append(operator)
        self._made[key] = operator.outputs[0]
        return self._made[key]

    def _dimension(self, name: str, shape: tuple[int, ...]) -> int:
        """Read one free dimension, in the form of `shape`, from that of an input that has it."""
        import numpy as np

        tensor, axis = self._places[name]
        rank = len(self.graph.tensors[tensor].shape)
        from ai_edge_litert.schema_py_generated import TensorType

        whole = self.add("SHAPE", (tensor,), (rank,), INT32, outType=TensorType.INT32)
        place = self.constant(np.full(shape, axis, np.int32))
        return self.add("GATHER", (whole, place), shape, INT32, axis=0, batchDims=0)

    def _code(self, schema: Any, kind: str) -> int:
        number = getattr(schema.BuiltinOperator, kind)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = number
        code.deprecatedBuiltinCode = min(number, 127)  # where readers before 2.4 look; 127 stands for all newer ones
        code.version = FIRST_VERSIONS.get(kind, 1)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def _tensor(self, shape: tuple[int, ...], dtype: str, buffer: int) -> int:
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        tensor = schema.TensorT()
        tensor.shape = np.abs(np.array(shape, np.int32))
        if -1 in shape:
            # Without it the kernels of SLICE and others take the shape for final.
            tensor.shapeSignature = np.array(shape, np.int32)
        tensor.type = next(number for number, name in DTYPES.items() if name == dtype)
        tensor.buffer = buffer
        tensor.name = f"edgeproof/{len(self.graph.tensors)}".encode()
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


def _joined(sizes: Sequence[Size | int]) -> list[Size | list[int]]:
    """Join the numbers that stand beside each other."""
    joined: list[Size | list[int]] = []
    for size in sizes:
        if isinstance(size, Size):
            joined.append(size)
        elif joined and isinstance(joined[-1], list):
            joined[-1].append(size)
        else:
            joined.append([size])
    return joined
