"""Taps: every tensor that an engine computes on the way, of an artifact or of its source.

A tap is one file of this folder that registers a `Tap` for the formats or the families of sources it opens. What a tap
of an artifact gives counts only where its outputs equal those of the untouched run bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from convert.errors import LoadError, UnknownName
from convert.registry import Registry
from convert.worker import Environment
from validators.divergence import Series, Value
from validators.ideals import Building
from validators.runtimes import RUNTIMES, Arrays, Feed, Subject, feed

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "TAPS",
    "Isolated",
    "Isolation",
    "Probe",
    "Stepped",
    "Stepping",
    "Tap",
    "Tapped",
    "Tapping",
    "Trace",
    "isolate",
    "series",
    "step",
    "tap",
    "tap_for",
    "tap_of",
]


@dataclass(frozen=True, slots=True)
class Trace:
    """What one run computed: its tensors in order, their arrays (None where unreadable), and where the outputs are.

    Integers that stand for numbers come as these numbers; `raw` has them as they are, by position.
    """

    values: tuple[Value, ...]
    arrays: list[np.ndarray | None]
    outputs: tuple[tuple[str, int], ...]
    raw: dict[int, np.ndarray] = field(default_factory=dict)


class Probe(Protocol):
    """A model that is opened to be run with everything shown."""

    how: str  # it is tapped, for people

    def run(self, inputs: Arrays) -> Trace:
        """Run once on named inputs."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """One operator to write to a file of its own, with what goes into it on one case; travels to a worker."""

    tap: str
    subject: Subject
    position: int  # of the tensor it computes
    inputs: str  # .npz with keys <case>/<input>
    case: str
    out: str  # folder
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True, slots=True)
class Isolated:
    """An operator in a file of its own, with its inputs beside it and what it answers to them.

    `answer` is an `.npy` with the numbers it stands for.
    """

    path: str
    inputs: str
    answer: str
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stepping:
    """A reduced artifact whose ideal is run operator by operator on what was tapped; travels to a worker."""

    tap: str
    building: Building
    names: tuple[str, ...]  # of the tapped tensors, by position
    tapped: str  # .npz with keys <case>/<position>
    inputs: str  # .npz with keys <case>/<input>
    out: str  # .npz to write, with the same keys
    cases: tuple[str, ...]
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True, slots=True)
class Stepped:
    """What the ideal's operators make of what the artifact computed, rounded and clipped as the artifact stores it.

    `positions` are those of the tapped run that have an answer, `steps` how far apart the numbers are that each can
    stand for, 0 for floats.
    """

    path: str
    positions: tuple[int, ...]
    steps: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tap:
    """How everything is shown that an engine computes for the formats or the families of sources it runs.

    `open` raises LoadError where the model cannot be opened so. `runtime` is the engine whose untouched run the outputs
    must equal; sources have none. `open_cut` opens a model to be cut at each tensor, which is used where the outputs of
    the tapped run do not equal those. `isolate` writes one operator of the model to a file of its own, `step` runs the
    ideal of a reduced one operator by operator.
    """

    name: str
    environment: Environment
    open: Callable[[Subject], Probe]
    families: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    runtime: str = ""
    isolate: Callable[[Isolation], Isolated] | None = None
    open_cut: Callable[[Subject], Probe] | None = None
    step: Callable[[Stepping], Stepped] | None = None


TAPS: Registry[Tap] = Registry("tap", "validators.taps")


def tap_for(form: str) -> Tap:
    """Find the tap of an artifact's format; raises UnknownName where there is none."""
    return _only("format", form, {name: item for item in TAPS for name in item.formats})


def tap_of(family: str) -> Tap:
    """Find the tap of a family of sources; raises UnknownName where there is none."""
    return _only("family", family, {name: item for item in TAPS for name in item.families})


def _only(noun: str, name: str, known: Mapping[str, Tap]) -> Tap:
    if name not in known:
        raise UnknownName.among(f"tap for the {noun}", name, known)
    return known[name]


@dataclass(frozen=True, slots=True)
class Tapping:
    """One model to run on some cases with everything shown; travels to a worker."""

    tap: str
    subject: Subject
    inputs: str  # .npz with keys <case>/<input>
    outputs: str  # .npz to write, with keys <case>/<position>
    cases: tuple[str, ...]
    feeds: tuple[Feed, ...] = ()
    most_bytes: int = 0  # that all cases together may take; 0 for any


@dataclass(frozen=True, slots=True)
class Tapped:
    """What tapping a model on all cases gave; `changed` says which output the tap changed, if any."""

    path: str
    values: tuple[Value, ...]
    cases: tuple[str, ...]
    outputs: tuple[tuple[str, int], ...]
    how: str
    changed: str = ""


def tap(job: Tapping) -> Tapped:
    """Run a model with everything shown and write all tensors; runs in the tap's worker.

    Cases on which other operators run than on the first are left out. Raises LoadError where the model does not run.
    """
    item = TAPS[job.tap]
    done = _tapped(job, item, item.open(job.subject))
    if done.changed and item.open_cut is not None:
        return _tapped(job, item, item.open_cut(job.subject))
    return done


def _tapped(job: Tapping, item: Tap, probe: Probe) -> Tapped:
    import numpy as np

    plain = RUNTIMES[item.runtime].open(job.subject) if item.runtime else None
    first: Trace | None = None
    cases: list[str] = []
    changed = ""
    stored: dict[str, np.ndarray] = {}
    with np.load(job.inputs) as arrays:
        for case in job.cases:
            given = feed(arrays, case, job.feeds)
            trace = probe.run(given)
            first = first or trace
            if [value.name for value in trace.values] != [value.name for value in first.values]:
                continue
            if plain is not None and not changed:
                changed = _changed(plain.run(given), trace)
            size = sum(array.nbytes for array in trace.arrays if array is not None)
            if cases and job.most_bytes and size * (len(cases) + 1) > job.most_bytes:
                break
            cases.append(case)
            stored |= {f"{case}/{at}": array for at, array in enumerate(trace.arrays) if array is not None}
    if first is None:
        raise LoadError("no case was run")
    np.savez(job.outputs, **stored)  # type: ignore[arg-type]
    return Tapped(job.outputs, first.values, tuple(cases), first.outputs, probe.how, changed)


def _changed(untouched: Mapping[str, np.ndarray], trace: Trace) -> str:
    """Name the first output that is not bit for bit what the untouched run gave."""
    for name, at in trace.outputs:
        if not _same(untouched[name], trace.raw.get(at, trace.arrays[at])):
            return name
    return ""


def _same(one: np.ndarray, other: np.ndarray | None) -> bool:
    import numpy as np

    return (
        other is not None and one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )


def series(tapped: Tapped, cases: tuple[str, ...]) -> Series:
    """Read what was tapped, on some of the cases."""
    import numpy as np

    found: list[list[np.ndarray] | None] = []
    with np.load(tapped.path) as arrays:
        names = set(arrays.files)
        for at in range(len(tapped.values)):
            keys = [f"{case}/{at}" for case in cases]
            found.append([arrays[key] for key in keys] if all(key in names for key in keys) else None)
    return Series(tapped.values, found, tapped.outputs)


def isolate(job: Isolation) -> Isolated:
    """Write one operator to a file of its own, in the tap's worker; raises LoadError where that cannot be done."""
    item = TAPS[job.tap]
    if item.isolate is None:
        raise LoadError(f"operators of {item.name} cannot be cut out")
    return item.isolate(job)


def step(job: Stepping) -> Stepped:
    """Run a reduced artifact's ideal operator by operator, in the tap's worker; raises LoadError where it cannot."""
    item = TAPS[job.tap]
    if item.step is None:
        raise LoadError(f"ideals of {item.name} cannot be run operator by operator")
    return item.step(job)
