"""The ideal of a reduced ONNX file: the float graph with its numbers rounded as the reduced file says, in float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.formats._onnx_folding import constants, drop_unused, fold
from convert.formats._onnx_precision import NARROW, precision_of
from convert.formats.onnx import read_model, write_model
from convert.spec import FP16
from validators.ideals import IDEALS, Building, Built, Ideal, Nudge
from validators.ideals._choices import chosen
from validators.ideals._onnx_blocks import is_turned, kernel_block, rounded_in_blocks
from validators.ideals._onnx_operators import split
from validators.ideals._onnx_pair import Float, Side, counterpart
from validators.runtimes.onnxruntime import ONNXRUNTIME

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: Operators that multiply integers, and the float operator each stands for.
INTEGER = {"MatMulInteger": ("MatMul", "Gemm"), "ConvInteger": ("Conv",)}

FLOAT, FLOAT16 = 1, 10


def build(task: Building) -> Built:
    """Write the ideal; raises LoadError naming the first tensor that cannot be found in the float file."""
    reduced = read_model(Path(task.reduced))
    called = split(reduced)
    refuse_integer_format(reduced)
    if not task.base:
        model = reduced
        _round_as_kernels_do(model)
        undo_integers(model)
        note = (
            "the ideal is the file itself, computed in float: it shows faults of kernels, and none of stored weights, "
            "scales or zero points, for which the float model is needed"
        )
        write_model(Path(task.out), model)
        return Built(task.out, (note,))
    write_model(Path(task.out), from_base(task, reduced, called).ideal.model)
    return Built(task.out)


def from_base(task: Building, reduced: onnx.ModelProto, called: Mapping[str, str]) -> Rounding:
    """Give the ideal made of the float file; raises LoadError naming the first tensor that cannot be found in it."""
    try:
        return rounded(task, reduced, called, scalings=True)
    except LoadError as error:
        try:  # other tools quantize without folding normalizations first
            return rounded(task, reduced, called, scalings=False)
        except LoadError:
            raise error from None


def rounded(task: Building, reduced: onnx.ModelProto, called: Mapping[str, str], *, scalings: bool) -> Rounding:
    """Give the float graph rounded as the reduced one is, with what scales a convolution folded into it or not.

    `called` says what the float graph calls values that the reduced one calls otherwise.
    """
    model = read_model(Path(task.base))
    fold(model, scalings=scalings)
    _same_opset(model, reduced, scalings=scalings)
    if precision_of(reduced) == FP16:
        round_to_half(model, reduced)
        return Rounding(model, reduced, called)
    rounding = Rounding(model, reduced, called)
    rounding.write()
    return rounding


def refuse_integer_format(model: onnx.ModelProto) -> None:
    """Raise LoadError for operators that quantize and compute in one."""
    for node in model.graph.node:
        if node.op_type.startswith("QLinear") or node.domain not in ("", "ai.onnx"):
            raise LoadError(
                f"{node.op_type} ({node.name or node.output[0]}) rounds and computes in one, and no ideal is known "
                "of it",
                fix="quantize in QDQ format (QuantizeLinear and DequantizeLinear around operators of the standard)",
            )


def _same_opset(model: onnx.ModelProto, reduced: onnx.ModelProto, *, scalings: bool) -> None:
    """Bring the float graph to the reduced file's version of the standard, whose operators it will need."""
    import onnx

    versions = [max(entry.version for entry in m.opset_import if entry.domain == "") for m in (model, reduced)]
    if versions[0] >= versions[1]:
        return
    try:
        raised = onnx.version_converter.convert_version(model, versions[1])
    except (RuntimeError, ValueError) as error:
        raise LoadError(f"onnx cannot raise the float model to opset {versions[1]}: {error}") from error
    raised.ir_version = max(raised.ir_version, reduced.ir_version)
    model.CopyFrom(raised)
    fold(model, scalings=scalings)


class Rounding:
    """The float graph while the roundings of a reduced one are written into it."""

    def __init__(self, model: onnx.ModelProto, reduced: onnx.ModelProto, called: Mapping[str, str]) -> None:
        self.ideal, self.actual = Float(model), Side(reduced)
        self.called = dict(called)  # what the ideal calls a value that the reduced file computes in float
        self.rounded: dict[str, str] = {}  # values that were dequantized, and what the ideal calls them
        self.integers: dict[str, tuple[str, list[str], int]] = {}  # quantized values: of what, with which numbers
        self.weights: set[str] = set()

    def write(self) -> None:
        """Write everything into the float graph."""
        for output in self.actual.graph.output:
            self._find_output(output.name)
        for node in self.actual.graph.node:
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "DynamicQuantizeLinear":
                self._quantize_dynamically(node)
            elif node.op_type == "DequantizeLinear":
                self._dequantize(node)
            elif node.op_type in INTEGER:
                self._multiply(node)
            elif is_unpacked(self.actual, node):
                self.weights.add(node.output[0])
            else:
                self._read(node)
        self.ideal.finish()
        drop_unused(self.ideal.graph)

    def _find_output(self, name: str) -> None:
        """Where an output is quantized last, call what is computed before it by another name."""
        source = name
        while (maker := self.actual.made_by.get(source)) is not None and maker.op_type in (
            "QuantizeLinear",
            "DequantizeLinear",
        ):
            source = maker.input[0]
        if source != name and name in self.ideal.made_by and source not in self.ideal.made_by:
            self.called[source] = self.ideal.step_aside(name)

    def _value(self, name: str) -> str:
        """Give what the ideal calls a float value of the reduced file; raises LoadError where it has none."""
        if name in self.rounded:
            return self.rounded[name]
        found = self.called.get(name, name)
        if not self.ideal.has(found) and found not in self.called.values():
            raise LoadError(f"the float model has no {name!r}, which the reduced file quantizes")
        return found

    def _quantize(self, node: Any) -> None:
        value = self._value(node.input[0])
        self.integers[node.output[0]] = (value, list(node.input[1:]), _axis(node))
        if node.output[0] in self.actual.outputs:  # integers at the boundary: the ideal gives the floats they mean
            self._pair(value, list(node.input[1:]), _axis(node), node.output[0])

    def _pair(self, value: str, numbers: list[str], axis: int, output: str) -> None:
        """Round a value of the ideal with the reduced file's own scale and zero point."""
        ideal = self.ideal
        copies = [ideal.copy(self._number(name)) for name in numbers if name]
        integers = ideal.fresh(f"{output}_rounded")
        ideal.node("QuantizeLinear", [value, *copies], [integers], axis=axis)
        ideal.node("DequantizeLinear", [integers, *copies], [output], axis=axis)

    def _number(self, name: str) -> onnx.TensorProto:
        if name not in self.actual.constants:
            raise LoadError(f"the scale or zero point {name!r} is computed, not constant")
        return self.actual.constants[name]

    def _quantize_dynamically(self, node: Any) -> None:
        ideal, value = self.ideal, self._value(node.input[0])
        integers, scale, zero = (ideal.fresh(f"{name}_rounded") for name in node.output)
        floats = ideal.fresh(f"{node.output[0]}_floats")
        ideal.node("DynamicQuantizeLinear", [value], [integers, scale, zero])
        ideal.node("DequantizeLinear", [integers, scale, zero], [floats])
        self.rounded[node.output[0]] = floats

    def _dequantize(self, node: Any) -> None:
        name, output, numbers = node.input[0], node.output[0], list(node.input[1:])
        if name in self.integers:
            # NOTE: Why the numbers it was quantized with: others here would shift every value, which is a fault.
            value, quantizing, axis = self.integers[name]
            given = output in self.actual.outputs and output not in self.ideal.made_by
            self.rounded[output] = output if given else self.ideal.fresh(f"{output}_ideal")
            self._pair(value, quantizing, axis, self.rounded[output])
        elif name in self.actual.inputs:  # integers at the boundary: the ideal takes the floats they mean
            self.rounded[output] = self.ideal.fresh(f"{output}_ideal")
            self._pair(name, numbers, _axis(node), self.rounded[output])
        elif name in self.actual.constants:
            self.weights.add(output)
        else:
            self._dequantize_rows(node)

    def _dequantize_rows(self, node: Any) -> None:
        """Round the table of a lookup whose rows are dequantized."""
        gather = self.actual.made_by.get(node.input[0])
        if gather is None or gather.op_type != "Gather" or gather.input[0] not in self.actual.constants:
            raise LoadError(f"{node.output[0]!r} dequantizes what {node.input[0]!r} is, which no ideal is known of")
        twin = self.ideal.made_by.get(node.output[0])
        if twin is None or twin.op_type != "Gather":
            raise LoadError(f"the float model looks nothing up as {node.output[0]!r}")
        twin.input[0] = self._rounded_weight(twin.input[0], node, stored=gather.input[0])

    def _read(self, node: Any) -> None:
        """Make the ideal's node read what this one reads, where that was rounded."""
        affected = [place for place, name in enumerate(node.input) if name in self.rounded or name in self.weights]
        if not affected:
            return
        output = self.called.get(node.output[0], node.output[0])
        twins = counterpart(self.ideal, node, output)
        for place in affected:
            twin, where = twins[place]
            name = node.input[place]
            if name in self.rounded:
                twin.input[where] = self.rounded[name]
            else:
                dequantize = self.actual.made_by[name]
                turned = where == 1 and node.op_type == "Gemm" and is_turned(node) != is_turned(twin)
                twin.input[where] = self._rounded_weight(twin.input[where], dequantize, turned=turned)
        if (block := kernel_block(self.actual, node)) is not None:
            twin, where = twins[0]
            twin.input[where] = rounded_in_blocks(self.ideal, twin.input[where], *block)

    def _rounded_weight(self, weight: str, dequantize: Any, *, stored: str = "", turned: bool = False) -> str:
        """Add a float weight of the base rounded with the reduced file's scale, and give its name.

        `turned`: the reduced file has it the other way up. `stored` names the integers where `dequantize` does not.
        """
        unpacking = dequantize.op_type == "Mul"
        stored = stored or (self.actual.made_by[dequantize.input[0]] if unpacking else dequantize).input[0]
        array, integers = self.ideal.array(weight), self.actual.array(stored)
        array = array.T if turned else array
        if array.shape != integers.shape:
            raise LoadError(f"{stored!r} has the shape {integers.shape}, the float model's {weight!r} {array.shape}")
        scale = self.actual.array(dequantize.input[1])
        zero = self.actual.array(dequantize.input[2]) if len(dequantize.input) > 2 and dequantize.input[2] else None
        size = next((entry.i for entry in dequantize.attribute if entry.name == "block_size"), 0)
        bits = _limits(self.actual.constants[stored].data_type)
        widths = scale if unpacking else spread(scale, array, _axis(dequantize), size)
        axis = _axis(dequantize) if widths.size > 1 and not size and not unpacking else None
        rounded = round_array(array, widths, spread(zero, array, _axis(dequantize), size), bits, integers, axis)
        return self.ideal.constant(f"{weight}_rounded", rounded.T.copy() if turned else rounded)

    def _multiply(self, node: Any) -> None:
        """Make the ideal's operator multiply what an integer one multiplies: a rounded input and a rounded weight."""
        scale, output = self._after(node)
        twin = self.ideal.made_by.get(output)
        if twin is None or twin.op_type not in INTEGER[node.op_type]:
            # A Gemm's bias is added behind.
            following = [reader.output[0] for reader in self.actual.read_by[output] if reader.op_type == "Add"]
            twin = self.ideal.made_by.get(following[0]) if len(following) == 1 else None
            if twin is not None and twin.op_type == "Add":
                products = [self.ideal.made_by.get(name) for name in twin.input]
                twin = next((one for one in products if one is not None and one.op_type == "MatMul"), None)
        if twin is None or twin.op_type not in INTEGER[node.op_type]:
            raise LoadError(f"the float model has no {' or '.join(INTEGER[node.op_type])} that computes {output!r}")
        if node.input[0] not in self.rounded:
            raise LoadError(f"{node.input[0]!r} is not quantized by DynamicQuantizeLinear")
        twin.input[0] = self.rounded[node.input[0]]
        array, stored = self.ideal.array(twin.input[1]), self.actual.array(node.input[1])
        turned = is_turned(twin)
        array = array.T if turned else array
        if array.shape != stored.shape:
            raise LoadError(f"{node.input[1]!r} has the shape {stored.shape}, the float model's {array.shape}")
        zero = self.actual.array(node.input[3]) if len(node.input) > 3 and node.input[3] else None
        across = 0 if node.op_type == "ConvInteger" else array.ndim - 1
        widths, zeros = (spread(x if x is None else x.reshape(-1), array, across, 0) for x in (scale, zero))
        limits = _limits(self.actual.constants[node.input[1]].data_type)
        rounded = round_array(array, widths, zeros, limits, stored, across if widths.size > 1 else None)
        twin.input[1] = self.ideal.constant(f"{twin.input[1]}_rounded", rounded.T.copy() if turned else rounded)

    def _after(self, node: Any) -> tuple[np.ndarray, str]:
        """Find the weight's scale, which is multiplied in behind an integer operator, and the product's name."""
        (cast,) = self.actual.read_by[node.output[0]] or [None]
        readers = self.actual.read_by[cast.output[0]] if cast is not None and cast.op_type == "Cast" else []
        for product in readers:
            both = next((self.actual.made_by.get(name) for name in product.input if name != cast.output[0]), None)
            for name in both.input if both is not None and both.op_type == "Mul" else ():
                if name in self.actual.constants:
                    return self.actual.array(name), product.output[0]
        raise LoadError(f"the scale of {node.output[0]!r} is not multiplied in behind it")


def is_unpacked(side: Side, node: Any) -> bool:
    """Whether a node scales integers that a Cast made floats of: a weight that is unpacked when the file is loaded."""
    cast = side.made_by.get(node.input[0]) if node.op_type == "Mul" else None
    if cast is None or cast.op_type != "Cast" or node.input[1] not in side.constants:
        return False
    stored = side.constants.get(cast.input[0])
    return stored is not None and stored.data_type in NARROW


def _axis(node: Any) -> int:
    return int(next((entry.i for entry in node.attribute if entry.name == "axis"), 1))


def _limits(dtype: int) -> tuple[int, int]:
    """Give the least and greatest integer of an ONNX type."""
    import onnx

    name = onnx.TensorProto.DataType.Name(dtype).lower()
    bits = int(name.removeprefix("u").removeprefix("int"))
    return (0, (1 << bits) - 1) if name.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def spread(numbers: np.ndarray | None, array: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Give scales or zero points, float64, in a shape that broadcasts over the array they belong to."""
    import numpy as np

    if numbers is None:
        return np.zeros((), np.float64)
    wide = numbers.astype(np.float64)
    if block:
        return np.repeat(wide, block, axis=axis)[tuple(slice(size) for size in array.shape)]
    if wide.size == 1:
        return wide.reshape(())
    shape = [1] * array.ndim
    shape[axis] = -1
    return wide.reshape(shape)


def round_array(
    array: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    limits: tuple[int, int],
    held: np.ndarray,
    axis: int | None,
) -> np.ndarray:
    """Round float32 numbers to integer steps within limits, and give the floats these mean.

    The steps are those `held`, where these are roundings of the numbers, channel by channel along `axis`.
    """
    import numpy as np

    integers = np.clip(chosen(array.astype(np.float64) / scale + zero, held.astype(np.float64), zero, axis), *limits)
    found: np.ndarray = ((integers - zero) * scale).astype(np.float32)
    return found


def round_to_half(model: onnx.ModelProto, reduced: onnx.ModelProto) -> None:
    """Round, in place, the constants that the reduced file has in half precision, and what it computes in it."""
    import numpy as np
    from onnx import numpy_helper

    actual, ideal = Side(reduced), Float(model)
    half = {name for name, tensor in actual.constants.items() if tensor.data_type == FLOAT16}
    for tensor in list(ideal.graph.initializer):
        if tensor.data_type == FLOAT and half & {tensor.name, f"{tensor.name}_half"}:
            array = numpy_helper.to_array(tensor)
            clipped = np.where(np.isfinite(array), np.clip(array, -65504, 65504), array)
            tensor.CopyFrom(numpy_helper.from_array(clipped.astype(np.float16).astype(np.float32), tensor.name))
    ideal.finish()


def _round_as_kernels_do(model: onnx.ModelProto) -> None:
    """Write into a reduced graph, in place, what ONNX Runtime's kernel for narrow weights rounds besides."""
    ideal = Float(model)
    for node in list(ideal.graph.node):
        if (block := kernel_block(ideal, node)) is not None:
            node.input[0] = rounded_in_blocks(ideal, node.input[0], *block)
    ideal.finish()


def undo_integers(model: onnx.ModelProto) -> None:
    """Replace, in place, integer products by float ones of the same numbers, and half precision by float."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    known, nodes = constants(model.graph), []
    for node in model.graph.node:
        if node.op_type not in INTEGER:
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(known[node.input[1]]).astype(np.float32)
        zero = numpy_helper.to_array(known[node.input[3]]).astype(np.float32) if len(node.input) > 3 else np.float32(0)
        if node.op_type == "ConvInteger" and zero.ndim:
            zero = zero.reshape((-1,) + (1,) * (weight.ndim - 1))
        name = node.output[0]
        model.graph.initializer.append(numpy_helper.from_array(weight - zero, f"{name}_weight"))
        parts = [(node.input[0], f"{name}_wide"), (node.input[2], f"{name}_middle")]
        nodes += [onnx.helper.make_node("Cast", [taken], [given], to=FLOAT) for taken, given in parts]
        nodes.append(onnx.helper.make_node("Sub", [given for _, given in parts], [f"{name}_centred"]))
        twin = onnx.helper.make_node(
            INTEGER[node.op_type][0], [f"{name}_centred", f"{name}_weight"], [name], f"ideal_{name}"
        )
        twin.attribute.extend(node.attribute)
        nodes.append(twin)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _widen(model)


def _widen(model: onnx.ModelProto) -> None:
    """Turn half precision into float: constants, casts and what is said of values."""
    import numpy as np
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT16 and math.prod(tensor.dims):
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node in model.graph.node:
        for entry in node.attribute:
            if node.op_type == "Cast" and entry.name == "to" and entry.i == FLOAT16:
                entry.i = FLOAT
    del model.graph.value_info[:]


def nudge(path: Path, change: Nudge) -> None:
    """Change every float constant."""
    from onnx import numpy_helper

    model = read_model(path)
    for tensor in constants(model.graph).values():
        if tensor.data_type == FLOAT and math.prod(tensor.dims):
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    write_model(path, model)


IDEALS.register(Ideal("onnx", ONNXRUNTIME, build, nudge, runtime="onnxruntime_plain"))
