"""The ideal of a quantized TFLite file with every operator by itself: each reads what the file itself computed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from convert.formats.tflite import DTYPES


@dataclass(frozen=True, slots=True)
class Cut:
    """A tensor at which the ideal was cut, by its place among the graph's inputs and outputs."""

    twin: int  # the quantized file's tensor
    taken: int  # what is read in its place; -1 where nothing is
    given: int  # what its operator makes of what is read; -1 for the graph's own inputs


def cut(model: Any, twins: dict[int, int]) -> list[Cut]:
    """Cut the first graph at every float tensor that the quantized file has too, in place.

    Sizes are computed along the graph as before: they are no numbers that are rounded.
    """
    graph = model.subgraphs[0]
    made = {int(index) for operator in graph.operators for index in operator.outputs}
    instead: dict[int, int] = {}
    for operator in graph.operators:
        for index in map(int, operator.outputs):
            tensor = graph.tensors[index]
            if index in twins and DTYPES.get(tensor.type) == "float32" and not tensor.isVariable:
                graph.tensors.append(_renamed(tensor, f"step_{index}"))
                instead[index] = len(graph.tensors) - 1
    for operator in graph.operators:
        operator.inputs = [instead.get(int(index), int(index)) for index in operator.inputs]
    own = [int(index) for index in graph.inputs]
    graph.inputs = [*own, *instead.values()]
    graph.outputs = list(instead)
    model.signatureDefs = None
    taken = {index: place for place, index in enumerate(graph.inputs)}
    cuts = [Cut(twins[index], taken[index], -1) for index in own if index not in made]
    return cuts + [Cut(twins[index], taken[new], place) for place, (index, new) in enumerate(instead.items())]


def _renamed(tensor: Any, name: str) -> Any:
    twin = copy.copy(tensor)
    twin.name, twin.buffer = name.encode(), 0
    return twin
