"""Which Python interpreters this machine has, for a toolchain that needs another one than the running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import ToolchainError

if TYPE_CHECKING:
    from convert.toolchains import Toolchain

#: An interpreter that needs longer than this to print its version is not one to build on; most need 0.02 s.
START_SECONDS = 20.0

QUESTION = """
import json, platform, struct, sys, sysconfig
print(json.dumps({"version": list(sys.version_info[:3]),
    "plain": platform.python_implementation() == "CPython" and struct.calcsize("P") == 8
        and not sysconfig.get_config_var("Py_GIL_DISABLED")}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that starts."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.version))} ({self.path})"


def search(toolchain: Toolchain) -> Interpreter:
    """Find the first interpreter that starts and suits: the running one, on PATH, pyenv's, uv's.

    Raises ToolchainError, naming what was found instead.
    """
    unsuitable: list[str] = []
    for path in places(toolchain):
        found = start(path)
        if found is not None and toolchain.python <= found.version[:2] < toolchain.below:
            return found
        unsuitable.append(f"{path} does not start" if found is None else str(found))
    least, most = _dotted(toolchain.python), _dotted((toolchain.below[0], toolchain.below[1] - 1))
    raise ToolchainError(
        f"{toolchain.title} runs on Python {least} to {most}, and this machine has none of them"
        + (f"; it has {', '.join(unsuitable)}" if unsuitable else ""),
        fix=f"install one, for example with: uv python install {least} (or pyenv install {least}, or your system's "
        f"package python{least})",
    )


def places(toolchain: Toolchain) -> Iterator[Path]:
    """Yield the interpreters to try, each once, the likeliest first."""
    seen: set[Path] = set()
    for path in _everywhere(toolchain):
        if path.is_file() and os.access(path, os.X_OK) and path.resolve() not in seen:
            # NOTE: Why a shim is not resolved away: pyenv's are one script under many names, and answer by the name.
            seen.add(path if "shims" in path.parts else path.resolve())
            yield path


def _everywhere(toolchain: Toolchain) -> Iterator[Path]:
    yield Path(sys.executable)
    minors = range(toolchain.python[1], toolchain.below[1])
    suffix = ".exe" if os.name == "nt" else ""
    for name in (*(f"python{toolchain.python[0]}.{minor}" for minor in minors), "python3", "python"):
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            if folder:
                yield Path(folder) / f"{name}{suffix}"
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in minors:
        yield from sorted(versions.glob(f"{toolchain.python[0]}.{minor}.*/bin/python"))
    yield from managed(toolchain)


def managed(toolchain: Toolchain) -> Iterator[Path]:
    """Yield the interpreter that uv keeps itself, where it has one that suits; none is downloaded."""
    import uv

    wanted = f">={_dotted(toolchain.python)},<{_dotted(toolchain.below)}"
    line = [uv.find_uv_bin(), "python", "find", "--managed-python", "--no-python-downloads", "--no-project", wanted]
    answer = _output(line)
    if answer:
        yield Path(answer)


def start(path: Path) -> Interpreter | None:
    """Start an interpreter and ask for its version; None where it does not start or is no plain 64-bit CPython.

    Being there and executable says little: pyenv's shims start only where their version is switched on.
    """
    try:
        answer = json.loads(_output([str(path), "-I", "-c", QUESTION]))
        major, minor, patch = map(int, answer["version"])
    except (ValueError, KeyError, TypeError):
        return None
    return Interpreter(str(path), (major, minor, patch)) if answer.get("plain") else None


def _output(line: list[str]) -> str:
    """Give what a command prints, or nothing where it fails or hangs."""
    try:
        ran = subprocess.run(
            line, capture_output=True, text=True, timeout=START_SECONDS, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return ran.stdout.strip()


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
