"""LiteRT's reference kernels, which its optimised ones are written after and small devices run."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes.litert import LITERT, LiteRTSession, open_litert


def open_reference(subject: Subject) -> LiteRTSession:
    """Load the file with reference kernels."""
    return open_litert(subject, "BUILTIN_REF")


RUNTIMES.register(Runtime("litert_reference", "LiteRT's reference kernels", LITERT, open_reference, path_of="tflite"))
