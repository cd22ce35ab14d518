"""TorchScript call by call: its executor watches the first one, and then takes other kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validators.runtimes import Arrays, Session, Subject
from validators.runtimes.torchscript import open_torchscript

if TYPE_CHECKING:
    import numpy as np


class FreshSession(Session):
    """An archive that is loaded anew for every input, and called with it so many times; the last answer counts.

    Raises LoadError where the archive cannot be loaded.
    """

    def __init__(self, subject: Subject, calls: int) -> None:
        open_torchscript(subject)
        self._subject, self._calls = subject, calls

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Load the archive and call it."""
        session = open_torchscript(self._subject)
        found: dict[str, np.ndarray] = {}
        for _ in range(self._calls):
            found = session.run(inputs)
        return found
