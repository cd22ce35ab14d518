"""TorchScript on its first, second and third call: its executor watches the first, and then takes other kernels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from validators.runtimes import RUNTIMES, Arrays, Runtime, Subject
from validators.runtimes.torchscript import TORCHSCRIPT, open_torchscript

if TYPE_CHECKING:
    import numpy as np


class FreshSession:
    """An archive that is loaded anew for every input, and called with it so many times; the last answer counts."""

    def __init__(self, subject: Subject, calls: int) -> None:
        self._subject, self._calls = subject, calls

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Load the archive and call it."""
        session = open_torchscript(self._subject)
        found: dict[str, np.ndarray] = {}
        for _ in range(self._calls):
            found = session.run(inputs)
        return found


def open_fresh(subject: Subject, calls: int) -> FreshSession:
    """See that the archive can be loaded."""
    open_torchscript(subject)
    return FreshSession(subject, calls)


for calls, word in enumerate(("first", "second", "third"), 1):
    RUNTIMES.register(
        Runtime(
            f"torchscript_call_{calls}",
            f"TorchScript's {word} call",
            TORCHSCRIPT,
            partial(open_fresh, calls=calls),
            path_of="torchscript",
        )
    )
