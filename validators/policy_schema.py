"""The JSON schema of a policy file, for editors that complete and check TOML by one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, defstruct

from convert.formats import FORMATS
from convert.spec import PRECISIONS
from validators.budget import ITEMS, THREADS, Unit
from validators.policy import PARITY, QUALITY
from validators.quantity import FORM, PATTERN

Field = tuple[str, Any]  # a key, and the type of what it holds


def schema() -> dict[str, Any]:
    """Give the JSON schema of `edgeproof.toml`."""
    return msgspec.json.schema(document())


def document() -> type[Struct]:
    """Describe a policy file as a type: every section with the keys that it knows, and no others."""
    parity = [(key, _number(key)) for key in PARITY]
    quality = [(key, _number(key)) for key in QUALITY]
    limits = [(item.key, _limit(item.unit, item.title)) for item in ITEMS]
    limits.append((THREADS, Annotated[int, Meta(ge=1, description="number of threads that the times are of")]))
    budgets = _table("Budget", limits)
    by_precision = [(name, budgets) for name in PRECISIONS]
    of_target = _table("BudgetOfTarget", [*limits, *by_precision])
    budget = _table("Budgets", [*limits, *by_precision, *((name, of_target) for name in FORMATS.names())])
    one_parity, one_quality = _table("Parity", parity), _table("Quality", quality)
    return _table(
        "Policy",
        [
            ("parity", _table("Parities", [*parity, *((name, one_parity) for name in PRECISIONS)])),
            ("outputs", dict[str, one_parity]),  # type: ignore[valid-type]
            ("quality", _table("Qualities", [*quality, *((name, one_quality) for name in PRECISIONS)])),
            ("budget", budget),
        ],
    )


def _table(name: str, fields: Iterable[Field]) -> type[Struct]:
    """Make the type of a table whose keys may all be missing; a key may have hyphens, which no attribute has."""
    fields = list(fields)
    return defstruct(
        name,
        [(key.replace("-", "_"), kind | msgspec.UnsetType, msgspec.UNSET) for key, kind in fields],
        rename={key.replace("-", "_"): key for key, _ in fields},
        forbid_unknown_fields=True,
    )


def _number(key: str) -> Any:
    return float if key.endswith("sqnr_db") else Annotated[float, Meta(ge=0)]


def _limit(unit: Unit, title: str) -> Any:
    if unit.sized:
        words = f"{title}, in bytes, or {FORM.removeprefix('write ')}"
        return Annotated[Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=PATTERN)], Meta(description=words)]
    words = f"{title}, in {unit.name}" if unit.name else title
    most = None if unit.most == math.inf else unit.most
    return Annotated[float, Meta(ge=0, le=most, description=words)]
