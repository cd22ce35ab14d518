"""The module of an ONNX graph: constants folded, nodes computed one after another."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx.inliner
import torch
from onnx import numpy_helper
from torch import Tensor

from convert.errors import LoadError
from convert.formats.onnx import graphs
from convert.onnx_torch import _import_families
from convert.onnx_torch.table import OPERATORS, OTHER_WAY, Node, Operator
from convert.onnx_torch.values import Small, Value, small_of, tensor_of
from convert.worker import summary

#: Operators whose answer is not settled by their inputs, or that hold graphs.
NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
    | {"If", "Loop", "Scan"}
)

DOMAINS = ("", "ai.onnx")

#: How deep the definition of an operator by others may be nested; in the standard it is two.
DEFINITIONS = 4


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the graph: the module's buffer, and its numbers where they are few."""

    buffer: str
    small: Small | None
    folded: Tensor | None = None  # its value where it is only met while folding, and is no buffer


@dataclass(slots=True)
class Graph:
    """A graph made ready to run: its own inputs and outputs by name, its steps, the constants they need."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One node, how it is computed, and the values that nothing needs after it."""

    node: Node
    operator: Operator
    finished: tuple[str, ...]


class OnnxModule(torch.nn.Module):
    """A graph that runs on tensors by position and gives a tuple of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph((), ())
        self.nodes: list[Node] = []

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph."""
        found = self.run(self.graph, dict(zip(self.graph.inputs, inputs, strict=True)))
        return tuple(tensor_of(value) for value in found)

    def widen(self) -> OnnxModule:
        """Make the module compute in float64, in place."""
        self.double()
        for node in self.nodes:
            node.wide = True
            for key, value in node.attributes.items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    node.attributes[key] = value.double()
        return self

    def run(self, graph: Graph, values: dict[str, Value]) -> list[Value]:
        """Run a graph on named values, those of the graphs around it included."""
        values.update(graph.constants)
        for step in graph.steps:
            given = [values[name] if name else None for name in step.node.inputs]
            found = self.compute(step, given, values)
            results = found if isinstance(found, tuple) else (found,)
            values.update(zip(step.node.outputs, results, strict=False))
            for name in step.finished:
                values.pop(name, None)
        return [self._plain(values[name]) for name in graph.outputs]

    def compute(self, step: Step, given: list[Value], values: dict[str, Value]) -> Value:
        """Compute one node: on Python numbers where all its inputs are, else on tensors."""
        operator = step.operator
        if operator.small is not None:
            numbers = [_known(value) for value in given]
            if numbers and all(value is None or isinstance(value, Small) for value in numbers):
                found = operator.small(step.node, *numbers)
                if found is not NotImplemented:
                    return found
        arguments = []
        for position, value in enumerate(given):
            if position in operator.raw or -1 in operator.raw:
                small = value.small if isinstance(value, Constant) else None
                arguments.append(small if small is not None else self._plain(value))
            else:
                arguments.append(self._tensor(value, step.node))
        if step.node.kind in ("If", "Loop", "Scan"):
            return operator.compute(step.node, *arguments, run=lambda body, own: self.run(body, {**values, **own}))
        return operator.compute(step.node, *arguments)

    def _plain(self, value: Value) -> Value:
        if not isinstance(value, Constant):
            return value
        return getattr(self, value.buffer) if value.folded is None else value.folded

    def _tensor(self, value: Value, node: Node) -> Value:
        if isinstance(value, Small):
            wide = node.wide and value.dtype.is_floating_point
            return value.tensor(torch.float64 if wide else None)
        return self._plain(value)


def build(model: onnx.ModelProto) -> OnnxModule:
    """Build the module of a model, its local functions inlined."""
    _import_families()
    model = _inlined(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    with torch.no_grad():
        module = OnnxModule()
        reader = _Reader(module, {"": max(versions.get(name, 1) for name in DOMAINS), **versions})
        module.graph = reader.graph(model.graph, {})
    module.eval()
    return module


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline the model's own functions, and the operators not known here that the standard defines by others."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    for _ in range(DEFINITIONS):
        unknown = {_key(n): (n.domain, n.op_type) for g in graphs(model.graph) for n in g.node}
        defined = [names for key, names in sorted(unknown.items()) if key not in OPERATORS and _is_defined(*names)]
        if not defined:
            break
        try:
            model = onnx.inliner.inline_selected_functions(model, defined, inline_schema_functions=True)
        except RuntimeError as error:
            raise LoadError(
                f"the ONNX importer does not know {', '.join(name for _, name in defined)}, and cannot use its "
                f"definition by other operators here: {summary(error, 1)}",
                fix=OTHER_WAY,
            ) from error
    return model


def _is_defined(domain: str, kind: str) -> bool:
    """Whether the standard defines an operator by others."""
    try:
        schema = onnx.defs.get_schema(kind, domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


class _Reader:
    """Reads graphs into a module; `versions` are the operator sets it imports."""

    def __init__(self, module: OnnxModule, versions: dict[str, int]) -> None:
        self._module = module
        self._versions = versions
        self._buffers: dict[int, str] = {}  # by the identity of the tensor, which is kept alive below
        self._kept: list[Tensor] = []

    def graph(self, proto: onnx.GraphProto, outer: dict[str, Tensor]) -> Graph:
        """Read one graph; `outer` are the constants of the graphs around it."""
        own = {tensor.name: _tensor(tensor) for tensor in proto.initializer}
        inputs = tuple(value.name for value in proto.input if value.name not in own)
        known = {name: value for name, value in {**outer, **own}.items() if name not in inputs}
        graph = Graph(inputs, tuple(value.name for value in proto.output))
        pending: list[tuple[Node, Operator]] = []
        for node_proto in proto.node:
            node = self._node(node_proto, known)
            operator = _operator(node_proto)
            if not self._fold(node, operator, known):
                pending.append((node, operator))
                for name in node.outputs:
                    known.pop(name, None)
        needed = set(graph.outputs)
        for node, operator in reversed(pending):
            captured = _captured(node)
            uses = {name for name in (*node.inputs, *captured) if name}
            finished = tuple(name for name in uses | set(node.outputs) if name and name not in needed)
            needed |= uses
            graph.steps.append(Step(node, operator, finished))
            self._module.nodes.append(node)
        graph.steps.reverse()
        graph.constants = {name: self._constant(name, known[name]) for name in sorted(needed) if name in known}
        return graph

    def _fold(self, node: Node, operator: Operator, known: dict[str, Tensor]) -> bool:
        """Compute a node whose inputs are constants; give whether that was done."""
        if node.kind in NEVER_FOLDED or not all(name in known for name in node.inputs if name):
            return False
        module = self._module
        constants = {name: Constant("", small_of(known[name]), known[name]) for name in node.inputs if name}
        step = Step(node, operator, ())
        found = module.compute(step, [constants.get(name) if name else None for name in node.inputs], {})
        results = found if isinstance(found, tuple) else (found,)
        if not all(value is None or isinstance(value, (Tensor, Small)) for value in results):
            return False
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                known[name] = tensor_of(value)
        return True

    def _constant(self, name: str, tensor: Tensor) -> Constant:
        if id(tensor) not in self._buffers:
            buffer = self._attribute(name)
            trained = tensor.is_floating_point() and tensor.dim() > 0
            if trained:
                self._module.register_parameter(buffer, torch.nn.Parameter(tensor, requires_grad=False))
            else:
                self._module.register_buffer(buffer, tensor)
            self._buffers[id(tensor)] = buffer
            self._kept.append(tensor)
        return Constant(self._buffers[id(tensor)], small_of(tensor))

    def _attribute(self, name: str) -> str:
        base = "c_" + re.sub(r"\W+", "_", name).strip("_")
        taken = {*self._module._parameters, *self._module._buffers}
        return next(found for i in range(len(taken) + 1) if (found := f"{base}_{i}" if i else base) not in taken)

    def _node(self, proto: onnx.NodeProto, known: dict[str, Tensor]) -> Node:
        attributes = {entry.name: self._attribute_value(entry, known) for entry in proto.attribute}
        version = self._versions.get(proto.domain, self._versions[""])
        return Node(proto.op_type, proto.name, version, attributes, tuple(proto.input), tuple(proto.output))

    def _attribute_value(self, entry: onnx.AttributeProto, known: dict[str, Tensor]) -> Any:
        value = onnx.helper.get_attribute_value(entry)
        if isinstance(value, onnx.GraphProto):
            return self.graph(value, known)
        if isinstance(value, onnx.TensorProto):
            return _tensor(value)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, (list, tuple)) or hasattr(value, "__len__"):
            return [item.decode() if isinstance(item, bytes) else item for item in value]
        return value


def _operator(proto: onnx.NodeProto) -> Operator:
    """Find how a node is computed; raises LoadError, naming it, where its operator is not known."""
    name = _key(proto)
    if name not in OPERATORS:
        raise LoadError(
            f"the ONNX importer does not know the operator {name} (node {proto.name or proto.output[0]})",
            fix=OTHER_WAY,
        )
    return OPERATORS[name]


def _key(proto: onnx.NodeProto) -> str:
    return str(proto.op_type if proto.domain in DOMAINS else f"{proto.domain}::{proto.op_type}")


def _known(value: Value) -> Value:
    """Give a value as Python numbers where it has them; an input that is not there stays None."""
    return value if not isinstance(value, Constant) or value.small is None else value.small


def _captured(node: Node) -> set[str]:
    """Name what the graphs nested in a node take from outside."""
    found: set[str] = set()
    for value in node.attributes.values():
        if isinstance(value, Graph):
            made = set(value.inputs) | {name for step in value.steps for name in step.node.outputs}
            uses = {name for step in value.steps for name in (*step.node.inputs, *_captured(step.node)) if name}
            found |= (uses | set(value.outputs)) - made - set(value.constants)
    return found


def _tensor(proto: onnx.TensorProto) -> Tensor:
    """Read a constant."""
    if proto.data_type == onnx.TensorProto.STRING:
        raise LoadError(f"the constant {proto.name} holds strings, which PyTorch lacks", fix=OTHER_WAY)
    array = numpy_helper.to_array(proto)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype("float32")).to(torch.bfloat16)
    return torch.from_numpy(array.copy() if not array.flags.writeable else array)
