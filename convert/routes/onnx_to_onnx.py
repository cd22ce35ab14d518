"""ONNX to ONNX: a checked copy without what nothing needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.formats import Draft
from convert.formats.onnx import graphs, write_model
from convert.rewrites import rescue
from convert.routes import ROUTES, Route, Work
from convert.sources import ONNX
from convert.worker import summary

if TYPE_CHECKING:
    import onnx


def convert(work: Work) -> Draft:
    """Rescue what exporters got wrong, drop what is dead, and have the standard's own checker read the result."""
    import onnx

    model = work.model.whole()
    rescues = rescue(model)
    dropped = slim(model)
    model.producer_name = model.producer_name or "edgeproof"
    write_model(work.out, model)
    try:
        onnx.checker.check_model(str(work.out), full_check=False)
    except onnx.checker.ValidationError as error:
        raise RouteError(f"the ONNX checker refuses the graph: {summary(error, 3)}", fix="export it again") from error
    names = tuple(spec.name for spec in work.signature.inputs), tuple(spec.name for spec in work.signature.outputs)
    return Draft(str(work.out), work.signature, *names, notes=dropped, rescues=rescues)


def slim(model: onnx.ModelProto) -> tuple[str, ...]:
    """Remove nodes, constants, functions and texts that no output needs, in place; say what went."""
    nodes = constants = 0
    for graph in graphs(model.graph):
        graph.doc_string = ""
        for node in graph.node:
            node.doc_string = ""
    needed = {value.name for value in model.graph.output}
    for graph in graphs(model.graph):
        if graph is not model.graph:
            needed |= {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    keep = []
    for node in reversed(model.graph.node):
        if needed & {name for name in node.output if name}:
            keep.append(node)
            needed |= set(node.input)
    nodes = len(model.graph.node) - len(keep)
    _keep(model.graph.node, reversed(keep), everything=not nodes)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    constants = len(model.graph.initializer) - len(kept)
    _keep(model.graph.initializer, kept, everything=not constants)
    model.doc_string = ""
    del model.metadata_props[:]
    gone = [f"{count} unused {what}" for count, what in ((nodes, "node(s)"), (constants, "constant(s)")) if count]
    return (f"{' and '.join(gone)} removed",) if gone else ()


def _keep(field: Any, wanted: Any, *, everything: bool) -> None:
    """Leave only some items of a repeated field; copies, because deleting takes the items themselves."""
    if everything:
        return
    copies = []
    for item in wanted:
        copy = type(item)()
        copy.CopyFrom(item)
        copies.append(copy)
    del field[:]
    field.extend(copies)


ROUTES.register(
    Route(
        name="onnx-checked",
        title="checked ONNX copy",
        takes=("onnx",),
        gives="onnx",
        rank=10,
        why="the file itself is the best there is of it",
        environment=ONNX.environment,
        convert=convert,
    )
)
