"""Mutants of TorchScript archives, in float and with packed quantized layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.formats._torchscript_graph import Script, following, inputs, replace
from convert.formats._torchscript_layers import CONV, DYNAMIC, LINEAR, STATIC, prepacked, unpacked
from convert.formats._torchscript_layers import Place as Layer
from convert.formats._torchscript_layers import places as layers
from convert.formats.torchscript import rewrite
from convert.sources._probe import probe
from convert.sources._torch import read_promise
from validators.mutants import (
    ACTIVATION,
    AXES,
    EPSILON,
    EPSILON_FACTOR,
    MUTATORS,
    SCALED,
    SWAPPED,
    UNBIASED,
    Mutator,
    Place,
    Spot,
    pair_to_swap,
    swapped,
)
from validators.runtimes.torchscript import TORCHSCRIPT

if TYPE_CHECKING:
    import torch

    from convert.spec import Promise

#: What takes the place of an activation, and what it takes after the tensor.
OTHER: dict[str, tuple[str, tuple[float, ...]]] = {
    "aten::relu": ("aten::leaky_relu", (0.01,)),
    "aten::relu6": ("aten::relu", ()),
    "aten::hardtanh": ("aten::relu", ()),
    "aten::leaky_relu": ("aten::relu", ()),
    "aten::elu": ("aten::relu", ()),
    "aten::sigmoid": ("aten::hardsigmoid", ()),
    "aten::hardsigmoid": ("aten::sigmoid", ()),
    "aten::tanh": ("aten::sigmoid", ()),
    "aten::gelu": ("aten::relu", ()),
    "aten::silu": ("aten::hardswish", ()),
    "aten::hardswish": ("aten::silu", ()),
    "aten::mish": ("aten::silu", ()),
    "aten::softplus": ("aten::relu", ()),
    "aten::softmax": ("aten::sigmoid", ()),
}

#: Where normalisations have their epsilon, among their inputs.
EPSILONS = {"aten::layer_norm": 4, "aten::batch_norm": 7, "aten::group_norm": 4, "aten::instance_norm": 7}

#: Where layers have their bias, among their inputs.
BIASES = {"aten::linear": 2, "aten::conv1d": 2, "aten::conv2d": 2, "aten::conv3d": 2, "aten::_convolution": 2}


@dataclass(frozen=True, slots=True)
class Opened:
    """An archive opened to be broken, and the signature that it was given."""

    script: Script
    promise: Promise


def open_archive(path: Path) -> Opened:
    """Open an archive; raises LoadError where it states no signature, which its mutants would lose."""
    promise = read_promise(probe(path))
    if promise is None:
        raise LoadError(f"{path.name} has no signature.json, so mutants of it could not be judged as it is")
    return Opened(Script(path), promise)


def places(opened: Opened, scale: float) -> Iterator[Place]:
    """List the places of the graph, that of its blocks included."""
    script = opened.script
    for layer in layers(script):
        yield from _weights(script, layer, scale)
    for node in script.nodes():
        kind = node.kind()
        where = f"{kind.partition('::')[2]} {_name(node)}"
        if kind in BIASES:
            yield from _bias(script, node, BIASES[kind], where)
        if kind in EPSILONS:
            yield from _epsilon(script, node, EPSILONS[kind], where)
        if kind in OTHER:
            yield Place(Spot(ACTIVATION, where), partial(_replace, script, node))
    for number, (node, offset) in enumerate(script.outputs()):
        name = opened.promise.output_names[number] if number < len(opened.promise.output_names) else str(number)
        yield Place(Spot(AXES, name), partial(_swap_axes, script, node, offset))


def _name(node: Any) -> str:
    """Name an operator after its output and the line of code it came from, where the archive says it."""
    return next((str(value.debugName()) for value in node.outputs()), "")


def _weights(script: Script, layer: Layer, scale: float) -> Iterator[Place]:
    """A layer's weights can be scaled, and have two channels swapped; packed ones lose their bias too."""
    for value in inputs(layer.node):
        if layer.form in (STATIC, DYNAMIC) and layer.kind in (LINEAR, CONV) and value.node().kind() == "prim::GetAttr":
            yield from _packed(script, layer, value, scale)
            return
        held = script.value(value)
        if not hasattr(held, "dim") or held.dim() < 2 or not held.is_floating_point() or held.is_quantized:
            continue
        array = held.float().numpy()
        yield Place(Spot(SCALED, layer.name), _setter(script, layer.node, value, held * scale))
        axis = next((axis for axis, size in enumerate(array.shape) if size > 1), None)
        pair = None if axis is None else pair_to_swap(array, axis)
        if axis is not None and pair is not None:
            turned = _like(held, swapped(array, pair, axis))
            yield Place(Spot(SWAPPED, layer.name), _setter(script, layer.node, value, turned))
        return


def _packed(script: Script, layer: Layer, value: Any, factor: float) -> Iterator[Place]:
    """Break what a packed layer holds: its weight's scales, the order of its channels, its bias."""
    import torch

    weight, bias = unpacked(layer.node.kind(), script.value(value))
    integers = weight.int_repr()
    per_channel = weight.qscheme() == torch.per_channel_affine
    scales = weight.q_per_channel_scales() if per_channel else torch.tensor([weight.q_scale()])

    def pack(numbers: torch.Tensor, scale: float, kept: torch.Tensor | None) -> None:
        if per_channel:
            zeros = weight.q_per_channel_zero_points()
            made = torch._make_per_channel_quantized_tensor(numbers, scales * scale, zeros, weight.q_per_channel_axis())
        else:
            made = torch._make_per_tensor_quantized_tensor(numbers, float(scales[0]) * scale, weight.q_zero_point())
        held = prepacked(layer.node.kind(), script.value(value), made, kept)
        script.module._c.setattr(value.node().s("name"), held)

    yield Place(Spot(SCALED, layer.name), partial(pack, integers, factor, bias))
    pair = pair_to_swap(integers.numpy(), 0)
    if pair is not None:
        turned = torch.from_numpy(swapped(integers.numpy(), pair, 0))
        yield Place(Spot(SWAPPED, layer.name), partial(pack, turned, 1.0, bias))
    if bias is not None and bool(bias.detach().any()):
        yield Place(Spot(UNBIASED, layer.name), partial(pack, integers, 1.0, bias.detach() * 0))


def _like(held: torch.Tensor, array: Any) -> torch.Tensor:
    import torch

    return torch.from_numpy(array).to(held.dtype)


def _setter(script: Script, node: Any, value: Any, held: Any) -> Callable[[], None]:
    """Let one operator take another constant than a value."""

    def apply() -> None:
        made = script.constant(held, node)
        node.replaceInputWith(value, made)

    return apply


def _bias(script: Script, node: Any, position: int, where: str) -> Iterator[Place]:
    value = inputs(node)[position]
    held = script.value(value)
    if hasattr(held, "dim") and bool(held.any()):
        yield Place(Spot(UNBIASED, where), _setter(script, node, value, held * 0))


def _epsilon(script: Script, node: Any, position: int, where: str) -> Iterator[Place]:
    value = inputs(node)[position]
    held = script.value(value)
    if isinstance(held, float) and held > 0:
        yield Place(Spot(EPSILON, where), _setter(script, node, value, held * EPSILON_FACTOR))


def _replace(script: Script, node: Any) -> None:
    """Put another activation in an activation's place."""
    kind, more = OTHER[node.kind()]
    replace(node.output(), script.operator(kind, [inputs(node)[0], *more], node))


def _swap_axes(script: Script, node: Any, offset: int) -> None:
    """Transpose the last two axes of an output; one of a single axis cannot be, and the archive then fails to run."""
    value = inputs(node)[offset]
    before = node if value.node().kind() == "prim::Param" else following(value.node())
    node.replaceInput(offset, script.operator("aten::transpose", [value, -1, -2], before))


def save(opened: Opened, path: Path) -> None:
    """Write the archive with its signature."""
    opened.script.save(path)
    rewrite(path, opened.promise)


MUTATORS.register(Mutator("torchscript", TORCHSCRIPT, open_archive, places, save))
