"""LiteRT without XNNPACK: its own optimised kernels, as an app runs them that switches delegates off."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes.litert import LITERT, LiteRTSession, open_litert


def open_builtin(subject: Subject) -> LiteRTSession:
    """Load the file without delegates."""
    return open_litert(subject, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


RUNTIMES.register(Runtime("litert_builtin", "LiteRT's built-in kernels", LITERT, open_builtin, path_of="tflite"))
