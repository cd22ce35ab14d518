"""Giving a TFLite file that was converted at fixed sizes its free dimensions back.

litert-torch cannot export a free batch or sequence length (litert-torch#870, #685, #711). Converted at unusual prime
sizes, the places where a size went into the graph are recognisable: axes of activations, shapes given to operators, and
constants with a row per element. Shapes are computed from the inputs as the graph runs, where -1 does not say it;
constants are shrunk, computed or cut from the weights they came from. A file in which a size went anywhere else is
refused. Parity over several sizes proves the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.errors import RouteError
from convert.formats._tflite_graph import Additions, Size
from convert.formats.tflite import DTYPES, read_model, write_model
from convert.sources._measure import OTHER_SIZES
from convert.spec import BATCH, Signature

#: Batch sizes to convert at: primes of which few other sizes, positions or paddings are multiples.
BATCH_PRIMES = (37, 41, 43, 47, 53)

#: Sizes of other free dimensions, those first that lie between the two the model was seen to run at.
OTHER_PRIMES = (23, 19, 31, 29, 43, 47, 53)

#: By how much, as a share of its value, a number counted in float32 may differ from its place in the sequence: a few
#: times the rounding of float32, 6e-8.
STEP_TOLERANCE = 5e-7

#: By how much a cosine may differ from that of its position times its frequency: the angle is rounded to float32 first.
WAVE_TOLERANCE = 1e-5

#: Operators and the position of their input that is a shape.
SHAPES = frozenset(
    {
        *(("RESHAPE", 1), ("BROADCAST_TO", 1), ("SLICE", 2), ("FILL", 0), ("TILE", 1), ("STRIDED_SLICE", 2)),
        *(("RESIZE_BILINEAR", 1), ("RESIZE_NEAREST_NEIGHBOR", 1), ("TRANSPOSE_CONV", 0), ("SCATTER_ND", 2)),
    }
)

#: Operators that take a constant only at its full size; others broadcast it, which parity proves.
UNBROADCAST = ("CONCATENATION", "PACK", "SELECT", "GATHER_ND", "RESHAPE", "TRANSPOSE", "SLICE", "BATCH_MATMUL")


def recognisable_sizes(names: Iterable[str], taken: Iterable[int]) -> dict[str, int]:
    """Choose a prime for every free dimension, of which none of the sizes `taken` is a multiple."""
    fixed = [size for size in set(taken) if size > 1]
    sizes: dict[str, int] = {}
    for name in names:
        for prime in BATCH_PRIMES if name == BATCH else OTHER_PRIMES:
            if prime not in sizes.values() and all(size % prime for size in fixed):
                sizes[name] = prime
                break
        else:
            raise RouteError(f"no size of {name} can be told apart from this model's own")
    return sizes


def free_sizes(path: Path, sizes: Mapping[str, int], signature: Signature, tables: Sequence[Any]) -> tuple[str, ...]:
    """Free the dimensions of a file that was converted at `sizes`, in place; gives what had to be computed, as notes.

    `signature` is the promise, whose inputs and outputs the file calls `args_0`, ... and `output_0`, ...; `tables` are
    the model's weights of two axes, NumPy arrays, in which constants with a row per position are looked up, and of one
    axis, which may be frequencies.
    """
    model = read_model(path)
    if len(model.subgraphs) != 1:
        raise RouteError("the graph has loops or branches, whose bodies may hold the sizes")
    freeing = _Freeing(model, sizes, signature, tables)
    freeing.free()
    write_model(path, model)
    return tuple(freeing.rescues)


class _Freeing:
    """One file on its way."""

    def __init__(self, model: Any, sizes: Mapping[str, int], signature: Signature, tables: Sequence[Any]) -> None:
        self.model = model
        self.graph = model.subgraphs[0]
        self.sizes = sizes
        self.tables = tables
        self.rescues: dict[str, None] = {}
        definition = model.signatureDefs[0]
        named = {_text(entry.name): entry.tensorIndex for entry in (*definition.inputs, *definition.outputs)}
        self.promised = {
            named[f"{prefix}_{position}"]: spec
            for prefix, specs in (("args", signature.inputs), ("output", signature.outputs))
            for position, spec in enumerate(specs)
            if f"{prefix}_{position}" in named
        }
        places = {
            dim: (index, axis)
            for index, spec in self.promised.items()
            if index in set(self.graph.inputs)
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        }
        self.added = Additions(model, places)

    def free(self) -> None:
        """Free the constants that operators take, then declare the sizes of what is computed."""
        kinds = self._kinds()
        constants = [self._values(tensor) is not None for tensor in self.graph.tensors]
        for operator in self.graph.operators:
            kind = kinds[operator.opcodeIndex]
            operator.inputs = [int(index) for index in operator.inputs]
            for position, index in enumerate(operator.inputs):
                if index < 0 or not constants[index]:
                    continue
                if (kind, position) in SHAPES:
                    operator.inputs[position] = self._shape(kind, operator, index)
                elif (kind, position) != ("SLICE", 1):
                    whole = kind in UNBROADCAST or not self._met(operator, constants)
                    operator.inputs[position] = self._constant(index, whole=whole and kind != "BROADCAST_TO")
            if kind == "RESHAPE" and operator.builtinOptions is not None:
                operator.builtinOptions.newShape = None
        self._declare(constants)
        self._forget()
        self.added.finish()

    def _kinds(self) -> list[str]:
        from ai_edge_litert.schema_py_generated import BuiltinOperator

        names = {value: key for key, value in vars(BuiltinOperator).items() if isinstance(value, int)}
        return [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in self.model.operatorCodes]

    def _size(self, number: int) -> Size | None:
        """Read a number as a multiple of free dimensions, or None where it is of none."""
        dimensions: list[str] = []
        factor = int(number)
        for name, prime in self.sizes.items():
            while factor > 0 and factor % prime == 0:
                factor //= prime
                dimensions.append(name)
        return Size(factor, tuple(dimensions)) if dimensions else None

    def _shape(self, kind: str, operator: Any, index: int) -> int:
        """Let a constant shape follow the inputs: by -1 where one axis of a reshape or the rest of a slice says it."""
        values = [int(number) for number in self._values(self.graph.tensors[index]).ravel()]
        found: list[Size | int] = [self._size(number) or number for number in values]
        if kind == "SLICE":
            found = self._sliced(operator, values, found)
        free = [axis for axis, size in enumerate(found) if isinstance(size, Size)]
        if kind == "RESHAPE" and len(free) == 1 and -1 not in values:
            found[free[0]] = -1
        elif free:
            self.rescues["shapes are computed from the inputs' sizes as the graph runs"] = None
        return index if found == values else self.added.vector(found)

    def _sliced(self, operator: Any, values: list[int], found: list[Size | int]) -> list[Size | int]:
        """Let a slice reach to the end of an axis where it did, or begin as far from the end as it did."""
        inputs = [int(size) for size in self.graph.tensors[operator.inputs[0]].shape]
        begin = self._values(self.graph.tensors[operator.inputs[1]])
        if begin is None:
            return found
        starts = [int(number) for number in begin.ravel()]
        begins: list[Size | int] = [*starts]
        for axis, (length, start, size) in enumerate(zip(inputs, starts, values, strict=True)):
            whole = self._size(length)
            if whole is None or start + size != length:
                continue
            if 2 * start > length:
                begins[axis] = Size(whole.factor, whole.dimensions, start - length)
                found[axis] = size
            else:
                found[axis] = -1
        if any(isinstance(start, Size) for start in begins):
            operator.inputs[1] = self.added.vector(begins)
        return found

    def _met(self, operator: Any, constants: list[bool]) -> bool:
        """Whether an operator has another input as large as its output, to which a shrunken constant is broadcast."""
        shapes = [
            list(self.graph.tensors[index].shape)
            for index in operator.inputs
            if 0 <= index < len(constants) and not constants[index] and self.graph.tensors[index].shape is not None
        ]
        return list(self.graph.tensors[operator.outputs[0]].shape) in shapes

    def _constant(self, index: int, *, whole: bool) -> int:
        """Free a constant with an axis of a free size, kept `whole` or shrunken; gives the tensor to take in its place.

        Raises RouteError where it holds more than can be shrunk, computed or cut from a weight.
        """
        tensor = self.graph.tensors[index]
        shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
        sizes = [self._size(size) for size in shape]
        if not any(sizes):
            return index
        values = self._values(tensor)
        for axis, size in enumerate(sizes if list(values.shape) == shape else ()):
            if size and _alike(values, axis):
                values = values.take([0], axis)
        left = [axis for axis, size in enumerate(sizes) if size and values.shape[axis:][:1] != (1,)]
        made = self.added.constant(values) if not left else self._computed(values, left)
        if made is None:
            dimensions = ", ".join(sorted({name for size in sizes if size for name in size.dimensions}))
            raise RouteError(
                f"the size of {dimensions} is part of a constant, {_text(tensor.name)[:80]}",
                fix=f"give it a size: --fix {dimensions.split(',')[0]}={OTHER_SIZES[0]}",
            )
        if whole and any(values.shape[axis] != shape[axis] for axis in range(len(shape))):
            target = self.added.vector([size or number for size, number in zip(sizes, shape, strict=True)])
            made = self.added.add("BROADCAST_TO", (made, target), self._open(shape), str(values.dtype))
        return made

    def _computed(self, values: Any, axes: list[int]) -> int | None:
        """Compute a constant that differs along `axes`: counting, a triangle, or rows of a weight."""
        if values.ndim <= max(axes):
            return None
        sizes = [self._size(values.shape[axis]) for axis in axes]
        if any(size is None or size.factor != 1 or len(size.dimensions) != 1 for size in sizes):
            return None
        others = [length for axis, length in enumerate(values.shape) if axis not in axes]
        if len(axes) == 1:
            counted = self._counting(values, axes[0], sizes[0])
            rows = self._rows(values, axes[0], sizes[0]) if counted is None else counted
            return self._waves(values, axes[0], sizes[0]) if rows is None else rows
        if len(axes) == 2 and sizes[0] == sizes[1] and all(length == 1 for length in others):
            return self._triangle(values, axes, sizes[0])
        return None

    def _counting(self, values: Any, axis: int, size: Size | None) -> int | None:
        """Compute what grows by equal steps along one axis."""
        import numpy as np

        if values.dtype not in (np.int32, np.float32):
            return None
        count = values.shape[axis]
        first, last = values.take([0], axis), values.take([-1], axis)
        line = np.arange(count).reshape([-1 if at == axis else 1 for at in range(values.ndim)])
        step = (last.astype(np.float64) - first) / (count - 1)
        if not np.allclose(values, first + line * step, rtol=STEP_TOLERANCE, atol=0):
            return None
        step = step.astype(values.dtype)
        dtype, shape = str(values.dtype), self._open(values.shape)
        made = self._range(line.shape, axis, size, dtype)
        if not (step == 1).all():
            made = self.added.add("MUL", (made, self.added.constant(step)), shape, dtype)
        if not (first == 0).all():
            made = self.added.add("ADD", (made, self.added.constant(first)), shape, dtype)
        return made

    def _open(self, shape: Sequence[int]) -> list[int]:
        """Give a shape with -1 for its free sizes."""
        return [-1 if self._size(length) else length for length in shape]

    def _range(self, shape: Sequence[int], axis: int, size: Size | None, dtype: str = "int32") -> int:
        """Count from zero along one axis of a tensor whose others have one element."""
        import numpy as np

        count = self.added.add(
            "RANGE", (self.added.scalar(0), self.added.size(size or 0), self.added.scalar(1)), (-1,), "int32"
        )
        opened = [-1 if at == axis else 1 for at in range(len(shape))]
        target = np.array(opened, np.int32)
        self.rescues["positions are counted as the graph runs"] = None
        made = self.added.add("RESHAPE", (count, self.added.constant(target)), opened, "int32")
        return made if dtype == "int32" else self.added.add("CAST", (made,), opened, dtype)

    def _triangle(self, values: Any, axes: list[int], size: Size | None) -> int | None:
        """Compute what has one value up to the diagonal and another beyond it, as masks of decoders have."""
        import numpy as np

        square = values.reshape(values.shape[axes[0]], -1)
        for strict, kind in ((False, "GREATER_EQUAL"), (True, "GREATER")):
            inside = np.tri(len(square), k=-1 if strict else 0, dtype=bool)
            within, beyond = square[inside][0], square[~inside][0]
            if not np.array_equal(np.where(inside, within, beyond), square):
                continue
            shapes = [[length if at == axis else 1 for at, length in enumerate(values.shape)] for axis in axes]
            row, column = (self._range(shape, axis, size) for shape, axis in zip(shapes, axes, strict=True))
            opened = self._open(values.shape)
            mask = self.added.add(kind, (row, column), opened, "bool")
            if values.dtype == bool and within and not beyond:
                return mask
            pair = [self.added.constant(np.array(value, values.dtype)) for value in (within, beyond)]
            return self.added.add("SELECT_V2", (mask, *pair), opened, str(values.dtype))
        return None

    def _rows(self, values: Any, axis: int, size: Size | None) -> int | None:
        """Find a constant among the rows of a weight, and cut as many of them as there are positions."""
        import numpy as np

        count = values.shape[axis]
        moved = np.moveaxis(values, axis, 0)
        wanted = np.ascontiguousarray(moved).reshape(count, -1)
        for table in self.tables:
            if (
                table.ndim != 2
                or table.dtype != values.dtype
                or table.shape[1] != wanted.shape[1]
                or len(table) <= count
            ):
                continue
            for start in np.flatnonzero((table[: len(table) - count + 1] == wanted[0]).all(axis=1)):
                if not np.array_equal(table[start : start + count], wanted):
                    continue
                whole = table[start:].reshape(len(table) - start, *moved.shape[1:])
                rows = self.added.constant(np.ascontiguousarray(np.moveaxis(whole, 0, axis)))
                begin = self.added.vector([0] * values.ndim)
                lengths = [size if at == axis and size else length for at, length in enumerate(values.shape)]
                cut = self.added.vector(lengths)
                self.rescues["a table of positions is cut to length as the graph runs"] = None
                return self.added.add("SLICE", (rows, begin, cut), self._open(values.shape), str(values.dtype))
        return None

    def _waves(self, values: Any, axis: int, size: Size | None) -> int | None:
        """Compute cosines or sines of positions times a buffer's frequencies, as rotary embeddings are."""
        import numpy as np

        width = values.shape[-1]
        if values.dtype != np.float32 or axis == values.ndim - 1 or values.size != values.shape[axis] * width:
            return None
        line = np.arange(values.shape[axis])
        for buffer in self.tables:
            if buffer.ndim != 1 or buffer.dtype != np.float32 or not len(buffer) or width % len(buffer):
                continue
            frequencies = np.tile(buffer, width // len(buffer))
            for kind, wave in (("COS", np.cos), ("SIN", np.sin)):
                expected = wave(np.outer(line, frequencies.astype(np.float64)))
                if not np.allclose(values.reshape(len(line), width), expected, rtol=0, atol=WAVE_TOLERANCE):
                    continue
                counted = [length if at == axis else 1 for at, length in enumerate(values.shape)]
                position = self._range(counted, axis, size, "float32")
                factor = self.added.constant(frequencies.reshape([1] * (values.ndim - 1) + [width]))
                angle = self.added.add("MUL", (position, factor), self._open(values.shape), "float32")
                return self.added.add(kind, (angle,), self._open(values.shape), "float32")
        return None

    def _declare(self, constants: list[bool]) -> None:
        """Declare free what is computed, and the inputs and outputs as promised; their defaults are small."""
        import numpy as np

        default = {name: 1 if name == BATCH else OTHER_SIZES[0] for name in self.sizes}
        for index, constant in enumerate(constants):
            tensor = self.graph.tensors[index]
            if constant or tensor.shape is None:
                continue
            shape = [int(number) for number in tensor.shape]
            sizes = [self._size(number) for number in shape]
            free = [size is not None for size in sizes]
            if index in self.promised:
                free = [isinstance(dim, str) for dim in self.promised[index].shape]
            if not any(free):
                continue
            small = [
                size.factor * int(np.prod([default[name] for name in size.dimensions])) if size else number
                for size, number in zip(sizes, shape, strict=True)
            ]
            tensor.shape = np.array(small, np.int32)
            signature = [-1 if is_free else number for is_free, number in zip(free, small, strict=True)]
            tensor.shapeSignature = np.array(signature, np.int32)

    def _forget(self) -> None:
        """Empty the constants that nothing takes any more.

        NOTE: Why their shapes, too: a constant with a size and no bytes stops whoever reads all tensors, such as
        ai-edge-quantizer's calibrator.
        """
        import numpy as np

        operators = [*self.graph.operators, *self.added.operators]
        used = {int(index) for operator in operators for index in operator.inputs} | {*self.graph.outputs}
        kept = {self.graph.tensors[index].buffer for index in used if index >= 0}
        for index, tensor in enumerate(self.graph.tensors):
            if index not in used and tensor.buffer not in kept and self._values(tensor) is not None:
                self.model.buffers[tensor.buffer].data = None
                tensor.shape = np.zeros(1, np.int32)

    def _values(self, tensor: Any) -> Any:
        """Give a constant's values, or None for what is computed."""
        import numpy as np

        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return None
        dtype = np.dtype(DTYPES.get(tensor.type, "uint8"))
        shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
        raw = np.frombuffer(bytes(data), np.uint8)
        if raw.nbytes != dtype.itemsize * int(np.prod(shape)):
            return raw  # packed or sparse; no constant that has to do with sizes is
        return raw.view(dtype).reshape(shape)


def _alike(values: Any, axis: int) -> bool:
    """Whether all elements along an axis are the same, bit by bit, so that NaN equals itself."""
    import numpy as np

    bits = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape, -1)
    return bool((bits == bits.take([0], axis)).all())


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
