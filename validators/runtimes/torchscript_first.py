"""TorchScript artifacts on their first call, as the interpreter computes it."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes._torchscript_calls import FreshSession
from validators.runtimes.torchscript import TORCHSCRIPT


def open_first(subject: Subject) -> FreshSession:
    """Load the archive anew for every input."""
    return FreshSession(subject, 1)


RUNTIMES.register(
    Runtime("torchscript_first", "TorchScript's first call", TORCHSCRIPT, open_first, path_of="torchscript")
)
