"""Every error the tool raises on purpose: what went wrong, where, and how to fix it.

EdgeproofError              never raised itself
├── UsageError              exit 2: the command or its input cannot be honoured as given
│   ├── UnknownName         a format, route or runtime nobody registered
│   ├── UnknownSource       a file that is no model, or not one we read
│   ├── MissingInputs       the model file does not say what it takes
│   └── MissingExtra        a framework that is not installed
├── LoadError               exit 3: a model file that its framework cannot load
│   └── OtherFunction       a reduced file that computes something else than the float file it was made of
├── RouteError              one candidate failed to convert; the next one is tried
├── ToolchainError          exit 3: a converter's own environment cannot be made or is damaged
├── RunStopped              the run was interrupted
├── DeviceError             a device, or the tool that was to time there, failed; what was asked of it is NOT_RUN
└── WorkerError             exit 3: a stage's process failed
    ├── WorkerCrashed       it died: the signal, the end of its log
    │   └── WorkerLost      it died before the stage began, in one that came before
    ├── WorkerTimeout       it ran past its time limit
    ├── WorkerMemory        it grew past its memory limit
    └── StageFailed         it raised something that is not in this tree
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeproofError(Exception):
    """An expected failure with a message for the user and, where one is known, a fix."""

    exit_code = 3

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\nfix: {self.fix}" if self.fix else self.message


class UsageError(EdgeproofError):
    """The command or its input cannot be honoured as given."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that no plug-in registered."""

    @classmethod
    def among(cls, noun: str, name: str, known: Iterable[str]) -> UnknownName:
        """Build the error that answers `name` with the nearest of `known`."""
        names = sorted(known)
        nearest = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
        listed = ", ".join(names)
        fix = f"did you mean {nearest[0]!r}? Known: {listed}" if nearest else f"use one of: {listed}"
        return cls(f"there is no {noun} named {name!r}", fix=fix)


class UnknownSource(UsageError):
    """A file that is no model, or not one this version reads."""


class MissingInputs(UsageError):
    """The model file does not say what it takes and the command does not either."""


class MissingExtra(UsageError):
    """A framework that is needed and not installed."""


class LoadError(EdgeproofError):
    """A model file that its framework cannot load."""


class OtherFunction(LoadError):
    """A reduced file that computes something else than the float file it was made of."""


class RouteError(EdgeproofError):
    """One candidate failed to convert; the planner's next one is tried."""


class ToolchainError(EdgeproofError):
    """The environment of a converter that lives apart cannot be made, or is damaged."""


class RunStopped(EdgeproofError):
    """The run was interrupted: whatever still works on it gives up, and nothing of it counts as failed."""


class DeviceError(EdgeproofError):
    """A device, or the tool that was to time there, failed."""


class WorkerError(EdgeproofError):
    """A stage's process failed."""


class WorkerCrashed(WorkerError):
    """A stage's process died."""


class WorkerLost(WorkerCrashed):
    """A stage's process died before the stage began, in others that came before it."""


class WorkerTimeout(WorkerError):
    """A stage ran past its time limit."""


class WorkerMemory(WorkerError):
    """A stage grew past its memory limit."""


class StageFailed(WorkerError):
    """A stage raised an exception that is not one of ours, most often a framework's own."""


def by_name(name: str) -> type[EdgeproofError]:
    """Find an error class of this tree by its name, as a worker sends it; `StageFailed` for any other."""
    known: dict[str, type[EdgeproofError]] = {}
    pending: list[type[EdgeproofError]] = [EdgeproofError]
    while pending:
        cls = pending.pop()
        known[cls.__name__] = cls
        pending.extend(cls.__subclasses__())
    return known.get(name, StageFailed)
