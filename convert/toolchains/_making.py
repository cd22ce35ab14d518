"""Making a toolchain's environment with uv: beside its place first, then moved there in one step."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import msgspec

from convert.errors import ToolchainError
from convert.toolchains._interpreters import Interpreter, search

if TYPE_CHECKING:
    from convert.toolchains import Toolchain

#: All of it together, waiting for another run's preparation included: onnx2tf's 90 MB at 2 Mbit/s.
PREPARE_SECONDS = 400.0

#: uv's own limits, so that a network that swallows packets is noticed: 3 tries of at most 20 s.
NETWORK = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_CONNECT_TIMEOUT": "10", "UV_HTTP_RETRIES": "2", "UV_NO_PROGRESS": "1"}

#: Variables of the user's shell that would pull another environment into this one.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_PROJECT")

MARKER = "edgeproof.json"  # written last: an environment without it is not finished


def make(toolchain: Toolchain, place: Path, ready: Mapping[str, object]) -> None:
    """Make the environment of a toolchain at `place`, with `ready` and its interpreter in the marker.

    One run makes it while others wait; a damaged one that is there already is replaced. Raises ToolchainError where
    no interpreter suits, the packages cannot be had, the folder cannot be written, or what was made does not start.
    """
    root = place.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f"{toolchain.name}.lock", timeout=PREPARE_SECONDS):
            if not complete(toolchain, place, ready):
                _make(toolchain, place, ready)
    except filelock.Timeout as error:
        raise ToolchainError(
            f"another run has been preparing {toolchain.title} for {PREPARE_SECONDS:g} s", fix="wait for it or end it"
        ) from error
    except OSError as error:
        raise ToolchainError(
            f"cannot prepare {toolchain.title} in {root}: {error.strerror or error}",
            fix="make room there, or name another folder in the variable EDGEPROOF_CACHE",
        ) from error


def complete(toolchain: Toolchain, place: Path, ready: Mapping[str, object]) -> bool:
    """Whether a finished environment, made from the same list, is at `place` and its interpreter is still there."""
    try:
        marker = msgspec.json.decode((place / MARKER).read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError):
        return False
    same = all(marker.get(key) == value for key, value in ready.items())
    packages = (*place.glob("lib/python*/site-packages"), place / "Lib/site-packages")
    return same and python_of(place).exists() and any((folder / toolchain.module).is_dir() for folder in packages)


def binaries_of(place: Path) -> Path:
    """Where an environment keeps its programs."""
    return place / ("Scripts" if os.name == "nt" else "bin")


def python_of(place: Path) -> Path:
    """Where an environment keeps its interpreter."""
    return binaries_of(place) / ("python.exe" if os.name == "nt" else "python")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the variables for a process of a toolchain: the user's, without what leads to other environments."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    # NOTE: Why: written once while it is prepared, the bytecode saves 3 s of every conversion.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, **(extra or {})}


def _make(toolchain: Toolchain, place: Path, ready: Mapping[str, object]) -> None:
    for left in place.parent.glob(f".{toolchain.name}-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    interpreter = search(toolchain)
    work = Path(tempfile.mkdtemp(prefix=f".{toolchain.name}-", dir=place.parent))
    try:
        made = work / "environment"
        _install(toolchain, interpreter, made)
        _prove(toolchain, made)
        marker = {**ready, "interpreter": interpreter.path, "python": ".".join(map(str, interpreter.version))}
        (made / MARKER).write_bytes(msgspec.json.format(msgspec.json.encode(marker)))
        if place.exists():
            place.replace(work / "damaged")
        made.replace(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _install(toolchain: Toolchain, interpreter: Interpreter, made: Path) -> None:
    """Fill an empty environment with exactly the packages of the list; from uv's cache where there is no network."""
    import uv

    program = uv.find_uv_bin()
    # NOTE: Why relocatable: scripts name the folder they were made in, and this one moves.
    venv = [program, "venv", "--quiet", "--relocatable", "--no-project", "--no-python-downloads"]
    _run(toolchain, [*venv, "--python", interpreter.path, str(made)], made.parent)
    listed = made.parent / "packages.txt"
    listed.write_text("\n".join(toolchain.packages) + "\n", encoding="utf-8")
    install = [program, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--python"]
    line = [*install, str(python_of(made)), "--requirements", str(listed)]
    try:
        _run(toolchain, line, made.parent)
    except ToolchainError as online:
        try:
            _run(toolchain, [*line, "--offline"], made.parent)
        except ToolchainError:
            raise online from None


def _run(toolchain: Toolchain, line: Sequence[str], folder: Path) -> None:
    """Run uv; raises ToolchainError with its own reason where it fails or takes too long."""
    try:
        ran = subprocess.run(
            line,
            cwd=folder,  # away from the user's project, whose settings are not ours
            env=clean_environment(NETWORK),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PREPARE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreachable(toolchain, f"uv was not done after {PREPARE_SECONDS:g} s") from error
    if ran.returncode:
        raise _unreachable(toolchain, reason_of(ran.stderr))


def _unreachable(toolchain: Toolchain, reason: str) -> ToolchainError:
    return ToolchainError(
        f"cannot prepare {toolchain.title}, which is downloaded once ({toolchain.download}): {reason}",
        fix="connect to the network, or name a package index that can be reached in the variable UV_DEFAULT_INDEX, "
        f"then run: python -m convert --toolchains prepare:{toolchain.name}",
    )


def reason_of(log: str) -> str:
    """Shorten what uv says to what went wrong and its deepest cause."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log.splitlines()]
    lines = [line for line in plain if line and not line.startswith(("Using ", "warning:", "hint:"))]
    if not lines:
        return "uv failed without a word"
    causes = [line.removeprefix("cause:").strip() for line in lines if line.startswith("cause:")]
    first = lines[0].removeprefix("error:").strip(" \u00d7")
    return "; ".join(dict.fromkeys((first, *causes[:1], *causes[-1:])))


def _prove(toolchain: Toolchain, made: Path) -> None:
    """Start the converter once, which also writes its bytecode; raises ToolchainError where it does not start."""
    line = [str(python_of(made)), "-m", toolchain.module, *toolchain.probe]
    environment = clean_environment({"PATH": f"{binaries_of(made)}{os.pathsep}{os.environ.get('PATH', '')}"})
    try:
        ran = subprocess.run(
            line,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PREPARE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"{toolchain.title} does not start within {PREPARE_SECONDS:g} s") from error
    if ran.returncode or toolchain.version not in ran.stdout:
        said = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or ["nothing"]
        raise ToolchainError(
            f"{toolchain.title} was installed and does not start; it says: {said[0]}",
            fix="if a system library is missing, install it; then run: "
            f"python -m convert --toolchains prepare:{toolchain.name}",
        )
