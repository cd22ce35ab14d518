"""ONNX's operators that quantize and compute in one (QLinearConv ...), rewritten as several that do one of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.formats._onnx_folding import constants, replace_items

if TYPE_CHECKING:
    import onnx

#: Operators that move integers and leave them as they are; all take them first.
MOVING = ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity")

#: Operators of one integer input and its numbers: what each stands for.
UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul", "QLinearMatMul": "MatMul"}

#: Attributes of ONNX Runtime's own operators that the standard's lack.
FOREIGN = ("channels_last", "opset")

FLOAT = 1

Numbers = tuple[str, str]  # the names of a scale and of a zero point, which may be empty


def split(model: onnx.ModelProto) -> dict[str, str]:
    """Rewrite, in place, every such operator; give what the float model calls each float that is computed then.

    Others that compute in integers stay as they are.
    """
    rewriting = _Rewriting(model)
    for node in list(model.graph.node):
        rewriting.take(node)
    replace_items(model.graph.node, rewriting.nodes)
    del model.graph.value_info[:]
    return rewriting.called


@dataclass(slots=True)
class _Rewriting:
    """A graph on its way: the nodes so far, and with which numbers each integer tensor was made."""

    model: Any
    nodes: list[Any] = field(default_factory=list)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)

    def take(self, node: Any) -> None:
        """Give a node on, or what stands for it."""
        given = list(node.input)
        rewrites: dict[str, Callable[[Any, list[str]], None]] = {
            "QLinearConv": self._convolution,
            "QGemm": self._gemm,
            "QLinearConcat": self._concat,
            "DynamicQuantizeMatMul": self._dynamic,
            "MatMulIntegerToFloat": self._scaled,
            **dict.fromkeys(UNARY, self._unary),
            **dict.fromkeys(BINARY, self._binary),
        }
        if node.op_type in rewrites:
            rewrites[node.op_type](node, given)
        elif node.op_type in MOVING and given[0] in self.numbers:
            numbers = self.numbers[given[0]]
            self._compute(node.op_type, node, [self._floats(given[0], numbers), *given[1:]], numbers)
        else:
            if node.op_type == "QuantizeLinear":
                self.numbers[node.output[0]] = (given[1], given[2] if len(given) > 2 else "")
            self.nodes.append(node)

    def _unary(self, node: Any, given: list[str]) -> None:
        if any(entry.name == "channels_last" and entry.i for entry in node.attribute):
            raise LoadError(
                f"{node.op_type} ({node.name or node.output[0]}) has its channels last, as no float one has"
            )
        floats = [self._floats(given[0], (given[1], given[2]))]
        self._compute(UNARY[node.op_type], node, floats, (given[3], given[4] if len(given) > 4 else ""))

    def _binary(self, node: Any, given: list[str]) -> None:
        floats = [self._floats(given[0], (given[1], given[2])), self._floats(given[3], (given[4], given[5]), axis=-1)]
        self._compute(BINARY[node.op_type], node, floats, (given[6], given[7] if len(given) > 7 else ""))

    def _concat(self, node: Any, given: list[str]) -> None:
        floats = [self._floats(given[i], (given[i + 1], given[i + 2])) for i in range(2, len(given), 3)]
        self._compute("Concat", node, floats, (given[0], given[1]))

    def _convolution(self, node: Any, given: list[str]) -> None:
        floats = [self._floats(given[0], (given[1], given[2])), self._floats(given[3], (given[4], given[5]), axis=0)]
        if len(given) > 8 and given[8]:
            floats.append(self._bias(given[8], given[1], given[4]))
        self._compute("Conv", node, floats, (given[6], given[7]))

    def _gemm(self, node: Any, given: list[str]) -> None:
        given += [""] * (9 - len(given))
        turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
        floats = [
            self._floats(given[0], (given[1], given[2])),
            self._floats(given[3], (given[4], given[5]), axis=0 if turned else 1),
        ]
        if given[6]:
            floats.append(self._bias(given[6], given[1], given[4]))
        self._compute("Gemm", node, floats, (given[7], given[8]) if given[7] else None)

    def _dynamic(self, node: Any, given: list[str]) -> None:
        """Quantize what comes, multiply integers, scale and add, each by an operator of the standard."""
        given += [""] * (5 - len(given))
        parts = [f"{node.output[0]}_{what}" for what in ("taken", "taken_scale", "taken_zero")]
        self._add("DynamicQuantizeLinear", given[:1], parts)
        weight, scale, zero, bias = given[1:5]
        self._scaled(node, [parts[0], weight, parts[1], scale, parts[2], zero, bias])

    def _scaled(self, node: Any, given: list[str]) -> None:
        given += [""] * (7 - len(given))
        taken, weight, first, second, of_taken, of_weight, bias = given
        output = node.output[0]
        names = [f"{output}_{what}" for what in ("integers", "wide", "scale", "product")]
        zeros = [of_taken, of_weight] if of_weight else [of_taken] if of_taken else []
        self._add("MatMulInteger", [taken, weight, *zeros], names[:1])
        self._add("Cast", names[:1], names[1:2], to=FLOAT)
        self._add("Mul", [first, second], names[2:3])
        self._add("Mul", names[1:3], [names[3] if bias else output])
        if bias:
            self._add("Add", [names[3], bias], [output])

    def _add(self, operator: str, given: list[str], outputs: list[str], **attributes: Any) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node(operator, given, outputs, f"split_{outputs[0]}", **attributes))

    def _floats(self, integers: str, numbers: Numbers, axis: int = 0) -> str:
        """Dequantize; `axis` counts where there is a scale per channel."""
        found = f"{integers}_floats_{len(self.nodes)}"
        scale, zero = numbers
        shapes = {name: list(tensor.dims) for name, tensor in constants(self.model.graph).items()}
        several = shapes.get(scale, []) not in ([], [1])
        attributes = {"axis": axis % max(len(shapes.get(integers, [])), 1)} if several else {}
        given = [integers, scale, *([zero] if zero else [])]
        self._add("DequantizeLinear", given, [found], **attributes)
        return found

    def _bias(self, integers: str, of_input: str, of_weight: str) -> str:
        """Dequantize a bias, whose scale is the product of the input's and the weight's."""
        from onnx import numpy_helper

        known = constants(self.model.graph)
        if of_input not in known or of_weight not in known:
            raise LoadError(f"the scale of {integers!r} is computed, not constant")
        scale = numpy_helper.to_array(known[of_input]).reshape(()) * numpy_helper.to_array(known[of_weight])
        name = f"{integers}_scale_{len(self.nodes)}"
        self.model.graph.initializer.append(numpy_helper.from_array(scale.astype("float32"), name))
        return self._floats(integers, (name, ""))

    def _compute(self, operator: str, node: Any, floats: list[str], numbers: Numbers | None) -> None:
        """Compute in floats, and quantize what comes out where the node gave integers."""
        import onnx

        output = node.output[0]
        if numbers is None:
            found = output
        else:
            found = f"{output}_before"
            self.called[found] = self._name_of(output)
        twin = onnx.helper.make_node(operator, floats, [found], f"split_{found}")
        twin.attribute.extend(entry for entry in node.attribute if entry.name not in FOREIGN)
        self.nodes.append(twin)
        if numbers is not None:
            scale, zero = numbers
            self._add("QuantizeLinear", [found, scale, *([zero] if zero else [])], [output])
            self.numbers[output] = numbers

    def _name_of(self, output: str) -> str:
        """Give what a float model most likely calls the floats of an integer tensor: as it is called dequantized."""
        for node in self.model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] == output:
                return str(node.output[0])
        return output.removesuffix("_quantized")
