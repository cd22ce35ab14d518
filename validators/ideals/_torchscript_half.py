"""Rounding a TorchScript graph as half-precision arithmetic does: constants once, and what every operator gives.

Import it only where PyTorch is.
"""

from typing import Any

import torch
from torch import Tensor

from convert.formats._torchscript_graph import Script, following, inputs
from convert.formats._torchscript_layers import RECURRENT, Place


def half(x: Tensor) -> Tensor:
    """Round a tensor of floats to half precision; leave integers and masks."""
    if x.is_floating_point():
        return x.half().to(x.dtype)
    return x


def round_to_half(script: Script, exact: set[str], found: tuple[Place, ...]) -> None:
    """Round a float graph; the weights of layers named in `exact` stay as they are."""
    function = torch.jit.script(half)
    kept = [value.debugName() for place in found if place.name in exact for value in _constants(place)]
    for node in script.nodes("prim::Constant"):
        value = node.output()
        held = script.value(value)
        if isinstance(held, Tensor) and held.dtype == torch.float32 and value.debugName() not in kept:
            value.replaceAllUsesWith(script.constant(half(held), node))
    for node in script.nodes():
        if not node.kind().startswith("aten::") or gives_on(node):
            continue
        for given in list(node.outputs()):
            if isinstance(given.type(), torch._C.TensorType) and given.uses():
                _round(script, function, given, following(node))
    for value in script.taken:
        _round(script, function, value, script.outer()[0])


def _round(script: Script, function: Any, value: Any, before: Any) -> None:
    script.reroute(value, lambda: script.function(function, [value], before))


def _constants(place: Place) -> list[Any]:
    values = inputs(place.node)
    if place.kind == RECURRENT:
        return [
            item for value in values if value.node().kind() == "prim::ListConstruct" for item in inputs(value.node())
        ]
    return values[1:3]


def gives_on(node: Any) -> bool:
    """Whether an operator gives its input on, or changes it in place, as its schema says."""
    return "(a" in node.schema().partition("->")[2]
