"""A reduced ONNX graph beside the float graph it was made of: which node of one is which of the other."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.formats._onnx_folding import constants, replace_items

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: Activations that a quantizer may take into the operator before them, whose output then has their name.
ABSORBED = ("Relu", "Clip")


class Side:
    """One of the two graphs: who makes and who reads each value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph: Any = model.graph
        self.constants = constants(self.graph)
        self.made_by = {name: node for node in self.graph.node for name in node.output if name}
        self.read_by: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self.read_by[name].append(node)
        self.inputs = {value.name for value in self.graph.input} - set(self.constants)
        self.outputs = {value.name for value in self.graph.output}

    def array(self, name: str) -> np.ndarray:
        """Give a constant's numbers; raises LoadError where it is none."""
        from onnx import numpy_helper

        if name not in self.constants:
            raise LoadError(f"{name!r} is no constant of the file, so that no ideal can be computed with it")
        found: np.ndarray = numpy_helper.to_array(self.constants[name])
        return found

    def has(self, name: str) -> bool:
        """Whether a value of this name is computed, fed or constant."""
        return name in self.made_by or name in self.inputs or name in self.constants


Place = tuple[Any, int]  # a node, and which of its inputs


class Float(Side):
    """The float graph, which becomes the ideal: values are replaced where a node reads them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        self._names = {name for node in self.graph.node for name in (*node.input, *node.output)}
        self._names |= set(self.constants) | self.inputs | self.outputs
        self._added: list[Any] = []

    def fresh(self, name: str) -> str:
        """Give a name nobody has: this one, or this one with a number."""
        found, number = name, 0
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and give the name it got."""
        from onnx import numpy_helper

        found = self.fresh(name)
        self.graph.initializer.append(numpy_helper.from_array(value, found))
        return found

    def copy(self, tensor: onnx.TensorProto) -> str:
        """Add a copy of another graph's constant and give the name it got."""
        import onnx

        twin = onnx.TensorProto()
        twin.CopyFrom(tensor)
        twin.name = self.fresh(tensor.name)
        self.graph.initializer.append(twin)
        return str(twin.name)

    def node(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add a node; `finish` finds its place."""
        import onnx

        self._added.append(onnx.helper.make_node(operator, inputs, outputs, f"ideal_{outputs[0]}", **attributes))

    def step_aside(self, output: str) -> str:
        """Rename what makes an output of the graph, and its readers with it; give the new name."""
        found = self.fresh(f"{output}_before")
        maker = self.made_by.pop(output)
        maker.output[list(maker.output).index(output)] = found
        self.made_by[found] = maker
        for node in self.read_by[output]:
            for place, name in enumerate(node.input):
                node.input[place] = found if name == output else name
        self.read_by[found] = self.read_by.pop(output)
        return found

    def finish(self) -> None:
        """Put every node behind those it reads from; raises LoadError where that is impossible."""
        known = self.inputs | {tensor.name for tensor in self.graph.initializer} | {""}
        waiting = [*self.graph.node, *self._added]
        placed: list[Any] = []
        while waiting:
            ready = [node for node in waiting if _needs(node) <= known]
            if not ready:
                raise LoadError(f"the ideal of this graph would need {waiting[0].output[0]!r} before it is computed")
            known |= {name for node in ready for name in node.output}
            placed += ready
            waiting = [node for node in waiting if not _needs(node) <= known or node.output[0] not in known]
        replace_items(self.graph.node, placed)
        del self.graph.value_info[:]


def _needs(node: Any) -> set[str]:
    """Name what a node reads, and what the graphs within it read from outside."""
    found = set(node.input)
    for entry in node.attribute:
        for nested in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
            inside = {name for inner in nested.node for name in inner.output}
            inside |= {value.name for value in (*nested.input, *nested.initializer)}
            found |= {name for inner in nested.node for name in _needs(inner)} - inside
            found |= {value.name for value in nested.output} - inside
    return found


def counterpart(ideal: Float, node: Any, output: str) -> dict[int, Place]:
    """Find where the float graph reads what a node of the reduced graph reads, by the place of the input.

    `output` is what the float graph calls the node's output. A Gemm may stand for a MatMul and the sum behind it, and
    an operator for itself and the activation behind it. Raises LoadError where there is no such node.
    """
    twin = ideal.made_by.get(output)
    while twin is not None and twin.op_type in ABSORBED and node.op_type != twin.op_type:
        twin = ideal.made_by.get(twin.input[0])
    if twin is not None and twin.op_type == node.op_type:
        return {place: (twin, place) for place in range(len(node.input))}
    if twin is not None and twin.op_type == "Add" and node.op_type == "Gemm":
        for place, name in enumerate(twin.input):
            product = ideal.made_by.get(name)
            if product is not None and product.op_type == "MatMul":
                return {0: (product, 0), 1: (product, 1), 2: (twin, 1 - place)}
    raise LoadError(
        f"the float model computes no {output!r} with {node.op_type}, as the reduced file does: one was not made of "
        "the other, or by a tool that changes more than numbers"
    )
