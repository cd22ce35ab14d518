"""TorchScript graphs, opened to be read and edited: their layers in one plain form, constants and operators put in.

Names of PyTorch's private graph interface are used here and nowhere else of this kind: there is no public one. PyTorch
is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: What the values of a computed constant may be made by, for `Script.value`.
DEQUANTIZE = "aten::dequantize"

#: Recorded convolutions by the number of axes their weight has.
CONVOLUTIONS = {3: "aten::conv1d", 4: "aten::conv2d", 5: "aten::conv3d"}


#: TorchScript's numbers for dtypes, `c10::ScalarType`.
HALF_DTYPE, FLOAT_DTYPE, QINT8_DTYPE, QUINT8_DTYPE = 5, 6, 12, 13


class Script:
    """A TorchScript archive loaded to be edited; its forward is one graph, without calls of methods."""

    def __init__(self, path: Path) -> None:
        import torch

        self.module = torch.jit.load(str(path), map_location="cpu")
        self.module.eval()
        self.graph: Any = self.module.graph
        torch._C._jit_pass_inline(self.graph)
        torch._C._jit_pass_remove_mutation(self.graph)  # `y += x` and `relu_` become `add` and `relu`, where safe
        _plain(self)

    @property
    def itself(self) -> Any:
        """The graph's first input, which is the module."""
        return next(iter(self.graph.inputs()))

    @property
    def taken(self) -> list[Any]:
        """The graph's inputs after the module."""
        return list(self.graph.inputs())[1:]

    def nodes(self, *kinds: str) -> list[Any]:
        """List the nodes, those of nested blocks where they stand; only of some kinds, if any are given."""
        return [node for node in _walk(self.graph) if not kinds or node.kind() in kinds]

    def outer(self) -> list[Any]:
        """List the nodes of the outermost block."""
        return list(self.graph.nodes())

    def value(self, value: Any) -> Any:
        """Give what a value is known to be before any run: a constant, or an attribute; None where it is computed."""
        import torch

        node = value.node()
        if node.kind() == "prim::Constant":
            found = value.toIValue()
            return found.detach() if isinstance(found, torch.Tensor) else found
        if node.kind() == "prim::GetAttr":
            owner = self._owner(inputs(node)[0])
            return None if owner is None else _detached(owner.getattr(node.s("name")))
        if node.kind() == "prim::ListConstruct":
            items = [self.value(item) for item in node.inputs()]
            return None if any(item is None for item in items) else items
        return None

    def _owner(self, value: Any) -> Any:
        if value.debugName() == self.itself.debugName():
            return self.module._c
        node = value.node()
        owner = self._owner(inputs(node)[0]) if node.kind() == "prim::GetAttr" else None
        return None if owner is None else owner.getattr(node.s("name"))

    def constant(self, value: Any, before: Any) -> Any:
        """Put in a constant before a node."""
        self.graph.setInsertPoint(before)
        return self.graph.insertConstant(value)

    def operator(self, kind: str, taken: Sequence[Any], before: Any) -> Any:
        """Put in an operator that gives one tensor, before a node; what is no value becomes a constant."""
        values = [item if _is_value(item) else self.constant(item, before) for item in taken]
        node = self.graph.create(kind, values, 1)
        node.insertBefore(before)
        return node.output()

    def list_of(self, values: Sequence[Any], kind: Any, before: Any) -> Any:
        """Put in a list of values of one type; None for tensors."""
        import torch

        node = self.graph.create("prim::ListConstruct", list(values), 1)
        node.insertBefore(before)
        node.output().setType(torch._C.ListType(kind or torch._C.TensorType.get()))
        return node.output()

    def function(self, function: torch.jit.ScriptFunction[..., Any], taken: Sequence[Any], before: Any) -> Any:
        """Put in a compiled function's graph before a node, and give its one output."""
        values = [item if _is_value(item) else self.constant(item, before) for item in taken]
        self.graph.setInsertPoint(before)
        return self.graph.insertGraph(function.graph, values)[0]

    def outputs(self) -> list[tuple[Any, int]]:
        """Give where the tensors go that the graph returns, nested or not, in order: the node and its input's place."""
        return list(_leaves(self.graph.return_node()))

    def reroute(self, value: Any, make: Callable[[], Any]) -> None:
        """Let all that takes a value take what `make` makes of it."""
        taking = [(use.user, use.offset) for use in value.uses()]
        made = make()
        for user, offset in taking:
            user.replaceInput(offset, made)

    def attribute(self, name: str, held: Any) -> Any:
        """Give the module an attribute that graphs cannot hold as a constant, as packed weights are."""
        kind = held._type()
        self.module._c._register_attribute(name, kind, held)
        node = self.graph.create("prim::GetAttr", [self.itself], 1)
        node.s_("name", name)
        node.output().setType(kind)
        self.graph.prependNode(node)
        return node.output()

    def run(self, *tensors: torch.Tensor) -> Any:
        """Run the module as it stands; it cannot be edited afterwards, because PyTorch keeps a plan of its own."""
        import torch

        with torch.no_grad():
            return self.module(*tensors)

    def save(self, path: Path) -> None:
        """Write the edited module, without what the edits left unused."""
        import torch

        torch._C._jit_pass_dce(self.graph)
        self.graph.lint()
        torch.jit.save(self.module, str(path))


def inputs(node: Any) -> list[Any]:
    """List a node's inputs."""
    return list(node.inputs())


def dtypes(script: Script) -> Iterator[tuple[Any, int]]:
    """Find the operators that are told a dtype, and the place of it among their inputs."""
    import torch

    for node in script.nodes():
        if node.kind().startswith("aten::"):
            names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]
            if "dtype" in names:
                yield node, names.index("dtype")


def uses(value: Any) -> list[Any]:
    """List the nodes that take a value, once for each time they do."""
    return [use.user for use in value.uses()]


def following(node: Any) -> Any:
    """Give the node after one, before which what uses it is put in."""
    block = node.owningBlock()
    nodes = [*block.nodes(), block.returnNode()]
    return nodes[next(index for index, other in enumerate(nodes) if other == node) + 1]


def _leaves(node: Any) -> Iterator[tuple[Any, int]]:
    for offset, value in enumerate(node.inputs()):
        maker = value.node()
        if maker.kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
            yield from _leaves(maker)
        elif maker.kind() == "prim::DictConstruct":
            yield from (pair for pair in _leaves(maker) if pair[1] % 2)
        else:
            yield node, offset


def replace(old: Any, new: Any) -> None:
    """Put another value in the place of an operator's only output, and take the operator away."""
    node = old.node()
    old.replaceAllUsesWith(new)
    node.destroy()


def _is_value(item: Any) -> bool:
    import torch

    return isinstance(item, torch._C.Value)


def _detached(found: Any) -> Any:
    import torch

    return found.detach() if isinstance(found, torch.Tensor) else found


def _walk(block: Any) -> Iterator[Any]:
    for node in list(block.nodes()):
        yield node
        for nested in node.blocks():
            yield from _walk(nested)


def _plain(script: Script) -> None:
    """Bring the layers to one form each: `linear` for products with a constant, `conv1d` to `conv3d` for recorded ones.

    The values stay as they are, but for the order in which a bias is added.
    """
    for node in script.nodes("aten::_convolution", "aten::addmm", "aten::matmul", "aten::mm"):
        _plain_convolution(script, node) if node.kind() == "aten::_convolution" else _plain_product(script, node)
    for node in script.nodes("aten::add"):
        _plain_bias(script, node)


def _plain_convolution(script: Script, node: Any) -> None:
    taken = inputs(node)
    weight, transposed = script.value(taken[1]), script.value(taken[6])
    if weight is None or transposed is not False or weight.dim() not in CONVOLUTIONS:
        return
    plain = [*taken[:6], taken[8]]
    made = script.operator(CONVOLUTIONS[weight.dim()], plain, node)
    replace(node.output(), made)


def _plain_product(script: Script, node: Any) -> None:
    taken = inputs(node)
    bias, left, right = taken[:3] if node.kind() == "aten::addmm" else (None, *taken[:2])
    weight = script.value(right)
    if weight is None or weight.dim() != 2 or not weight.is_floating_point():
        return
    if bias is not None:
        held = script.value(bias)
        scaled = [script.value(factor) for factor in taken[3:5]]
        if held is None or held.dim() != 1 or scaled != [1, 1] or held.shape[0] != weight.shape[1]:
            return
    made = script.operator("aten::linear", [left, weight.t().contiguous(), bias], node)
    replace(node.output(), made)


def _plain_bias(script: Script, node: Any) -> None:
    """Give a `linear` without a bias the constant that is added to it and to nothing else."""
    taken = inputs(node)
    for position in (0, 1):
        product, added = taken[position].node(), script.value(taken[1 - position])
        if product.kind() != "aten::linear" or not hasattr(added, "dim") or script.value(taken[2]) != 1:
            continue
        weight = script.value(inputs(product)[1])
        alone = len(uses(product.output())) == 1 and inputs(product)[2].node().mustBeNone()
        if weight is None or not alone or list(added.shape) != [weight.shape[0]] or added.dtype != weight.dtype:
            continue
        made = script.operator("aten::linear", [*inputs(product)[:2], added], node)
        replace(node.output(), made)
        product.destroy()
        return
