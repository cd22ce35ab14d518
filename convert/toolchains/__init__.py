"""Toolchains: converters whose pins conflict with everything else, each in an environment of its own.

Made on first use with uv, from an exact list of versions, below the user's cache folder. A toolchain is one file of
this folder that registers a `Toolchain`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from convert.errors import ToolchainError, UsageError
from convert.registry import Registry
from convert.toolchains import _making
from convert.worker import Environment, Workers

__all__ = ["TOOLCHAINS", "Place", "Preparing", "State", "Toolchain", "find", "listing", "prepare", "prepared", "remove"]

#: The variable that names another cache folder.
CACHE = "EDGEPROOF_CACHE"

#: The worker that prepares, so that an interrupted run takes uv with it.
PREPARING = Environment("toolchains")

READY, MISSING, DAMAGED, OUTDATED = "ready", "not prepared", "damaged", "of another version"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One converter in an environment of its own.

    `packages` lists every package with its version, those it depends on included: nothing else is installed, so the
    same list gives the same environment. `module` is run with `python -m`, with `probe` to see that it starts; it then
    prints `version`.
    """

    name: str
    title: str
    version: str
    python: tuple[int, int]  # the least
    below: tuple[int, int]  # the first that is too new
    packages: tuple[str, ...]
    module: str
    probe: tuple[str, ...]
    download: str  # how much, for people

    @property
    def lock(self) -> str:
        """The hash of what it is made from."""
        return hashlib.sha256("\n".join(self.packages).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """A toolchain that is ready to run."""

    folder: str
    python: str
    binaries: str  # goes first on PATH: converters call programs of their own

    def environment(self) -> dict[str, str]:
        """Give the variables to run it with: its programs first on PATH, and nothing reached over the network."""
        dead = "http://127.0.0.1:9"  # the discard port; whoever asks for the network is refused at once
        proxies = {
            name: dead for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
        }
        path = f"{self.binaries}{os.pathsep}{os.environ.get('PATH', '')}"
        return _making.clean_environment(
            {**proxies, "NO_PROXY": "", "no_proxy": "", "HF_HUB_OFFLINE": "1", "PATH": path}
        )


@dataclass(frozen=True, slots=True)
class Preparing:
    """A toolchain to prepare; travels to a worker."""

    name: str


@dataclass(frozen=True, slots=True)
class State:
    """What there is of a toolchain on this machine."""

    name: str
    title: str
    state: str
    folder: str
    size_bytes: int
    python: str


TOOLCHAINS: Registry[Toolchain] = Registry("toolchain", "convert.toolchains")


def cache() -> Path:
    """Give the folder toolchains are made in."""
    root = os.environ.get(CACHE) or platformdirs.user_cache_dir("edgeproof", appauthor=False)
    return Path(root).expanduser().absolute() / "toolchains"


def place_of(toolchain: Toolchain) -> Path:
    """Where a toolchain is made: a new list of versions is a new folder, so that an upgrade disturbs no running one."""
    return cache() / f"{toolchain.name}-{toolchain.version}-{toolchain.lock[:10]}"


def find(name: str) -> Place | None:
    """Find a toolchain that is ready; None where it is not prepared, or damaged."""
    toolchain = TOOLCHAINS[name]
    folder = place_of(toolchain)
    if not _making.complete(toolchain, folder, _marks(toolchain)):
        return None
    return Place(str(folder), str(_making.python_of(folder)), str(_making.binaries_of(folder)))


def require(name: str) -> Place:
    """Find a toolchain that is ready; raises ToolchainError where it is not."""
    place = find(name)
    if place is None:
        raise ToolchainError(
            f"{TOOLCHAINS[name].title} is not prepared", fix=f"run: python -m convert --toolchains prepare:{name}"
        )
    return place


def prepare(job: Preparing) -> Place:
    """Make a toolchain ready, from the network where it is not already; runs in a worker of its own.

    Raises ToolchainError where it cannot be, in bounded time.
    """
    toolchain = TOOLCHAINS[job.name]
    _making.make(toolchain, place_of(toolchain), _marks(toolchain))
    return require(job.name)


def prepared(name: str, workers: Workers, say: Callable[[str], None], stage: str) -> Place:
    """Give a toolchain, prepared in a worker first where it is not ready; `stage` names that step in the run.

    Raises as `prepare` does.
    """
    place = find(name)
    if place is not None:
        return place
    toolchain = TOOLCHAINS[name]
    say(f"preparing {toolchain.title} in {cache()}: once, {toolchain.download} to download")
    return workers.run(stage, prepare, Preparing(name), PREPARING).value


def listing() -> tuple[State, ...]:
    """Say what there is of every toolchain, what is left of other versions included."""
    found: list[State] = []
    for toolchain in TOOLCHAINS:
        current = place_of(toolchain)
        for folder in sorted({current, *_folders(toolchain)}, key=lambda path: (path != current, path.name)):
            ready = folder == current and find(toolchain.name) is not None
            state = READY if ready else OUTDATED if folder != current else DAMAGED if folder.exists() else MISSING
            title = toolchain.title if folder == current else folder.name
            found.append(State(toolchain.name, title, state, str(folder), _size(folder), _python(folder)))
    return tuple(found)


def remove(name: str) -> tuple[str, ...]:
    """Delete a toolchain, its other versions included, and give the folders that were deleted.

    Raises UnknownName for one that is not known, UsageError where a folder cannot be deleted.
    """
    removed = []
    for folder in _folders(TOOLCHAINS[name]):
        # Out of its place in one step: what is half deleted must not pass for ready.
        aside = folder.with_name(f".{folder.name}-removed-{os.getpid()}")
        try:
            folder.replace(aside)
            shutil.rmtree(aside)
        except OSError as error:
            fix = "close what uses it, or delete it by hand"
            raise UsageError(f"cannot delete {folder}: {error.strerror}", fix=fix) from error
        removed.append(str(folder))
    return tuple(removed)


def _folders(toolchain: Toolchain) -> list[Path]:
    return sorted(path for path in cache().glob(f"{toolchain.name}-*") if path.is_dir())


def _marks(toolchain: Toolchain) -> dict[str, object]:
    return {"toolchain": toolchain.name, "version": toolchain.version, "lock": toolchain.lock}


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _python(folder: Path) -> str:
    try:
        marker = msgspec.json.decode((folder / _making.MARKER).read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError):
        return ""
    return f"{marker.get('python', '')} ({marker.get('interpreter', '')})"
