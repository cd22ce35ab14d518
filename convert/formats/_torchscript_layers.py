"""The layers of a TorchScript graph that can have a lower precision, and how each of them has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.formats._torchscript_graph import DEQUANTIZE, Script, inputs
from convert.spec import Scale

if TYPE_CHECKING:
    import torch

#: Kinds of layers, whatever their precision.
LINEAR, CONV, RECURRENT, ADD, HARDSWISH = "linear", "conv", "recurrent", "add", "hardswish"
EMBEDDING = "embedding"

#: How a layer computes: in floats; with stored integers made floats; with inputs quantized as they come, or to ranges.
FLOAT, STORED, DYNAMIC, STATIC = "float", "stored", "dynamic", "static"

CONV_AXES = {"conv1d": 3, "conv2d": 4, "conv3d": 5}
_CONVS = tuple(CONV_AXES)

#: What operators are layers, and of which kind and form.
OPERATORS = {
    "aten::linear": (LINEAR, FLOAT),
    "quantized::linear": (LINEAR, STATIC),
    "quantized::linear_relu": (LINEAR, STATIC),
    "quantized::linear_dynamic": (LINEAR, DYNAMIC),
    **{f"aten::{conv}": (CONV, FLOAT) for conv in _CONVS},
    **{f"quantized::{conv}": (CONV, STATIC) for conv in _CONVS},
    **{f"quantized::{conv}_relu": (CONV, STATIC) for conv in _CONVS},
    "aten::lstm": (RECURRENT, FLOAT),
    "aten::gru": (RECURRENT, FLOAT),
    "aten::quantized_lstm": (RECURRENT, DYNAMIC),
    "aten::quantized_gru": (RECURRENT, DYNAMIC),
    "aten::add": (ADD, FLOAT),
    "quantized::add": (ADD, STATIC),
    "quantized::add_relu": (ADD, STATIC),
    "aten::embedding": (EMBEDDING, FLOAT),
    "quantized::embedding_byte": (EMBEDDING, STORED),
    "aten::hardswish": (HARDSWISH, FLOAT),
    "quantized::hardswish": (HARDSWISH, STATIC),
}

#: Operators that give quantized tensors on as they are, with the scale they came with: they move numbers or clip them.
PASSING = (
    *("aten::relu", "aten::relu6", "aten::hardtanh", "aten::max_pool1d", "aten::max_pool2d", "aten::flatten"),
    *("aten::reshape", "aten::view", "aten::permute", "aten::transpose", "aten::squeeze", "aten::unsqueeze"),
    *("aten::contiguous", "aten::pad", "aten::constant_pad_nd"),
)

QUANTIZE = "aten::quantize_per_tensor"

#: The position among a recurrent operator's inputs of its weights.
CELLS = 2


@dataclass(frozen=True, slots=True)
class Place:
    """One layer as it stands in a graph.

    `weights` are as the file holds them, quantized tensors where they are. A static layer has the scales of its inputs
    and of its output; a dynamic one says whether it uses 7 bits of its input instead of 8.
    """

    name: str
    kind: str
    form: str
    node: Any
    weights: tuple[torch.Tensor, ...] = ()
    reduced_range: bool = False
    taken: tuple[Scale, ...] = ()
    given: Scale | None = None

    @property
    def operator(self) -> str:
        """The operator without its library."""
        return str(self.node.kind()).partition("::")[2]

    @property
    def weight_bytes(self) -> int:
        """What the weights take."""
        return sum(weight.numel() * weight.element_size() for weight in self.weights)


def places(script: Script) -> tuple[Place, ...]:
    """List the layers in the order of the graph, numbered per kind: a reduced graph has the numbers of its float one.

    A product or convolution whose weight is computed is none.
    """
    return tuple(_numbered(script))


def _numbered(script: Script) -> Iterator[Place]:
    counts: dict[str, int] = {}
    for node in script.nodes(*OPERATORS):
        kind, form = OPERATORS[node.kind()]
        if kind == ADD and not _adds_tensors(node):
            continue
        weights = _weights(script, node, kind, form)
        if weights is None:
            continue
        name = f"{kind}_{counts.get(kind, 0)}"
        counts[kind] = counts.get(kind, 0) + 1
        yield _place(script, node, name, weights)


def _place(script: Script, node: Any, name: str, weights: tuple[torch.Tensor, ...]) -> Place:
    kind, form = OPERATORS[node.kind()]
    taken = inputs(node)
    if form == FLOAT and any(weight.is_quantized for weight in weights):
        form = STORED
    if form == DYNAMIC:
        reduced = _cells(script, node)[0][1] if kind == RECURRENT else script.value(taken[2])
        return Place(name, kind, form, node, weights, reduced_range=bool(reduced))
    if form != STATIC:
        return Place(name, kind, form, node, weights)
    scales = tuple(scale_of(script, value) for value in (taken[:2] if kind == ADD else taken[:1]))
    return Place(name, kind, form, node, weights, taken=scales, given=scale_of(script, node.output()))


def _adds_tensors(node: Any) -> bool:
    import torch

    return all(isinstance(value.type(), torch._C.TensorType) for value in inputs(node)[:2])


def scale_of(script: Script, value: Any) -> Scale:
    """Give the scale of a quantized tensor, from the operator that made it, however it was moved since."""
    node = value.node()
    taken = inputs(node)
    if node.kind() == QUANTIZE:
        return Scale(float(script.value(taken[1])), int(script.value(taken[2])))
    if node.kind() in OPERATORS and OPERATORS[node.kind()][1] == STATIC:
        return Scale(float(script.value(taken[-2])), int(script.value(taken[-1])))
    if node.kind() in PASSING:
        return scale_of(script, taken[0])
    raise ValueError(f"the scale of what {node.kind()} gives is not known")


def _weights(script: Script, node: Any, kind: str, form: str) -> tuple[torch.Tensor, ...] | None:
    """Read a layer's weights; None where they are computed, and the layer is none of ours."""
    if kind in (ADD, HARDSWISH):
        return ()
    if kind == RECURRENT:
        return _recurrent_weights(script, node, form)
    if form == FLOAT:
        held = stored(script, inputs(node)[0 if kind == EMBEDDING else 1])
        return None if held is None else (held,)
    if kind == EMBEDDING:
        return (unpacked("quantized::embedding_bag", script.value(inputs(node)[0]))[0],)
    return (unpacked(node.kind(), script.value(inputs(node)[1]))[0],)


def stored(script: Script, value: Any) -> torch.Tensor | None:
    """Read a weight, quantized where the graph dequantizes it; None where it is computed."""
    if value.node().kind() == DEQUANTIZE:
        value = inputs(value.node())[0]
    found: torch.Tensor | None = script.value(value)
    return found


def _recurrent_weights(script: Script, node: Any, form: str) -> tuple[torch.Tensor, ...] | None:
    if form == DYNAMIC:
        cells = [cell for cell, _ in _cells(script, node)]
        return tuple(unpacked("quantized::linear", packed)[0] for pair in cells for packed in pair)
    listed = inputs(node)[CELLS].node()
    if listed.kind() != "prim::ListConstruct":
        return None
    held = [stored(script, value) for value in listed.inputs()]
    return None if any(item is None for item in held) else tuple(item for item in held if item is not None)


def matrices(weights: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Give the matrices of a recurrent layer's weights, without its biases."""
    return tuple(weight for weight in weights if weight.dim() == 2)


def _cells(script: Script, node: Any) -> list[tuple[tuple[Any, Any], bool]]:
    """Read a quantized recurrent operator's cells: both packed weights, and whether inputs use 7 bits."""
    listed = inputs(node)[CELLS].node()
    found = []
    for value in listed.inputs():
        _, _, _, flags, packed = script.value(value).__getstate__()[0]
        found.append(((packed[0], packed[1]), bool(flags[0])))
    return found


def unpacked(kind: str, packed: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Read the weight and the bias of packed parameters."""
    import torch

    name = kind.partition("::")[2].removesuffix("_relu").removesuffix("_dynamic")
    found = getattr(torch.ops.quantized, f"{name}_unpack")(packed)
    return (found, None) if isinstance(found, torch.Tensor) else (found[0], found[1])


def prepacked(kind: str, packed: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """Pack another weight and bias as the parameters `packed` of an operator are."""
    import torch

    name = kind.partition("::")[2].removesuffix("_relu").removesuffix("_dynamic")
    prepack = getattr(torch.ops.quantized, f"{name}_prepack")
    if name not in CONV_AXES:
        return prepack(weight, bias)
    settings = (getattr(torch.ops.quantized, f"{name}_{item}")(packed) for item in ("stride", "padding", "dilation"))
    return prepack(weight, bias, *settings, getattr(torch.ops.quantized, f"{name}_groups")(packed))
