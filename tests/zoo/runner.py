"""Run the zoo and write its page: `python tests/zoo/runner.py [--only PATTERN] [--again] [--stale]`.

Results are kept in build/zoo/ and taken again while the tool, the frameworks and what builds the model are the same.
It ends with 1 where a cell does not come out as expected.py says, or an independent check finds an artifact wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cells import Cell, Store, convert, targets
from expected import surprise
from models import ENTRIES, Entry
from places import PAGE


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="patterns of model names, as of a shell, separated by commas")
    parser.add_argument("--to", default="", help="formats, separated by commas; default: all each model must lead to")
    parser.add_argument("--again", action="store_true", help="take no kept result")
    parser.add_argument("--stale", action="store_true", help="also take what other code of the tool proved")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further model after that long")
    parser.add_argument("--list", action="store_true", help="only list the models")
    parser.add_argument("--page", default=str(PAGE), help="where to write the table; empty for nowhere")
    return parser.parse_args(argv)


def chosen(pattern: str) -> list[Entry]:
    """List the entries that the patterns fit, the first pattern's first; ends the program where there is none."""
    patterns = [part.strip() for part in pattern.split(",") if part.strip()]
    found = list(dict.fromkeys(entry for part in patterns for entry in ENTRIES if entry.matches(part)))
    if not found:
        sys.exit(f"no model is named {pattern!r}; --list shows them")
    return found


def run(entries: list[Entry], asked: argparse.Namespace, store: Store) -> Iterator[tuple[Entry, Cell, bool]]:
    """Give every cell of the entries, kept or made now; says which."""
    formats = {name for name in asked.to.split(",") if name}
    until = time.monotonic() + 60 * asked.minutes
    for entry in entries:
        forms = [form for form in targets(entry) if not formats or form in formats]
        kept = {form: None if asked.again else taken(entry, form, asked, store) for form in forms}
        yield from ((entry, cell, True) for cell in kept.values() if cell)
        missing = tuple(form for form in forms if kept[form] is None)
        if not missing or time.monotonic() > until:
            continue
        try:
            made = convert(entry, missing, store)
        except RuntimeError as error:
            made = [Cell(entry.name, form, status="ERROR", reason=str(error)) for form in missing]
        else:
            for cell in made:
                store.keep(entry, cell)
        yield from ((entry, cell, False) for cell in made)


def taken(entry: Entry, form: str, asked: argparse.Namespace, store: Store) -> Cell | None:
    """Take a kept result; of other code of the tool only what was proven, for the rest may have been mended."""
    found = store.kept(entry, form)
    older = store.kept(entry, form, stale=True) if asked.stale and found is None else None
    return older if older is not None and older.proven else found


def line(number: str, cell: Cell, *, kept: bool) -> str:
    said = f"{cell.candidate} R {cell.ratio:.2f}" if cell.ratio is not None else cell.candidate
    if not cell.proven:
        said = cell.reason.splitlines()[0][:160] if cell.reason else "?"
    if cell.wrong:
        said = f"WRONG: {cell.checked['why']}; {said}"
    elif cell.proven and cell.checked.get("agreed") is None:
        said += f"  (not checked: {cell.checked.get('why', '')[:100]})"
    when = "kept" if kept else f"{cell.seconds:.0f} s"
    return f"{number:>9}  {cell.model:36} {cell.form:12} {cell.status:8} {when:>6}  {said}"


def main() -> None:
    asked = parsed()
    entries = chosen(asked.only)
    if asked.list:
        print("\n".join(f"{entry.name:40} {entry.saved:18} {', '.join(targets(entry))}" for entry in entries))
        return
    store = Store()
    order = {entry.name: index for index, entry in enumerate(entries, 1)}
    wrong = []
    for entry, cell, kept in run(entries, asked, store):
        print(line(f"{order[entry.name]}/{len(entries)}", cell, kept=kept), flush=True)
        found = surprise(cell)
        wrong += [f"{cell.model} {cell.form}: {found}"] if found else []
    if asked.page:
        from page import write

        write(Path(asked.page), store)
    print("\n".join(wrong) or "everything as expected")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
