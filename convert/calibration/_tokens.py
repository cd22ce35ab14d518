"""Tables of numbers, such as token ids: which column is which input, and a row's cells as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.errors import UsageError
from convert.spec import BATCH, Signature, TensorSpec
from validators.kinds import ATTENTION_MASK

if TYPE_CHECKING:
    import numpy as np

#: How tokenizers call the input that says which of two texts a word belongs to.
TEXT_NUMBER = "token_type_ids"

FIX = "name the columns as the inputs; a cell holds the numbers of one sample, separated by spaces"

Number = int | float

LARGEST = 1 << 63  # what integers of the widest dtype stay below


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table has each input: in a column of its name, or, for the only one, in all columns together.

    Inputs in `filled` are not in the table: every word counts (`attention_mask`), and there is one text
    (`token_type_ids`).
    """

    columns: tuple[tuple[str, int], ...]  # input and the number of its column
    whole: str  # the input that a row as a whole belongs to; empty where columns have names
    filled: tuple[str, ...]
    notes: tuple[str, ...]


def layout(where: str, titles: Sequence[str], signature: Signature) -> Layout:
    """Say which column is which input; without titles, or none that is an input's, a row is one input's.

    Raises UsageError for inputs that no table can hold, and for those that this one lacks.
    """
    for spec in signature.inputs:
        if not 1 <= len(spec.shape) <= 2 or spec.shape[0] not in (BATCH, 1):
            raise UsageError(
                f"--calibration: {where} is a table, and no row of one holds {spec}",
                fix="give an .npz, or package.module:callable",
            )
    names = [spec.name for spec in signature.inputs]
    columns = tuple((name, titles.index(name)) for name in names if name in titles)
    found = [name for name, _ in columns]
    fillable = [name for name in names if name not in found and name.endswith((ATTENTION_MASK, TEXT_NUMBER))]
    missing = [name for name in names if name not in found and name not in fillable]
    whole = ""
    if not columns and len(missing) == 1:
        whole = missing.pop()
    if missing or not (columns or whole):
        has = f"has the columns {', '.join(titles)}" if titles else "has no titles"
        raise UsageError(f"--calibration: {where} {has}, and no {', '.join(missing or names)}", fix=FIX)
    notes = [
        f"{name} is not in {where}: {'1' if name.endswith(ATTENTION_MASK) else '0'} everywhere" for name in fillable
    ]
    others = [title for title in titles if title not in found] if columns else []
    if others:
        notes.append(f"columns of {where} that are no inputs were not read: {', '.join(others)}")
    return Layout(columns, whole, tuple(fillable), tuple(notes))


def _filling(name: str) -> int:
    return 1 if name.endswith(ATTENTION_MASK) else 0


def arrays_of(where: str, cells: Sequence[object], how: Layout, signature: Signature) -> dict[str, np.ndarray]:
    """Make a row's cells the arrays of one sample."""
    specs = {spec.name: spec for spec in signature.inputs}
    if how.whole:
        values = {how.whole: [number for cell in cells for number in numbers(where, cell, specs[how.whole])]}
    else:
        for name, index in how.columns:
            if index >= len(cells):
                raise UsageError(f"{where} has {len(cells)} cells, and {name} is column {index + 1}", fix=FIX)
        values = {name: numbers(where, cells[index], specs[name]) for name, index in how.columns}
    length = max(map(len, values.values()))
    for name in how.filled:
        values[name] = [_filling(name)] * length
    return {spec.name: _array(spec, values[spec.name]) for spec in signature.inputs}


def numbers(where: str, cell: object, spec: TensorSpec) -> list[Number]:
    """Read a cell: a number, a list of some, or a text of some, in brackets or not."""
    import numpy as np

    if isinstance(cell, str):
        items: Sequence[object] = cell.strip().strip("[]()").replace(",", " ").split()
    elif isinstance(cell, Sequence):
        items = cell
    else:
        items = [cell]
    floats = np.dtype(spec.dtype).kind == "f"
    found: list[Number] = []
    for item in items:
        number = _number(item, floats=floats)
        if number is None:
            raise UsageError(
                f"{where}: {spec.name} has {item!r}, which is no {'number' if floats else 'integer'}",
                fix=FIX if floats else "turn words into ids as the model's tokenizer does",
            )
        found.append(number)
    if not found:
        raise UsageError(f"{where}: {spec.name} has an empty cell", fix="leave such rows out")
    return found


def _number(item: object, *, floats: bool) -> Number | None:
    """Read a number; None where it is none, and for a fraction or more than 64 bits where integers are wanted."""
    try:
        number = (float if floats else int)(item) if isinstance(item, str) else item
    except ValueError:
        return None
    if floats:
        return number if isinstance(number, int | float) else None
    return number if isinstance(number, int) and -LARGEST <= number < LARGEST else None


def _array(spec: TensorSpec, values: Sequence[Number]) -> np.ndarray:
    """Make numbers, whose text says no dtype, an array of the model's where they fit; fitting refuses the others."""
    import numpy as np

    array = np.array(values) if np.dtype(spec.dtype).kind != "f" else np.array(values, np.float64)
    with np.errstate(over="ignore"):
        cast = array.astype(spec.dtype)
    same_kind = array.dtype.kind == "f" or (array.dtype.kind in "iu" and np.array_equal(cast, array))
    return (cast if same_kind else array).reshape((1, -1) if len(spec.shape) == 2 else (-1,))


def require_no_index(where: str, first: Mapping[int, Number]) -> None:
    """Raise UsageError where the first row counts 0, 1, 2, ...: the titles that a table without names is given."""
    if len(first) > 1 and list(first.values()) == list(range(len(first))):
        raise UsageError(
            f"--calibration: the first row of {where} counts 0, 1, 2, ..., as column titles that nobody named",
            fix="write the table without titles, or with the inputs' names as titles",
        )
