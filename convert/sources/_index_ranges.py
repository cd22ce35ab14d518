"""How large the integers of a PyTorch model's inputs may be: as what they are looked up in has rows or classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.sources._measure import example, trial_sizes
from convert.sources._state import as_it_was
from convert.spec import Signature, TensorSpec

if TYPE_CHECKING:
    import torch

#: Operators of exported graphs that give the values of their first argument, all or some of them, in another shape or
#: type; of lists of tensors, those of each.
_SAME_VALUES = frozenset(
    (
        *("_to_copy", "to", "type_as", "clone", "contiguous", "detach", "detach_", "alias", "lift_fresh_copy"),
        *(
            "view",
            "_unsafe_view",
            "reshape",
            "flatten",
            "unflatten",
            "unsqueeze",
            "squeeze",
            "permute",
            "transpose",
            "t",
        ),
        *("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack"),
        *("expand", "repeat", "tile", "repeat_interleave", "roll", "flip"),
    )
)

#: Those that look integers up, by the positions of what they look in, of its axis (None: the first), of the integers.
_LOOKUPS = {
    "embedding": (0, None, 1),
    "embedding_bag": (0, None, 1),
    "_embedding_bag": (0, None, 1),
    "_embedding_bag_forward_only": (0, None, 1),
    "index_select": (0, 1, 2),
    "gather": (0, 1, 2),
}

#: How inputs are called that hold zeros and ones and are looked up nowhere.
_MASK = "mask"


def bounded(
    inputs: tuple[TensorSpec, ...], export: Callable[[], torch.export.ExportedProgram], module: torch.nn.Module
) -> tuple[TensorSpec, ...]:
    """Give integer inputs without a range the one that their look-ups allow, as `export` of the module shows.

    Nothing is exported where every range is known. What cannot be exported tells nothing.
    """
    unknown = [s for s in inputs if "int" in s.dtype and s.high is None and not s.name.lower().endswith(_MASK)]
    if not unknown:
        return inputs
    try:
        with as_it_was(module):
            program = export()
        rows = rows_read(program)
    except Exception:  # noqa: BLE001  whatever export does not manage, the range stays unknown, and the report says so
        return inputs
    # By order, since the converter from TorchScript renames the arguments.
    given = dict(zip((spec.name for spec in inputs), program.graph_signature.user_inputs, strict=True))
    found = {spec.name: rows.get(given[spec.name]) for spec in unknown}
    return tuple(replace(s, low=0, high=high - 1) if (high := found.get(s.name)) else s for s in inputs)


def exported(module: torch.nn.Module, inputs: tuple[TensorSpec, ...]) -> torch.export.ExportedProgram:
    """Export a module at one set of sizes, to look at its graph."""
    import torch

    from convert.sources._torch import positional

    signature = Signature(inputs, ())
    sizes = trial_sizes(signature)
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in inputs)
    with torch.no_grad():
        return torch.export.export(positional(module, signature), tensors, strict=False)


def rows_read(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Say how many rows or classes there are where a program looks an input up, by the input's name; the least of all.

    Operators that change no value are followed back from the look-up: casts, reshapes, slices and the like.
    """
    rows: dict[str, int] = {}
    for node in program.graph.nodes:
        for count, integers in _lookups(node):
            if not isinstance(count, int) or count <= 0:
                continue  # as many as the run's inputs are long
            for name in _origins(integers):
                rows[name] = min(count, rows.get(name, count))
    return rows


def _lookups(node: Any) -> Iterator[tuple[Any, Any]]:
    """Give what one operator looks up: how many places there are, and the node of the integers."""
    operator = _operator(node)
    if operator in _LOOKUPS:
        table, axis, integers = _LOOKUPS[operator]
        where = 0 if axis is None else node.args[axis]
        yield _size(node.args[table], where), node.args[integers]
    elif operator == "index":
        for axis, integers in enumerate(node.args[1]):
            if integers is not None and _is_integer(integers):
                yield _size(node.args[0], axis), integers
    elif operator == "one_hot" and len(node.args) > 1:
        yield node.args[1], node.args[0]


def _origins(node: Any) -> Iterator[str]:
    """Name the inputs whose values a node has, unchanged."""
    pending, seen = [node], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.op == "placeholder":
            yield current.name
        elif _operator(current) in _SAME_VALUES or getattr(current.target, "__name__", "") == "getitem":
            first = current.args[0]
            pending += first if isinstance(first, (list, tuple)) else [first]


def _operator(node: Any) -> str:
    """Give the name of an ATen operator without its overload; nothing for what is none."""
    import torch

    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return ""
    return str(node.target._schema.name).removeprefix("aten::")


def _size(node: Any, axis: int) -> Any:
    shape = node.meta["val"].shape
    return shape[axis] if shape else 1


def _is_integer(node: Any) -> bool:
    return "int" in str(node.meta["val"].dtype)
