"""Dynamic int8 for TorchScript: linear and recurrent layers with int8 weights, inputs quantized as they come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.formats._torchscript_graph import QINT8_DTYPE, Script, inputs, replace
from convert.formats._torchscript_layers import CELLS, EMBEDDING, LINEAR, RECURRENT, Place
from convert.precision import QUANTIZERS, Quantizer, Reduced, Reduction
from convert.precision._torchscript import (
    REDUCED_RANGE,
    TORCHSCRIPT,
    listed,
    quantized,
    reduced,
    store_table,
)
from convert.spec import INT8_DYNAMIC

if TYPE_CHECKING:
    import torch

#: NOTE: Why no convolutions: PyTorch's dynamic ones give their output the scale of their input, and clip it.
KINDS = (LINEAR, RECURRENT, EMBEDDING)

#: How many inputs of `aten::lstm` and `aten::gru` one layer and direction has, with and without biases.
WITH_BIAS, WITHOUT_BIAS = 4, 2


def quantize(task: Reduction) -> Reduced:
    """Put PyTorch's dynamic kernels in the place of linear and recurrent layers."""
    return reduced(task, KINDS, _put)


def _put(script: Script, chosen: tuple[Place, ...]) -> tuple[list[Place], tuple[str, ...]]:
    done = [place for place in chosen if as_it_comes(script, place)]
    if not done:
        raise RouteError(
            "nothing in it can be int8-dynamic: its recurrent layers have projections or take packed sequences",
            fix="use int8-weights",
        )
    return done, ()


def as_it_comes(script: Script, place: Place) -> bool:
    """Let a layer quantize its inputs as they come, or store a table; False where PyTorch has no kernel for it."""
    if place.kind == EMBEDDING:
        store_table(script, place)
        return True
    return _linear(script, place) if place.kind == LINEAR else _recurrent(script, place)


def _linear(script: Script, place: Place) -> bool:
    import torch

    taken = inputs(place.node)
    packed = torch.ops.quantized.linear_prepack(quantized(place.weights[0]), script.value(taken[2]))
    held = script.attribute(f"{place.name}_packed", packed)
    replace(
        place.node.output(),
        script.operator("quantized::linear_dynamic", [taken[0], held, REDUCED_RANGE], place.node),
    )
    return True


def _recurrent(script: Script, place: Place) -> bool:
    """Put in `quantized_lstm` or `quantized_gru`; not for projections and packed sequences, which these lack."""
    taken = inputs(place.node)
    biased = script.value(taken[CELLS + 1])
    size = WITH_BIAS if biased else WITHOUT_BIAS
    rows = place.weights[0].shape[0]
    fits = all(weight.shape[0] == rows for weight in place.weights) and isinstance(biased, bool)
    if not fits or len(place.weights) % size:
        return False
    cells = []
    for start in range(0, len(place.weights), size):
        cell = _cell(place.weights[start : start + size])
        cells.append(script.attribute(f"{place.name}_cell_{start // size}", cell))
    packed = script.list_of(cells, cells[0].type(), place.node)
    values = [*taken[:CELLS], packed, script.constant(value=True, before=place.node), *taken[CELLS + 2 :]]
    if place.operator == "lstm":
        integers = script.constant(QINT8_DTYPE, place.node)
        values += [integers, script.constant(value=True, before=place.node)]
    node = script.graph.create(f"aten::quantized_{place.operator}", values, len(list(place.node.outputs())))
    node.insertBefore(place.node)
    for old, new in zip(place.node.outputs(), node.outputs(), strict=True):
        old.replaceAllUsesWith(new)
    place.node.destroy()
    return True


def _cell(weights: tuple[torch.Tensor, ...]) -> Any:
    import torch

    rows = weights[0].shape[0]
    biases = weights[2:] or (torch.zeros(rows), torch.zeros(rows))
    packs = [
        torch.ops.quantized.linear_prepack(quantized(weight), bias)
        for weight, bias in zip(weights[:2], biases, strict=True)
    ]
    return torch.ops.quantized.make_quantized_cell_params_dynamic(*packs, *biases, REDUCED_RANGE)


QUANTIZERS.register(
    Quantizer(
        name="torch-dynamic",
        title="PyTorch's dynamic int8 kernels",
        format="torchscript",
        precisions=(INT8_DYNAMIC,),
        rank=10,
        why="the only dynamic kernels PyTorch has",
        environment=TORCHSCRIPT,
        quantize=quantize,
        layers=partial(listed, kinds=KINDS),
    )
)
