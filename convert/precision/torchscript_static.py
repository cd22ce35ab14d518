"""Static int8 for TorchScript: layers and the sums between them in 8 bits, with ranges from calibration data.

NOTE: Why not the export-based flow (torchao's pt2e): its graphs hold `quantized_decomposed` operators, which are
registered in Python, so that no archive with them loads. PyTorch's own quantized operators are put into the float
archive's graph instead, which is there for every source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convert.errors import RouteError
from convert.formats._torchscript_graph import DEQUANTIZE, QUINT8_DTYPE, Script, inputs, replace, uses
from convert.formats._torchscript_layers import (
    ADD,
    CONV,
    EMBEDDING,
    HARDSWISH,
    LINEAR,
    PASSING,
    QUANTIZE,
    RECURRENT,
    Place,
    places,
    scale_of,
)
from convert.precision import QUANTIZERS, Layer, Quantizer, Reduced, Reduction
from convert.precision._ranges import Ends, Observer, remembered
from convert.precision._torchscript import REDUCED_RANGE, TORCHSCRIPT, listed, quantized, reduced
from convert.precision.torchscript_dynamic import as_it_comes
from convert.recipe import RANGES
from convert.spec import INT8, Scale
from convert.worker import summary

WEIGHTED = (LINEAR, CONV)
COMING = (RECURRENT, EMBEDDING)
KINDS = (*WEIGHTED, ADD, HARDSWISH, *COMING)

#: Operators after a layer that clip what it gives: its range is that of what is left.
CLIPPING = ("aten::relu", "aten::relu6", "aten::hardtanh")

#: How many bits an activation has.
BITS = 7 if REDUCED_RANGE else 8


def quantize(task: Reduction) -> Reduced:
    """Put PyTorch's quantized kernels in the place of layers, with integers between neighbours."""
    return reduced(task, KINDS, lambda script, chosen: _put(task, script, chosen))


def _put(task: Reduction, script: Script, chosen: tuple[Place, ...]) -> tuple[list[Place], tuple[str, ...]]:
    coming = [place for place in chosen if place.kind in COMING or not _outermost(script, place)]
    static = _worthwhile(script, [place for place in chosen if place not in coming])
    if not any(place.weights for place in static.values()):
        raise RouteError(
            "nothing in it can be int8: no linear layer or convolution has constant weights outside of branches",
            fix="use int8-dynamic or int8-weights",
        )
    ranges = _ranges(task)
    scales = _scales(script, static, lambda name: ranges.range_of(name, task.recipe.ranges, BITS))
    for name, place in static.items():
        _integers(script, place, *scales[name])
    _join(script)
    done = [*static.values(), *(place for place in coming if place.kind != CONV and as_it_comes(script, place))]
    others = [place.name for place in coming if place in done and place.kind != EMBEDDING]
    return done, (f"their inputs are quantized as they come: {', '.join(others)}",) if others else ()


def _outermost(script: Script, place: Place) -> bool:
    """Whether a layer runs in every run, once: those in branches and loops have no one range."""
    return any(node == place.node for node in script.outer())


def _worthwhile(script: Script, able: list[Place]) -> dict[str, Place]:
    """Choose the layers: convolutions and linear ones, and what stands between them with integers on every side."""
    chosen: dict[str, Place] = {}
    makers: dict[str, str] = {}
    for place in able:
        sides = {ADD: 2, HARDSWISH: 1}.get(place.kind, 0)
        roots = [_root(script, value) for value in inputs(place.node)[:sides]]
        if all(root in makers for root in roots) and _plain(script, place):
            chosen[place.name] = place
            makers[place.node.output().debugName()] = place.name
    return chosen


def _plain(script: Script, place: Place) -> bool:
    """Whether PyTorch's quantized operators take a layer's arguments."""
    if place.kind == CONV:
        return isinstance(script.value(inputs(place.node)[4]), list)  # not "same"
    return place.kind != ADD or script.value(inputs(place.node)[2]) == 1


def _root(script: Script, value: Any) -> str:
    """Name the value that one only moves or clips."""
    while value.node().kind() in PASSING and _moves(script, value.node()):
        value = inputs(value.node())[0]
    return str(value.debugName())


def _end(place: Place) -> Any:
    """Give what a layer gives, after it was clipped."""
    value = place.node.output()
    while [user.kind() for user in uses(value)] in [[kind] for kind in CLIPPING]:
        value = uses(value)[0].output()
    return value


def _ranges(task: Reduction) -> Observer:
    if task.calibration is None:
        raise RouteError(
            "int8 takes its ranges from calibration data, and there is none", fix="give some with --calibration"
        )
    return remembered(task.base, task.calibration, lambda observer: _observe(task, observer))


def _observe(task: Reduction, observer: Observer) -> None:
    """Run the float archive on all samples and feed what its layers take and give to the observer."""
    import torch

    script = Script(Path(task.base.path))
    watched = dict(_watched(script))
    values = [*inputs(script.graph.return_node()), *watched.values()]
    script.graph.eraseOutput(0)
    together = script.graph.create("prim::TupleConstruct", values, 1)
    script.graph.appendNode(together)
    together.output().setType(torch._C.TupleType([value.type() for value in values]))
    script.graph.registerOutput(together.output())
    for index, sample in enumerate(task.calibration.samples() if task.calibration else ()):
        tensors = [torch.from_numpy(sample[s.name].astype(s.dtype, copy=False)) for s in task.base.signature.inputs]
        try:
            _, *seen = script.run(*tensors)
        except RuntimeError as error:
            raise RouteError(
                f"sample {index} of the calibration data does not run on the float file: {summary(error, 2)}",
                fix="give samples of the shapes that the file takes",
            ) from error
        for name, tensor in zip(watched, seen, strict=True):
            observer.feed(name, tensor.numpy())


def _watched(script: Script) -> Iterator[tuple[str, Any]]:
    for place in places(script):
        if place.kind not in COMING and _outermost(script, place):
            for position, value in enumerate(inputs(place.node)[: 2 if place.kind == ADD else 1]):
                yield f"{place.name}.in{position}", value
            yield f"{place.name}.out", _end(place)


def _scale(ends: Ends) -> Scale:
    """Spread the levels over a range; one that holds nothing but zeros gets the scale 1."""
    low, high = ends
    if high <= low:
        return Scale(1.0, 0)
    top = (1 << BITS) - 1
    scale = max((high - low) / top, 1e-30)
    return Scale(scale, max(0, min(top, round(-low / scale))))


def _scales(
    script: Script, static: Mapping[str, Place], range_of: Callable[[str], Ends]
) -> dict[str, tuple[list[Scale], Scale]]:
    """Choose the scales of every layer's inputs and output; inputs have those with which layers before give them."""
    given = {name: _scale(range_of(f"{name}.out")) for name in static}
    made = {place.node.output().debugName(): given[name] for name, place in static.items()}
    chosen = {}
    for name, place in static.items():
        values = inputs(place.node)[: 2 if place.kind == ADD else 1]
        taken = [
            made.get(_root(script, value)) or _scale(range_of(f"{name}.in{position}"))
            for position, value in enumerate(values)
        ]
        chosen[name] = (taken, given[name])
    return chosen


def _integers(script: Script, place: Place, taken: list[Scale], given: Scale) -> None:
    """Put a quantized operator in the place of a layer, with the ReLU that follows, between floats."""
    node = place.node
    users = uses(node.output())
    clipped = place.kind != HARDSWISH and [user.kind() for user in users] == ["aten::relu"]
    values = inputs(node)
    integers = [
        script.operator(QUANTIZE, [value, scale.scale, scale.zero_point, QUINT8_DTYPE], node)
        for value, scale in zip(values, taken, strict=False)
    ]
    if place.weights:
        arguments = [script.value(value) for value in values[2:]]  # the bias and, of convolutions, their geometry
        prepack = getattr(torch_operators(), f"{place.operator}_prepack")
        packed = prepack(quantized(place.weights[0]), *arguments)
        integers.append(script.attribute(f"{place.name}_packed", packed))
    kind = f"quantized::{place.operator}{'_relu' if clipped else ''}"
    made = script.operator(kind, [*integers, given.scale, given.zero_point], node)
    floats = script.operator(DEQUANTIZE, [made], node)
    replace(node.output(), floats)
    if clipped:
        replace(users[0].output(), floats)


def torch_operators() -> Any:
    """Give PyTorch's quantized operators."""
    import torch

    return torch.ops.quantized


def _join(script: Script) -> None:
    """Keep integers between neighbours: what only moves them takes them, and what would make them anew goes."""
    import torch

    for node in [node for node in script.outer() if node.kind() in PASSING and _moves(script, node)]:
        values = inputs(node)
        if _made_floats(script, values[0]):
            moved = script.operator(node.kind(), [inputs(values[0].node())[0], *values[1:]], node)
            replace(node.output(), script.operator(DEQUANTIZE, [moved], node))
    for node in [node for node in script.outer() if node.kind() == QUANTIZE]:
        value = inputs(node)[0]
        if _made_floats(script, value):
            integers = inputs(value.node())[0]
            if scale_of(script, integers) == scale_of(script, node.output()):
                replace(node.output(), integers)
    torch._C._jit_pass_cse(script.graph)  # a value that several layers take is quantized once


def _moves(script: Script, node: Any) -> bool:
    """Whether an operator gives integers on with their scale: all that are listed do, but for padding with a number."""
    names = ("aten::pad", "aten::constant_pad_nd")
    if node.kind() not in names:
        return True
    *mode, filling = [script.value(value) for value in inputs(node)[2:]]
    return mode in ([], ["constant"]) and filling in (None, 0)


def _made_floats(script: Script, value: Any) -> bool:
    """Whether a value is the floats of computed integers."""
    node = value.node()
    return node.kind() == DEQUANTIZE and script.value(inputs(node)[0]) is None


def layers(base: Path) -> tuple[Layer, ...]:
    """List the layers that would be quantized, were none kept."""
    script = Script(base)
    able = [place for place in places(script) if place.kind in (*WEIGHTED, ADD, HARDSWISH)]
    chosen = _worthwhile(script, [place for place in able if _outermost(script, place)])
    between = {place.name for place in able if not place.weights and place.name not in chosen}
    return tuple(layer for layer in listed(base, KINDS) if layer.name not in between)


QUANTIZERS.register(
    Quantizer(
        name="torch-static",
        title="PyTorch's static int8 kernels",
        format="torchscript",
        precisions=(INT8,),
        rank=10,
        why="the only kernels with fixed ranges that an archive can hold",
        environment=TORCHSCRIPT,
        quantize=quantize,
        layers=layers,
        ranges=RANGES,
    )
)
