"""TorchScript artifacts on their third call, as the interpreter computes it."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes._torchscript_calls import FreshSession
from validators.runtimes.torchscript import TORCHSCRIPT


def open_third(subject: Subject) -> FreshSession:
    """Load the archive anew for every input."""
    return FreshSession(subject, 3)


RUNTIMES.register(
    Runtime("torchscript_third", "TorchScript's third call", TORCHSCRIPT, open_third, path_of="torchscript")
)
