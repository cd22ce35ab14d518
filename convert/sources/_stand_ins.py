"""Stand-ins for classes that an exported program returns and whose library is not there to register them.

An archive names such a class and the names of its fields; the tensors within are all that matters, so a dictionary of
the same names takes its place and nothing is imported.
"""

from __future__ import annotations

import itertools
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import msgspec

from convert.sources._probe import WHOLE, Probe

NAMEDTUPLE = "collections.namedtuple"  # as which PyTorch writes all of them, with the class as context


class _Signature(msgspec.Struct):
    in_spec: str = ""
    out_spec: str = ""


class _Call(msgspec.Struct):
    signature: _Signature | None = None


class _Fields(msgspec.Struct):
    field_names: list[str] = msgspec.field(default_factory=list)


class _Module(msgspec.Struct):
    """What of a serialized program names classes."""

    module_call_graph: list[_Call] = msgspec.field(default_factory=list)
    treespec_namedtuple_fields: dict[str, _Fields] = msgspec.field(default_factory=dict)


class _Program(msgspec.Struct):
    graph_module: _Module


def stand_in(seen: Probe) -> tuple[str, ...]:
    """Register a dictionary for every class the archive returns or takes that PyTorch does not know; name them.

    Call it in the process that loads the archive, before it does.
    """
    from torch.utils import _pytree

    named = []
    for member in seen.members:
        if not (member.endswith(".json") and ("/models/" in member or "serialized_exported_program" in member)):
            continue
        try:
            module = msgspec.json.decode(seen.read(member, WHOLE), type=_Program).graph_module
        except msgspec.MsgspecError:
            continue  # PyTorch's own reader says what is wrong with it
        for kind, context in _kinds(module):
            name = context if kind == NAMEDTUPLE else kind
            if not isinstance(name, str) or name in _pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE:
                continue
            if kind == NAMEDTUPLE:
                fields = module.treespec_namedtuple_fields.get(name, _Fields()).field_names
                _pytree._register_namedtuple(namedtuple("StandIn", fields, rename=True), serialized_type_name=name)
            else:
                _register_dictionary(name)
            named.append(name)
    return tuple(named)


def _kinds(module: _Module) -> Iterator[tuple[str, Any]]:
    """Give the class and the context of every container that a program's inputs and outputs are arranged in."""
    signatures = [call.signature for call in module.module_call_graph if call.signature is not None]
    for text in itertools.chain.from_iterable((signature.in_spec, signature.out_spec) for signature in signatures):
        pending = [msgspec.json.decode(text)] if text else []
        while pending:
            node = pending.pop()
            if isinstance(node, list):
                pending += node
            elif isinstance(node, dict):
                if isinstance(node.get("type"), str):
                    yield node["type"], node.get("context")
                pending += node.get("children_spec") or []


def _register_dictionary(name: str) -> None:
    from torch.utils import _pytree

    stand_in = type("StandIn", (dict,), {"foreign": name})

    def unflatten(values: Any, context: Any) -> Any:
        values = list(values)
        return stand_in(zip(field_names(context, len(values)), values, strict=True))

    _pytree.register_pytree_node(
        stand_in, lambda found: (list(found.values()), list(found)), unflatten, serialized_type_name=name
    )


def field_names(context: Any, count: int) -> list[str]:
    """Read the names of `count` fields from what a class wrote of itself, or number them where it wrote something else.

    Transformers' outputs write a list of their names; dataclasses that list and the one of their empty fields.
    """
    if isinstance(context, list) and context and isinstance(context[0], list):
        context = context[0]
    if isinstance(context, list) and len(context) == count and all(isinstance(name, str) for name in context):
        return list(context)
    return [str(position) for position in range(count)]
