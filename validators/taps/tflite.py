"""TFLite sources: every tensor that LiteRT computes without delegates."""

from __future__ import annotations

from convert.errors import LoadError
from convert.sources import TFLITE
from validators.runtimes import Subject
from validators.taps import TAPS, Tap
from validators.taps.litert import LiteRTProbe


def open_tflite(subject: Subject) -> LiteRTProbe:
    """Open the file without delegates; raises LoadError for float64, which TFLite's kernels do not compute in."""
    if subject.dtype:
        raise LoadError("TFLite has no kernels in float64")
    return LiteRTProbe(subject, delegates=False)


TAPS.register(Tap("tflite", TFLITE.environment, open_tflite, families=("tflite",)))
