"""Finished files: what they are, read without the framework that made them, and the contract written into them.

A format is one file of this folder that registers a `Format`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convert.errors import UnknownSource, UsageError
from convert.registry import Registry
from convert.sources import Probe, look
from convert.spec import FP32, Signature

__all__ = ["FORMATS", "Draft", "Facts", "Foreign", "Format", "FormatError", "Unsigned", "recognise"]


class FormatError(UsageError):
    """An artifact that cannot be read as what it claims to be."""


class Unsigned(FormatError):
    """An artifact whose format leaves its signature to an extra file it does not have."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A file as a converter left it: its own names for the tensors, in the order of the promised signature.

    No names are for a TFLite file without a signature, whose inputs and outputs are in that order.
    `signature` is the promise as this route could keep it: a free dimension may have become fixed, a 64-bit integer
    32 bits wide. `notes` say so. `rescues` name the rewrites that were needed, one sentence each.
    """

    path: str
    signature: Signature
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rescues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Foreign:
    """An operator that a stock runtime lacks."""

    kind: str  # of convert.spec.FOREIGN
    operator: str
    where: str  # the node or tensor in the file, whose name leads back to the model


@dataclass(frozen=True, slots=True)
class Facts:
    """What a finished file says of itself."""

    signature: Signature
    operators: dict[str, int]  # how many of each
    requires: tuple[str, ...] = ()  # the least its runtime must be, such as "ONNX opset 18"
    foreign: tuple[Foreign, ...] = ()
    precision: str = FP32  # of convert.spec.PRECISIONS, as the file's own numbers tell


def alone(_: Path) -> tuple[Path, ...]:
    """Say that a file has no companions."""
    return ()


def not_folder(place: Path) -> bool:
    """Allow what is not a folder to be replaced by a file."""
    return not place.is_dir()


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of artifact.

    `seal` writes the promised names, order and free dimensions into the file in place; `read` says what is in it.
    Both run in a worker. `companions` names the files beside it that belong to it. `layouts` says whether image inputs
    can have either layout in it. `replaces` says whether what is in an artifact's place may be replaced by it.
    """

    name: str
    title: str
    suffix: str
    recognise: Callable[[Probe], bool]
    seal: Callable[[Path, Draft], None]
    read: Callable[[Path], Facts]
    companions: Callable[[Path], tuple[Path, ...]] = alone
    layouts: bool = False
    replaces: Callable[[Path], bool] = not_folder


FORMATS: Registry[Format] = Registry("format", "convert.formats")


def recognise(path: Path) -> Format:
    """Recognise an artifact by its content.

    Raises UsageError where there is none, UnknownSource where it is of no known format.
    """
    seen = look(path)
    for kind in FORMATS:
        if kind.recognise(seen):
            return kind
    known = ", ".join(kind.title for kind in FORMATS)
    raise UnknownSource(
        f"{path} is {seen.looks_like()}, which is no artifact edgeproof runs", fix=f"give one of: {known}"
    )
