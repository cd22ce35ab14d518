"""TensorFlow graphs frozen into constants, to be rewritten and revived as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from convert.spec import Signature

Call = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A GraphDef without variables; the names of the tensors to feed and fetch are in the order of a signature."""

    graph: Any
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]

    @property
    def bodies(self) -> list[Any]:
        """The nodes of the graph, then those of every function in its library."""
        return [self.graph.node, *(function.node_def for function in self.graph.library.function)]


def freeze(call: Call, signature: Signature) -> Frozen:
    """Trace a function of named tensors at the sizes of `signature` and turn its variables into constants."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = [spec.name for spec in signature.inputs]

    def body(*tensors: Any) -> list[Any]:
        found = call(dict(zip(names, tensors, strict=True)))
        return [found[spec.name] for spec in signature.outputs]

    taken = [tf.TensorSpec([None if isinstance(d, str) else d for d in s.shape], s.dtype) for s in signature.inputs]
    function = tf.function(body, input_signature=taken, autograph=False).get_concrete_function()
    # NOTE: Why not lowered: loops as Switch and Merge nodes cannot be imported into a function again.
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    feeds = tuple(tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource)
    return Frozen(frozen.graph.as_graph_def(), feeds, tuple(tensor.name for tensor in frozen.outputs))


#: Marks functions, and calls of them, that XLA compiles.
COMPILED = "_XlaMustCompile"

#: Attributes that keep TensorFlow from putting a function's body in the place of its call.
_KEPT_APART = (COMPILED, "_noinline")


def without_compiler(frozen: Frozen) -> Frozen | None:
    """Give a copy in which nothing is marked for XLA; None where nothing is."""
    if not any(COMPILED in node.attr for nodes in frozen.bodies for node in nodes):
        return None
    copy = replace(frozen, graph=type(frozen.graph)())
    copy.graph.CopyFrom(frozen.graph)
    for nodes in copy.bodies:
        for node in nodes:
            node.attr.pop(COMPILED, None)
    for function in copy.graph.library.function:
        function.attr.pop(COMPILED, None)
    rename_functions(copy.graph, "_uncompiled")
    return copy


def inlined(frozen: Frozen) -> Frozen:
    """Put the bodies of functions in the place of their calls, also where they are marked for XLA.

    Keras computes grouped convolutions in such a function, which tf2onnx leaves as a call that nothing else knows.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.grappler import tf_optimizer

    apart = [attrs for nodes in frozen.bodies for attrs in (node.attr for node in nodes) if _is_apart(attrs)]
    if not apart:
        return frozen
    for attributes in (*apart, *(function.attr for function in frozen.graph.library.function)):
        for name in _KEPT_APART:
            attributes.pop(name, None)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph, name="")
        described = tf.compat.v1.train.export_meta_graph(graph_def=frozen.graph, graph=graph)
    described.collection_def["train_op"].node_list.value.extend(frozen.fetches)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    return replace(frozen, graph=tf_optimizer.OptimizeGraph(config, described))


def _is_apart(attributes: Any) -> bool:
    return any(name in attributes for name in _KEPT_APART)


def rename_functions(graph: Any, mark: str) -> None:
    """Append `mark` to every function's name, where it is defined and called, in place.

    TensorFlow keeps one function per name and process: a rewritten one needs a name of its own.
    """
    library = graph.library.function
    names = {function.signature.name for function in library}
    for nodes in (graph.node, *(function.node_def for function in library)):
        for node in nodes:
            if node.op in names:
                node.op += mark
            for attribute in node.attr.values():
                _rename_called(attribute, mark)
    for function in library:
        function.signature.name += mark
    for gradient in graph.library.gradient:
        gradient.function_name += mark
        gradient.gradient_func += mark


def _rename_called(attribute: Any, mark: str) -> None:
    kind = attribute.WhichOneof("value")
    for called in (attribute.func,) if kind == "func" else attribute.list.func if kind == "list" else ():
        called.name += mark
        for inner in called.attr.values():
            _rename_called(inner, mark)


def revive(frozen: Frozen) -> Any:
    """Import a graph and give it as a ConcreteFunction of tensors in the order of its feeds and fetches."""
    import tensorflow as tf

    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(frozen.graph, name=""), [])
    return wrapped.prune(list(frozen.feeds), list(frozen.fetches))
