"""What a SavedModel's graph may not do without the user's trust: reach files, the network or Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from convert.errors import UsageError

#: Operators that read or write files, open connections or call Python (TensorFlow 2.21's registry), wherever they are.
_FOREIGN = re.compile(
    r"(Eager)?PyFunc(Stateless)?|NumpyFunc"
    r"|ReadFile|WriteFile|MatchingFiles|ImmutableConst|FileSystem\w+|\w*Dataset\w*|\w*Reader(V2)?|Reader\w+"
    r"|Save|SaveSlices|DistributedSave|CalibrationStatisticsSaver|Restore|RestoreSlice|DTensorRestoreV2"
    r"|LoadAndRemapMatrix|GenerateVocabRemapping"
    r"|\w*Summary(Db)?Writer|CreateSummaryFileWriter|Write\w*Summary|ImportEvent"
    r"|Debug(Identity|NumericSummary)\w*|DebugNanCount"
    r"|\w*Rpc\w*|RemoteCall"
)

#: Operators that saving and restoring variables needs; anywhere else they read, write or delete files.
_CHECKPOINT = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "CheckpointHasKey"})

#: Operators that read a vocabulary; from the model's own assets only.
_VOCABULARY = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})


def refuse_side_effects(graph: Any, path: str, *, trust: bool) -> None:
    """Raise UsageError, naming the operators, where a MetaGraphDef would reach out of the model when loaded or run."""
    if trust:
        return
    found = sorted({*_foreign(graph), *_outside(graph)})
    if found:
        raise UsageError(
            f"{path} has operators that reach files, the network or Python: {', '.join(found)}",
            fix="export the model without them, or add --trust when you know who made it",
        )


def _foreign(graph: Any) -> Iterator[str]:
    for node in _nodes(graph):
        if _FOREIGN.fullmatch(node.op):
            yield node.op
        # tf.print can write to a file.
        if node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file://"):
            yield f"PrintV2 to {node.attr['output_stream'].s.decode(errors='replace')}"
    for asset in graph.asset_file_def:
        name = PurePosixPath(asset.filename)
        if name.is_absolute() or ".." in name.parts:
            yield f"an asset outside the model, {asset.filename}"


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _outside(graph: Any) -> Iterator[str]:
    """Name checkpoint operators that more than saving and restoring reaches, and vocabularies that are no asset."""
    functions = _functions(graph)
    assets = {asset.tensor_info.name.partition(":")[0] for asset in graph.asset_file_def}
    reached, nodes = _reached(graph, functions)
    for node in nodes:
        if node.op in _CHECKPOINT:
            yield node.op
    for body in (nodes, *(functions[name].node_def for name in reached)):
        constants = {node.name for node in body if node.op == "Const"}
        for node in body:
            if node.op in _CHECKPOINT:
                yield node.op
            if node.op in _VOCABULARY and _producer(node.input[1]) in constants - assets:
                yield f"{node.op} of a file that is not the model's own"


def reached_functions(graph: Any) -> list[str]:
    """Name the functions that a MetaGraphDef's signatures and initialisers call, those that save and restore aside."""
    return sorted(_reached(graph, _functions(graph))[0])


def _functions(graph: Any) -> dict[str, Any]:
    return {function.signature.name: function for function in graph.graph_def.library.function}


def _reached(graph: Any, functions: dict[str, Any]) -> tuple[set[str], list[Any]]:
    """Find what runs when a model is loaded or called: names of functions, and nodes of the graph itself."""
    by_name = {node.name: node for node in graph.graph_def.node}
    starts = [info.name for sig in graph.signature_def.values() for info in sig.outputs.values()]
    for key in ("main_op", "legacy_init_op", "saved_model_main_op", "table_initializer"):
        starts += graph.collection_def[key].node_list.value if key in graph.collection_def else ()
    pending = [_producer(name) for name in starts]
    seen: set[str] = set()
    nodes: list[Any] = []
    while pending:
        name = pending.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        nodes.append(by_name[name])
        pending += map(_producer, by_name[name].input)
    called = {name for node in nodes for name in _calls(node, functions)}
    # Loading revives every function that the object graph names, and runs those that create or initialise resources.
    called |= set(graph.object_graph_def.concrete_functions) & functions.keys()
    pending = list(called)
    while pending:
        inner = {name for node in functions[pending.pop()].node_def for name in _calls(node, functions)}
        pending += inner - called
        called |= inner
    return called, nodes


def _calls(node: Any, functions: dict[str, Any]) -> Iterable[str]:
    names = [node.op]
    for attribute in node.attr.values():
        names += [attribute.func.name, *(called.name for called in attribute.list.func)]
    return [name for name in names if name in functions]


def _producer(name: str) -> str:
    return name.lstrip("^").partition(":")[0]
