"""LiteRT without delegates as the reference of existing TFLite files; it has no kernels in float64."""

from __future__ import annotations

from pathlib import Path

from convert.errors import LoadError
from convert.sources import TFLITE
from convert.sources._tflite import open_model
from validators.runtimes import RUNTIMES, Loaded, Runtime, Session, Subject


def open_tflite(subject: Subject) -> Session:
    """Open the file in an interpreter without delegates.

    Raises LoadError for float64, which TFLite's kernels do not compute in.
    """
    if subject.dtype:
        raise LoadError("TFLite has no kernels in float64")
    return Loaded(open_model(Path(subject.file.path), subject.options.signature, subject.threads))


RUNTIMES.register(Runtime("tflite", "LiteRT without delegates", TFLITE.environment, open_tflite, families=("tflite",)))
