"""An ONNX graph that is being quantized: who makes and who reads each value, and what is added to it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.formats._onnx_folding import constants, nested_graphs, replace_items
from convert.sources._onnx import STANDARD

if TYPE_CHECKING:
    import numpy as np
    import onnx


class Edit:
    """The outer graph of a folded model, to which constants and nodes are added.

    Nodes that `before` and `after` collect are placed by `finish`; until then the graph's own nodes stay as they are.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph: Any = model.graph
        self.constants = constants(self.graph)
        self.made_by = {name: node for node in self.graph.node for name in node.output if name}
        self.read_by: dict[str, list[Any]] = defaultdict(list)
        self.outputs = {value.name for value in self.graph.output}
        self.captured: set[str] = set()  # read by nested graphs
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self.read_by[name].append(node)
            for nested in nested_graphs(node):
                self.captured |= names_read(nested)
        self.ranks, self.dtypes = _shapes_of(model)
        self._names = set(self.made_by) | set(self.constants) | {value.name for value in self.graph.input}
        self._names |= self.captured
        self.shared: dict[tuple[str, int | None], str] = {}  # weights quantized already, by name and axis
        self._zeros: dict[tuple[str, tuple[int, ...]], str] = {}
        self._leading: list[Any] = []
        self._before: dict[str, list[Any]] = defaultdict(list)
        self._after: dict[str, list[Any]] = defaultdict(list)

    def array(self, name: str) -> np.ndarray:
        """Give a constant's numbers."""
        from onnx import numpy_helper

        found: np.ndarray = numpy_helper.to_array(self.constants[name])
        return found

    def fresh(self, name: str) -> str:
        """Give a name nobody has: this one, or this one with a number."""
        found = name
        for number in range(1, len(self._names) + 2):
            if found not in self._names:
                break
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and give the name it got."""
        from onnx import numpy_helper

        return self.tensor(numpy_helper.from_array(value, name))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> str:
        """Give the name of a constant of zeros, which all that need the same share."""
        import numpy as np

        key = (dtype, shape)
        if key not in self._zeros:
            name = f"zero_point_{dtype}" + "".join(f"_{size}" for size in shape)
            self._zeros[key] = self.constant(name, np.zeros(shape, dtype))
        return self._zeros[key]

    def tensor(self, value: onnx.TensorProto) -> str:
        """Add a constant that is a tensor already, for types that numpy lacks."""
        value.name = self.fresh(value.name)
        self.graph.initializer.append(value)
        return str(value.name)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        """Make a node, not yet placed; it has no name, of which small files would mostly consist."""
        import onnx

        return onnx.helper.make_node(operator, inputs, [output], **attributes)

    def first(self, *nodes: Any) -> None:
        """Place nodes before all others: they read only inputs and constants."""
        self._leading.extend(nodes)

    def before(self, node: Any, *nodes: Any) -> None:
        """Place nodes directly before one of the graph's."""
        self._before[node.name].extend(nodes)

    def after(self, value: str, *nodes: Any) -> None:
        """Place nodes directly behind the one that makes `value`, or first where it is an input."""
        if value in self.made_by:
            self._after[self.made_by[value].name].extend(nodes)
        else:
            self._leading.extend(nodes)

    def finish(self) -> None:
        """Put every node in its place, and drop what nothing reads any more."""
        from convert.formats._onnx_folding import drop_unused

        placed = list(self._leading)
        for node in self.graph.node:
            placed += [*self._before[node.name], node, *self._after[node.name]]
        replace_items(self.graph.node, placed)
        drop_unused(self.graph)
        del self.graph.value_info[:]  # says what values were; it can be inferred again


def names_read(graph: Any) -> set[str]:
    """Name all values that a nested graph and those within it mention."""
    found = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        for nested in nested_graphs(node):
            found |= names_read(nested)
    return found


def attribute(node: Any, name: str, default: Any) -> Any:
    """Read an attribute of a node."""
    import onnx

    return next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def opset_of(model: onnx.ModelProto) -> int:
    """Give the version of the standard's operators that a model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=1)


def raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Give a model of at least this version of the standard's operators.

    Raises RouteError where onnx cannot convert it.
    """
    import onnx

    if opset_of(model) >= opset:
        return model
    try:
        found = onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError) as error:
        raise RouteError(
            f"this precision needs ONNX opset {opset}; onnx cannot raise the model from {opset_of(model)}: {error}",
            fix=f"export the model with opset {opset}, or choose another precision",
        ) from error
    found.ir_version = max(found.ir_version, model.ir_version, onnx.helper.find_min_ir_version_for(found.opset_import))
    return found


def _shapes_of(model: onnx.ModelProto) -> tuple[dict[str, int], dict[str, int]]:
    """Infer the number of axes and the type of every value, as far as the standard's rules tell.

    Constants are left out of what is inferred from, as far as they are large: a protobuf ends at 2 GiB.
    """
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(model) if model.ByteSize() < LIGHT_BYTES else _copy_light(model, light)
    inferred = onnx.shape_inference.infer_shapes(light)
    ranks: dict[str, int] = {}
    dtypes: dict[str, int] = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            ranks[value.name] = len(tensor.shape.dim)
        dtypes[value.name] = tensor.elem_type
    for tensor in model.graph.initializer:
        ranks[tensor.name], dtypes[tensor.name] = len(tensor.dims), tensor.data_type
    return ranks, dtypes


#: Above this many bytes, shapes are inferred without the numbers of large constants.
LIGHT_BYTES = 1 << 28

#: What a constant may have of bytes to be one that shapes are computed from.
SHAPE_BYTES = 4096


def _copy_light(model: onnx.ModelProto, light: onnx.ModelProto) -> None:
    """Copy a model, its large constants as inputs."""
    import onnx

    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(model.graph, field))
    taken = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= SHAPE_BYTES:
            light.graph.initializer.append(tensor)
        elif tensor.name not in taken:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
