"""Model files: recognised by content in the parent, loaded by their framework in a worker.

A source is one file of this folder that registers a `Source`; modules whose name starts with an underscore are shared
by several of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import UnknownSource, UsageError
from convert.registry import Registry
from convert.sources._probe import Probe, probe
from convert.spec import LoadOptions, ModelFacts, SourceFile, sha256_of
from convert.worker import Environment

__all__ = [
    "KERAS",
    "SOURCES",
    "TORCH",
    "LoadedModel",
    "Loading",
    "Probe",
    "Source",
    "describe",
    "identify",
    "load",
    "look",
]


@dataclass(frozen=True, slots=True)
class Family:
    """The framework that loads a kind of file, and the worker it does so in.

    Routes and reference runtimes take whole families, so a new kind of file of one finds them all.
    """

    name: str
    environment: Environment


KERAS = Family(
    "keras",
    Environment("tensorflow", ("tensorflow", "keras"), (("KERAS_BACKEND", "tensorflow"), ("TF_USE_LEGACY_KERAS", "0"))),
)
TORCH = Family("torch", Environment("torch", ("torch",)))


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in its framework, inside a worker, with what loading it told."""

    model: Any  # a keras.Model or a torch.nn.Module
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of model file.

    `recognise` reads no more than the probe and says what it sees, or None when the file is of another kind; it may
    raise UnknownSource for a file that is of this kind and damaged. `load` runs in a worker of the family.
    """

    name: str
    title: str
    family: Family
    recognise: Callable[[Probe], str | None]
    load: Callable[[SourceFile, LoadOptions], LoadedModel]
    has_model: bool = True  # whether the file holds the model, or only weights of an architecture

    @property
    def environment(self) -> Environment:
        """The worker that loads it."""
        return self.family.environment


SOURCES: Registry[Source] = Registry("source", "convert.sources")


def look(path: Path) -> Probe:
    """Take the first look at a file the user named; raises UsageError where it is missing or cannot be read."""
    try:
        return probe(path)
    except FileNotFoundError as error:
        fix = "check the path; relative paths start at the current folder"
        raise UsageError(f"there is no file {path}", fix=fix) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path and its permissions") from error


def identify(path: Path) -> SourceFile:
    """Recognise a model file by what is in it.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        UnknownSource: the file is empty, damaged, or of no kind that is known.
    """
    seen = look(path)
    for source in SOURCES:
        detail = source.recognise(seen)
        if detail is not None:
            # NOTE: Why here: PyTorch reads archives without looking at their checksums, flipped bits and all.
            seen.verify()
            return SourceFile(str(path), source.name, detail, sha256_of(path), path.stat().st_size)
    known = "; ".join(source.title for source in SOURCES)
    raise UnknownSource(
        f"{path} is {seen.looks_like()}, which is no model edgeproof reads", fix=f"give one of: {known}"
    )


@dataclass(frozen=True, slots=True)
class Loading:
    """One model to load; travels to a worker."""

    file: SourceFile
    options: LoadOptions


def describe(job: Loading) -> ModelFacts:
    """Load a model, which stays loaded for the stages that follow in the same worker, and say what it is."""
    return load(job.file, job.options).facts


@functools.lru_cache(maxsize=1)
def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load a model in this process, once however many stages ask for it; callers must not change what they get.

    Raises:
        LoadError: the framework cannot load it.
        UsageError: something the user must add is missing or does not fit.
    """
    source = SOURCES[file.kind]
    if options.architecture and source.has_model:
        raise UsageError(
            f"--architecture has no meaning for {file.path}, which holds its model ({file.detail})",
            fix="leave it out, or name a file of weights",
        )
    return source.load(file, options)
