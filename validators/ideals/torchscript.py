"""Ideals of TorchScript artifacts: the float archive with weights and activations rounded as the reduced one says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.formats._torchscript_graph import FLOAT_DTYPE, HALF_DTYPE, Script, dtypes, following, inputs, replace
from convert.formats._torchscript_layers import (
    ADD,
    CELLS,
    DYNAMIC,
    EMBEDDING,
    FLOAT,
    HARDSWISH,
    QUANTIZE,
    RECURRENT,
    STATIC,
    STORED,
    Place,
    matrices,
    places,
    unpacked,
)
from convert.formats.torchscript import rewrite
from convert.sources._probe import probe
from convert.sources._torch import read_promise
from convert.spec import FP16, Scale
from convert.worker import Environment
from validators.ideals import IDEALS, Building, Built, Ideal, Nudge
from validators.ideals._choices import chosen

if TYPE_CHECKING:
    import torch

#: The least and greatest of PyTorch's unsigned 8-bit activations, and the number of their dtype in a graph.
LEVELS = (0, 255)
QUINT8 = 13

ALONE = (
    "the ideal was made from the artifact itself, as nobody has its float model: it shows faults of kernels, none of "
    "weights, scales or constants"
)


def build(task: Building) -> Built:
    """Build the ideal of a reduced archive; raises LoadError where its layers are not those of the float one."""
    reduced = Script(Path(task.reduced))
    models = places(reduced)
    if not task.base:
        script, found = reduced, tuple(_undone(reduced, place) for place in models)
        _without_integers(script)
        _without_halves(script)
    else:
        script = Script(Path(task.base))
        found = places(script)
        _require_equal(found, models)
    for place, model in zip(found, models, strict=True):
        _simulate(script, place, model)
    if task.precision == FP16:
        _half(script, found, models)
    out = Path(task.out)
    script.save(out)
    promise = read_promise(probe(Path(task.base or task.reduced)))
    if promise is not None:
        rewrite(out, promise)
    return Built(task.out, () if task.base else (ALONE,))


GIVE_BASE = "give the float artifact it was made of, or the model, with --reference"


def _half(script: Script, found: tuple[Place, ...], models: tuple[Place, ...]) -> None:
    """Round as half-precision arithmetic does, but for the weights of layers the artifact has in floats."""
    import torch

    from validators.ideals._torchscript_half import round_to_half
    from validators.ideals._torchscript_recurrent import HALF

    exact = {model.name for model in models if all(weight.dtype == torch.float32 for weight in model.weights)}
    round_to_half(script, exact, found)
    for place in places(script):
        if place.kind == RECURRENT and place.name not in exact:
            _unrolled(script, place, place.weights, HALF)


def _require_equal(found: tuple[Place, ...], models: tuple[Place, ...]) -> None:
    """Raise LoadError where two graphs do not have the same layers in the same order."""
    for place, model in zip(found, models, strict=False):
        ours, theirs = _shapes(place), _shapes(model)
        if place.name != model.name or ours != theirs:
            raise LoadError(
                f"the artifact has {model.name} ({model.operator} {theirs}) where its float model has {place.name} "
                f"({place.operator} {ours}): nothing tells which numbers belong together",
                fix=GIVE_BASE,
            )
    if len(found) != len(models):
        extra = (found if len(found) > len(models) else models)[min(len(found), len(models))]
        raise LoadError(
            f"the float model has {len(found)} layers and the artifact {len(models)}; {extra.name} is only in one",
            fix=GIVE_BASE,
        )


def _shapes(place: Place) -> list[tuple[int, ...]]:
    weights = matrices(place.weights) if place.kind == RECURRENT else place.weights
    return [tuple(weight.shape) for weight in weights]


def _simulate(script: Script, place: Place, model: Place) -> None:
    """Make a float layer lose what its model in the artifact must lose."""
    if model.form == FLOAT:
        return
    if model.kind == RECURRENT:
        _recurrent(script, place, model)
        return
    node = place.node
    if model.weights:
        position = 0 if model.kind == EMBEDDING else 1
        node.replaceInput(position, script.constant(fake(place.weights[0], model.weights[0]), node))
    if model.form == DYNAMIC:
        node.replaceInput(0, _as_it_comes(script, inputs(node)[0], node, reduced=model.reduced_range))
    if model.form == STATIC and model.given is not None:
        for position, scale in enumerate(model.taken):
            node.replaceInput(position, _rounded(script, inputs(node)[position], scale, node))
        given, scale = node.output(), model.given
        script.reroute(given, lambda: _rounded(script, given, scale, following(node)))


def fake(weight: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """Round a float weight as a quantized one of the same shape is, with its scales and zero points."""
    import torch

    exact = (weight.dequantize() if weight.is_quantized else weight).double()
    if model.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scales, zeros = torch.tensor(model.q_scale()), torch.tensor(model.q_zero_point())
    else:
        shape = [1] * weight.dim()
        shape[model.q_per_channel_axis()] = -1
        scales = model.q_per_channel_scales().double().reshape(shape)
        zeros = model.q_per_channel_zero_points().double().reshape(shape)
    least, most = torch.iinfo(model.int_repr().dtype).min, torch.iinfo(model.int_repr().dtype).max
    axis = model.q_per_channel_axis() if scales.dim() else None
    held, offsets = model.int_repr().double(), zeros.double()
    levels = torch.from_numpy(chosen((exact / scales + offsets).numpy(), held.numpy(), offsets.numpy(), axis))
    return ((torch.clamp(levels, least, most) - offsets) * scales).float()


def _as_it_comes(script: Script, value: Any, before: Any, *, reduced: bool) -> Any:
    """Quantize and dequantize a value as PyTorch's dynamic kernels do: per tensor, from its own range."""
    import torch

    node = script.graph.create("aten::_choose_qparams_per_tensor", [value, script.constant(reduced, before)], 2)
    scale, zero = node.outputs()
    scale.setType(torch._C.FloatType.get())
    zero.setType(torch._C.IntType.get())
    node.insertBefore(before)
    return script.operator("aten::fake_quantize_per_tensor_affine", [value, scale, zero, *LEVELS], before)


def _rounded(script: Script, value: Any, scale: Scale, before: Any) -> Any:
    """Quantize and dequantize a value as the artifact does.

    NOTE: Why not fake_quantize: it multiplies by the reciprocal of the scale where quantize_per_tensor divides, and
    ties go to other sides. The ends of a range may be ties, and pixels that are clipped there are many: D was 0.54.
    """
    integers = script.operator("aten::quantize_per_tensor", [value, scale.scale, scale.zero_point, QUINT8], before)
    return script.operator("aten::dequantize", [integers], before)


def _recurrent(script: Script, place: Place, model: Place) -> None:
    """Put in a plain loop over cells whose weights and inputs are rounded as the artifact's."""
    from validators.ideals._torchscript_recurrent import EIGHT_BITS, SEVEN_BITS

    given = iter(matrices(model.weights))
    weights = tuple(fake(weight, next(given)) if weight.dim() == 2 else weight for weight in place.weights)
    if model.form == STORED:
        listed = script.list_of([script.constant(weight, place.node) for weight in weights], None, place.node)
        place.node.replaceInput(CELLS, listed)
        return
    _unrolled(script, place, weights, SEVEN_BITS if model.reduced_range else EIGHT_BITS)


def _unrolled(script: Script, place: Place, weights: tuple[torch.Tensor, ...], how: int) -> None:
    """Put a loop over plain cells, which rounds its inputs as `how` says, in the place of a recurrent layer."""
    import torch

    from validators.ideals._torchscript_recurrent import LAYERS

    node, taken = place.node, inputs(place.node)
    if not isinstance(script.value(taken[CELLS + 1]), bool):
        raise LoadError(f"{place.name} takes a packed sequence, which has no ideal", fix=GIVE_BASE)
    listed = script.list_of([script.constant(weight, node) for weight in weights], None, node)
    # After the weights come: has_biases, num_layers, dropout, train, bidirectional, batch_first.
    biased, layers, _, _, both, first = taken[CELLS + 1 : CELLS + 7]
    function = torch.jit.script(LAYERS[place.operator])
    torch._C._jit_pass_inline(function.graph)
    made = script.function(function, [*taken[:CELLS], listed, biased, layers, both, first, how], node)
    outputs = list(node.outputs())
    parts = script.graph.create("prim::TupleUnpack", [made], len(outputs))
    parts.insertBefore(node)
    for old, new in zip(outputs, parts.outputs(), strict=True):
        new.setType(torch._C.TensorType.get())
        old.replaceAllUsesWith(new)
    node.destroy()


def _undone(script: Script, place: Place) -> Place:
    """Put a float operator in the place of a quantized one, with the weights the artifact holds."""
    if place.form == FLOAT or place.kind == RECURRENT:
        if place.kind == RECURRENT and place.form == DYNAMIC:
            raise LoadError(f"{place.name} is a quantized {place.operator}, which cannot be undone", fix=GIVE_BASE)
        return place
    node, taken = place.node, inputs(place.node)
    if place.kind == EMBEDDING and node.kind() != "aten::embedding":
        made = script.operator("aten::embedding", [place.weights[0].dequantize(), taken[1], -1, False, False], node)
        replace(node.output(), made)
        return Place(place.name, place.kind, FLOAT, made.node(), tuple(held.dequantize() for held in place.weights))
    if place.form != STATIC and place.form != DYNAMIC:
        return place
    kind = place.operator.removesuffix("_dynamic").removesuffix("_relu")
    if place.kind == ADD:
        values = [*taken[:2], 1]
    elif place.kind == HARDSWISH:
        values = taken[:1]
    else:
        packed = script.value(taken[1])
        weight, bias = unpacked(node.kind(), packed)
        values = [taken[0], weight.dequantize(), bias, *_geometry(kind, packed)]
    made = script.operator(f"aten::{kind}", values, node)
    float_node = made.node()
    if place.operator.endswith("_relu"):
        made = script.operator("aten::relu", [made], node)
    replace(node.output(), made)
    weights = tuple(weight.dequantize() for weight in place.weights)
    return Place(place.name, place.kind, FLOAT, float_node, weights)


def _geometry(kind: str, packed: Any) -> list[Any]:
    import torch

    if not kind.startswith("conv"):
        return []
    axes = int(kind[4])
    known = kind if axes > 1 else "conv2d"  # one-dimensional convolutions are packed as flat images
    found = [
        [int(size) for size in getattr(torch.ops.quantized, f"{known}_{what}")(packed)][-axes:]
        for what in ("stride", "padding", "dilation")
    ]
    return [*found, int(getattr(torch.ops.quantized, f"{known}_groups")(packed))]


def _without_integers(script: Script) -> None:
    """Take the steps between floats and integers out of a graph whose layers are all floats again."""
    for node in script.nodes(QUANTIZE, "aten::dequantize"):
        taken = inputs(node)[0]
        held = script.value(taken)
        replace(node.output(), taken if held is None else script.constant(held.dequantize(), node))


def _without_halves(script: Script) -> None:
    """Make every constant of a half-precision graph a float one, and what is told to be half as well."""
    import torch

    for node in script.nodes("prim::Constant"):
        value, held = node.output(), script.value(node.output())
        if isinstance(held, torch.Tensor) and held.dtype == torch.float16:
            value.replaceAllUsesWith(script.constant(held.float(), node))
    for node, position in dtypes(script):
        if script.value(inputs(node)[position]) == HALF_DTYPE:
            node.replaceInput(position, script.constant(FLOAT_DTYPE, node))


def nudge(path: Path, change: Nudge) -> None:
    """Change every float constant."""
    import torch

    promise, script = read_promise(probe(path)), Script(path)
    for node in script.nodes("prim::Constant"):
        value, held = node.output(), script.value(node.output())
        if isinstance(held, torch.Tensor) and held.dtype == torch.float32 and not held.is_quantized:
            value.replaceAllUsesWith(script.constant(torch.from_numpy(change(held.numpy())), node))
    script.save(path)
    if promise is not None:
        rewrite(path, promise)


IDEALS.register(Ideal("torchscript", Environment("torchscript", ("torch",)), build, nudge))
