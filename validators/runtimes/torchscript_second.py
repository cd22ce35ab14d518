"""TorchScript artifacts on their second call, as the interpreter computes it."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes._torchscript_calls import FreshSession
from validators.runtimes.torchscript import TORCHSCRIPT


def open_second(subject: Subject) -> FreshSession:
    """Load the archive anew for every input."""
    return FreshSession(subject, 2)


RUNTIMES.register(
    Runtime("torchscript_second", "TorchScript's second call", TORCHSCRIPT, open_second, path_of="torchscript")
)
