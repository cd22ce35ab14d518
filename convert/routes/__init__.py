"""Routes: one converter's way from a kind of model file to a format.

A route is one file of this folder that registers a `Route`; modules whose name starts with an underscore are shared by
several of them. A candidate that fails gives way to the next, so a route raises rather than leave a doubtful file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convert import layout
from convert.errors import EdgeproofError, RouteError
from convert.formats import FORMATS, Draft
from convert.registry import Registry
from convert.sources import SOURCES, identify, load
from convert.spec import KEEP, Artifact, LoadOptions, Signature, SourceFile, fingerprint
from convert.worker import Environment, summary

__all__ = ["ROUTES", "Route", "Task", "Work", "always", "has_free_batch", "perform"]


@dataclass(frozen=True, slots=True)
class Work:
    """What a route gets to convert, inside its worker."""

    path: Path  # of the source, or of the artifact an earlier route of the chain made
    model: Any  # the loaded model; None for a route that reads the file itself
    signature: Signature  # of the model
    out: Path  # the file or folder to write
    layout: str = KEEP  # that image inputs are to have in the file
    allow: frozenset[str] = frozenset()  # kinds of operators, of `FOREIGN`, that the user accepts
    options: LoadOptions = field(default_factory=LoadOptions)

    @property
    def permutations(self) -> dict[str, tuple[int, ...]]:
        """For every input whose layout changes, the model's axes in the file's order."""
        return layout.permutations(self.signature, self.layout)

    @property
    def promised(self) -> Signature:
        """What the file is to keep: the model's signature, its images in the layout asked for."""
        return layout.promised(self.signature, self.layout)


def always(_: Signature) -> bool:
    """Apply to every model."""
    return True


def has_free_batch(signature: Signature) -> bool:
    """Apply to models whose batch is free: fixing it is something to try, and it is not done yet."""
    return bool(signature.free)


@dataclass(frozen=True, slots=True)
class Route:
    """One edge of the graph of formats.

    `takes` are families or kinds of sources, or formats for a later step of a chain; `rank` orders the candidates of an
    edge, lowest first, and `why` gives the reason for the place. A route that fixes free dimensions comes after those
    that keep them, and one that is poor at a trait of the model after those that are not; see `convert.plan`.
    """

    name: str
    title: str
    takes: tuple[str, ...]
    gives: str
    rank: int
    why: str
    environment: Environment
    convert: Callable[[Work], Draft]
    applies: Callable[[Signature], bool] = always
    fixes: bool = False  # whether it fixes dimensions that the model leaves free
    poor_at: tuple[str, ...] = ()  # traits of models of which it makes slow files
    needs: str = ""  # the kind of foreign operators its files have, which the user must allow
    toolchain: str = ""  # the environment of its own that its converter runs in
    reads_file: bool = False  # whether it wants the file and not the loaded model
    first: bool = False  # whether it takes only what the user handed in, no file that another route made
    last: bool = False  # whether no other route is to take the file it makes

    def accepts(self, kind: str) -> bool:
        """Whether it takes a kind of source, by itself or by its family, or a format."""
        return kind in self.takes or (kind in SOURCES.names() and SOURCES[kind].family.name in self.takes)


ROUTES: Registry[Route] = Registry("route", "convert.routes")


@dataclass(frozen=True, slots=True)
class Task:
    """One conversion, as it travels to a worker."""

    route: str
    module: str  # that registers the route, so that plug-ins from elsewhere are found
    source: SourceFile
    options: LoadOptions
    signature: Signature
    out: str
    made: str = ""  # the artifact of an earlier route, where this is a later step of a chain
    layout: str = KEEP
    allow: tuple[str, ...] = ()


def perform(task: Task) -> Artifact:
    """Convert, then write the contract into the file; runs in the route's worker.

    Raises RouteError for whatever the converter raised, with its first words.
    """
    importlib.import_module(task.module)
    route = ROUTES[task.route]
    out = Path(task.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    model = None if route.reads_file else model_of(task)
    try:
        draft = route.convert(
            Work(
                path=Path(task.made or task.source.path),
                model=model,
                signature=task.signature,
                out=out,
                layout=task.layout,
                allow=frozenset(task.allow),
                options=task.options,
            )
        )
    except EdgeproofError:
        raise
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise RouteError(f"{type(error).__name__}: {summary(error)}") from error
    if not out.exists() or fingerprint(out)[1] == 0:
        raise RouteError(f"{route.title} reported success and wrote no file")
    form = FORMATS[route.gives]
    form.seal(out, replace(draft, path=str(out)))
    companions = form.companions(out)
    digest, size = fingerprint(out, companions)
    return Artifact(
        path=str(out),
        format=form.name,
        precision="fp32",
        signature=draft.signature,
        sha256=digest,
        file_bytes=size,
        notes=draft.notes,
        rescues=draft.rescues,
        companions=tuple(map(str, companions)),
    )


def model_of(task: Task) -> Any:
    """Load what the task converts: the source, or an earlier route's artifact where its format is a source too."""
    if not task.made:
        return load(task.source, task.options).model
    made = identify(Path(task.made))
    return load(made, LoadOptions()).model
