"""The ideal of a reduced ONNX file with every operator by itself: each reads what the file itself computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from validators.ideals.onnx import Rounding


def twins(rounding: Rounding, names: tuple[str, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Give, for the reduced file's values of some names, the ideal's value and the numbers it is quantized with."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name in names:
        value = rounding.called.get(name, name)
        numbers: tuple[str, ...] = ()
        if name in rounding.integers:
            value, given, _ = rounding.integers[name]
            numbers = tuple(part for part in given if part)
        if value in rounding.ideal.made_by:
            found[name] = (value, numbers)
    return found


def show(model: Any, values: tuple[str, ...]) -> None:
    """Make some values outputs, in place."""
    import onnx

    there = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values if value not in there)


def cut(rounding: Rounding, values: tuple[str, ...]) -> dict[str, str]:
    """Make what reads some values read an input in place of each, whose name is given; what computes them stays.

    Graphs within the graph read them as they are computed.
    """
    import onnx

    graph = rounding.ideal.model.graph
    taken = {value: rounding.ideal.fresh(f"{value}_step") for value in values}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = taken.get(name, name)
    graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in taken.values()
    )
    return taken
