"""Model files: recognised by content in the parent, loaded by their framework in a worker.

A source is one file of this folder that registers a `Source`; modules whose name starts with an underscore are shared
by several of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert import layout
from convert.errors import LoadError, UnknownSource, UsageError
from convert.registry import Registry
from convert.sources._probe import Probe, probe
from convert.spec import NCHW, NHWC, LoadOptions, ModelFacts, SourceFile, fingerprint
from convert.worker import Environment, cores

__all__ = [
    "KERAS",
    "ONNX",
    "SOURCES",
    "TENSORFLOW",
    "TENSORFLOW_CONVERTER",
    "TFLITE",
    "TORCH",
    "UNASKED",
    "Family",
    "LoadedModel",
    "Loading",
    "Probe",
    "Source",
    "describe",
    "identify",
    "load",
    "look",
    "require_meaning",
]


@dataclass(frozen=True, slots=True)
class Family:
    """The framework that loads a kind of file, and the worker it does so in.

    Routes and reference runtimes take whole families, so a new kind of file of one finds them all. `layout` is where
    the framework's images have their channels.
    """

    name: str
    environment: Environment
    layout: str


#: TensorFlow and Keras import these where they are installed, for plots, data frames, scikit-learn's interface and
#: conversions from JAX, which no stage asks for: 2 of 5.3 s.
UNASKED = ("jax", "matplotlib", "pandas", "sklearn")

_TENSORFLOW = Environment(
    "tensorflow",
    ("tensorflow", "keras"),
    (("KERAS_BACKEND", "tensorflow"), ("TF_USE_LEGACY_KERAS", "0")),
    without=UNASKED,
)
#: Converts while the source runs in the other process of the kind, where there are cores for both; each has the model.
TENSORFLOW_CONVERTER = dataclasses.replace(_TENSORFLOW, name="tensorflow-converter") if cores() > 1 else _TENSORFLOW
KERAS = Family("keras", _TENSORFLOW, NHWC)
TENSORFLOW = Family("tensorflow", _TENSORFLOW, NHWC)
TORCH = Family("torch", Environment("torch", ("torch",)), NCHW)
ONNX = Family("onnx", Environment("onnx", ("numpy", "onnxruntime", "onnx")), NCHW)
TFLITE = Family(
    "tflite", Environment("tflite", ("numpy", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated")), NHWC
)


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
    has_signatures: bool = False  # whether the file can hold several signatures to choose from

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
            return SourceFile(str(path), source.name, detail, *fingerprint(path))
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


def require_meaning(file: SourceFile, options: LoadOptions) -> None:
    """Raise UsageError for options that mean nothing for this kind of file."""
    source = SOURCES[file.kind]
    if options.signature and not source.has_signatures:
        raise UsageError(
            f"--signature has no meaning for {file.path}, which has one signature ({file.detail})", fix="leave it out"
        )
    if options.architecture and source.has_model:
        raise UsageError(
            f"--architecture has no meaning for {file.path}, which holds its model ({file.detail})",
            fix="leave it out, or name a file of weights",
        )


@functools.lru_cache(maxsize=1)
def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load a model in this process, once however many stages ask for it; callers must not change what they get.

    Its images are marked with the framework's layout, and the dimensions the user fixed have their sizes.

    Raises:
        LoadError: the framework cannot load it.
        UsageError: something the user must add is missing or does not fit.
    """
    source = SOURCES[file.kind]
    require_meaning(file, options)
    loaded = source.load(file, options)
    signature = loaded.facts.signature
    if not signature.inputs:
        raise LoadError(
            f"{file.path} takes no inputs, so it always answers the same and nothing of it can be compared",
            fix="export it again with what varies as an input",
        )
    unknown = [name for name, _ in options.fixed if name not in signature.free]
    if unknown:
        raise UsageError(
            f"--fix {unknown[0]}: the model has no free dimension of that name",
            fix=f"its free dimensions are: {', '.join(signature.free) or 'none'}",
        )
    signature = layout.marked(signature.fixed(dict(options.fixed)), source.family.layout)
    return dataclasses.replace(loaded, facts=dataclasses.replace(loaded.facts, signature=signature))
