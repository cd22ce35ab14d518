"""What a result of the zoo depends on: the tool's code, versions of frameworks, what builds and saves the model."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

from models import Entry
from places import HERE, ROOT
from saving import SAVERS

from validators.environment import versions


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def of_tool() -> str:
    """Digest the tool's code, committed or not, and the versions of everything that can change a result."""
    files = sorted(path for room in ("convert", "validators") for path in (ROOT / room).rglob("*.py"))
    return digest(*(path.read_text() for path in files), repr(sorted(versions().items())))


@functools.cache
def of_model(entry: Entry) -> str:
    """Digest an entry, and all code that builds it, saves it, answers for it and checks what is made of it."""
    module, _, name = entry.builder.partition(":")
    used = ((module, name), ("saving", "build"), ("saving", SAVERS[entry.saved].__name__), ("fresh", "keep_answers"))
    return digest(repr(entry), *(part for place in (*used, ("fresh", "check")) for part in definitions(*place)))


def definitions(module: str, name: str) -> list[str]:
    """Give the source of a top-level name, and of all that it refers to in the zoo's modules."""
    found: dict[tuple[str, str], str] = {}
    waiting = [(module, name)]
    while waiting:
        place, word = waiting.pop()
        home, source = module_of(place).get(word, ("", ""))
        if home and home != place:
            waiting.append((home, word))
        elif source and (place, word) not in found:
            found[place, word] = source
            words = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
            waiting += [(place, other) for other in sorted(words)]
    return [found[key] for key in sorted(found)]


@functools.cache
def module_of(module: str) -> dict[str, tuple[str, str]]:
    """Map a module's top-level names to where they are defined and their source; empty for what is not the zoo's."""
    path = Path(HERE / f"{module}.py")
    if not path.is_file():
        return {}
    text = path.read_text()
    names: dict[str, tuple[str, str]] = {}
    for node in ast.parse(text).body:
        source = ast.get_source_segment(text, node) or ""
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: (node.module or "", "") for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            decorators = "".join(ast.get_source_segment(text, part) or "" for part in node.decorator_list)
            names[node.name] = (module, f"{source}\n{decorators}")
        elif isinstance(node, ast.Assign):
            names |= {target.id: (module, source) for target in node.targets if isinstance(target, ast.Name)}
    return names
