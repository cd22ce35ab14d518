"""Weight-only int8 for TorchScript: weights stored as integers and made floats where they are used."""

from __future__ import annotations

from functools import partial
from typing import Any

from convert.formats._torchscript_graph import DEQUANTIZE, Script, inputs
from convert.formats._torchscript_layers import CELLS, CONV, EMBEDDING, LINEAR, RECURRENT, Place
from convert.precision import QUANTIZERS, Quantizer, Reduced, Reduction
from convert.precision._torchscript import TORCHSCRIPT, listed, quantized, reduced, store_table
from convert.spec import INT8_WEIGHTS

KINDS = (LINEAR, CONV, RECURRENT, EMBEDDING)

#: NOTE: Why not `aten::_weight_int8pack_mm`: with float32 inputs its kernel is a plain loop; 64 rows by a 512x256
#: weight took 35 ms in PyTorch 2.13, and 0.3 ms as a float product.
SLOWER = "weights are made floats anew in every run: the file is smaller, and not faster"


def quantize(task: Reduction) -> Reduced:
    """Store the weights as integers with one scale per channel, with the operator that makes them floats."""
    return reduced(task, KINDS, _put)


def _put(script: Script, chosen: tuple[Place, ...]) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    for place in chosen:
        if place.kind == EMBEDDING:
            store_table(script, place)
        elif place.kind == RECURRENT:
            for value in inputs(inputs(place.node)[CELLS].node()):
                _store(script, value, inputs(place.node)[CELLS].node())
        else:
            _store(script, inputs(place.node)[1], place.node)
    return chosen, (SLOWER,)


def _store(script: Script, value: Any, node: Any) -> None:
    held = script.value(value)
    if held.dim() < 2:
        return  # a bias
    stored = script.operator(DEQUANTIZE, [quantized(held)], node)
    for position, other in enumerate(inputs(node)):
        if other.debugName() == value.debugName():
            node.replaceInput(position, stored)


QUANTIZERS.register(
    Quantizer(
        name="torch-weights",
        title="TorchScript with stored int8 weights",
        format="torchscript",
        precisions=(INT8_WEIGHTS,),
        rank=10,
        why="dequantize is an operator of PyTorch's own, and reaches every layer",
        environment=TORCHSCRIPT,
        quantize=quantize,
        layers=partial(listed, kinds=KINDS),
    )
)
