"""Engines that can run a model: the frameworks as references, the device runtimes for artifacts.

A runtime is one file of this folder that registers a `Runtime`. Everything here that runs a model does so in a worker;
arrays come and go as `.npz` files.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, overload

from convert.errors import EdgeproofError, LoadError, UnknownName
from convert.registry import Registry
from convert.sources import SOURCES, load
from convert.spec import LoadOptions, Scale, SourceFile
from convert.worker import Environment, summary
from validators import tolerance

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "RUNTIMES",
    "Execution",
    "Feed",
    "Inference",
    "Loaded",
    "Outputs",
    "Runtime",
    "Session",
    "Subject",
    "execute",
    "paths_of",
    "reference_for",
    "runtime_for",
    "whole_run",
]

#: Of a run that is cut short: fewer cases do not show whether outputs vary with the inputs.
LEAST_CASES = tolerance.FEWEST_CASES

REPEAT = "repeat"  # the case that is run a second time, to see whether answers depend on more than the input

Arrays = Mapping[str, "np.ndarray"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a runtime is to open: a source, or an artifact seen as one, and how."""

    file: SourceFile
    options: LoadOptions = field(default_factory=LoadOptions)
    dtype: str = ""  # "float64" to compute in double precision, else as the file says
    threads: int = 1


class Runs(Protocol):
    """What runs on named arrays."""

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run once on named inputs and give the named outputs, in the model's order."""


def in_place() -> None:
    """Leave inputs where they are: the engine reads them there."""


@dataclass(frozen=True, slots=True)
class Inference:
    """One inference on inputs that are known before, in two steps, so that the second can be timed alone.

    `place` puts the inputs where the engine reads them. `infer` computes and does nothing else; it may be called again
    and again, until another one of the session is placed or the session is run. Where the engine has no such call, it
    is the whole run, and `whole` says why.
    """

    infer: Callable[[], object]
    place: Callable[[], object] = in_place
    whole: str = ""


class Session(Runs, Protocol):
    """A model opened by a runtime, ready to run. An engine's session is a subclass; `ready` is its to replace."""

    def ready(self, inputs: Arrays) -> Inference:
        """Prepare an inference on named inputs; without the engine's own way to do so, it is a whole run."""
        return whole_run(self, inputs, "the engine is called with its inputs and gives its outputs at once")


def whole_run(session: Runs, inputs: Arrays, reason: str) -> Inference:
    """Give a run, inputs and outputs with it, as the inference of an engine that cannot do without, for a reason."""
    return Inference(lambda: session.run(inputs), whole=reason)


class Loaded(Session):
    """A model that the room of its source opened, which runs it by itself."""

    def __init__(self, model: Runs) -> None:
        self._model = model

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the model."""
        return self._model.run(inputs)


def nothing(_: Path) -> str:
    """Say that nothing is known to make a file slow."""
    return ""


def nobody(_: Path) -> tuple[str, ...]:
    """Name no value that would be computed slowly."""
    return ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """One engine, and the families of sources it runs as a reference or the formats it runs as a device would.

    `open` raises LoadError where the engine cannot load the file or cannot compute as asked. `supports` are the kinds
    of foreign operators it has kernels for, or may have: it is run to see. `drags` says what in a file makes it slow on
    this engine, and nothing where nothing does; `blames` names the values that it does not compute on its fast path.
    """

    name: str
    title: str
    environment: Environment
    open: Callable[[Subject], Session]
    families: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()
    drags: Callable[[Path], str] = nothing
    blames: Callable[[Path], tuple[str, ...]] = nobody
    path_of: str = ""
    acquits: str = ""


RUNTIMES: Registry[Runtime] = Registry("runtime", "validators.runtimes")


def reference_for(kind: str) -> Runtime:
    """Find the framework that runs a kind of source; raises UnknownName where none does."""
    family = SOURCES[kind].family.name if kind in SOURCES.names() else kind
    return _only(family, [runtime for runtime in RUNTIMES if family in runtime.families])


@overload
def runtime_for(form: str) -> Runtime: ...
@overload
def runtime_for(form: str, needs: tuple[str, ...]) -> Runtime | None: ...
def runtime_for(form: str, needs: tuple[str, ...] = ()) -> Runtime | None:
    """Find the engine that runs a format on devices, the plainest that has the kinds of foreign operators it needs.

    None where no engine has them; raises UnknownName where none runs the format at all.
    """
    engines = [runtime for runtime in RUNTIMES if form in runtime.formats]
    _only(form, engines)
    able = [runtime for runtime in engines if set(needs) <= set(runtime.supports)]
    return min(able, key=lambda runtime: len(runtime.supports), default=None)


def paths_of(form: str) -> tuple[Runtime, ...]:
    """Give the other kernel paths of a format, in the order of their names."""
    return tuple(runtime for runtime in RUNTIMES if runtime.path_of == form)


def _only(name: str, found: list[Runtime]) -> Runtime:
    if not found:
        raise UnknownName.among("runtime for", name, (n for r in RUNTIMES for n in (*r.families, *r.formats)))
    return found[0]


@dataclass(frozen=True, slots=True)
class Feed:
    """How one input of the cases is handed to a model: under which name and dtype, and its axes in which order.

    With a `scale` its numbers are quantized to integers of that dtype.
    """

    name: str
    takes: str
    dtype: str
    axes: tuple[int, ...] = ()  # empty: as they are
    scale: Scale | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """One model to run on all cases of a file; travels to a worker."""

    runtime: str
    subject: Subject
    inputs: str  # .npz with keys <case>/<input>
    outputs: str  # .npz to write, with keys <case>/<output>
    only: tuple[str, ...] = ()  # cases to run, in this order; empty: all
    feeds: tuple[Feed, ...] = ()  # what the model takes of a case's arrays; empty: all, as named
    scales: tuple[tuple[str, Scale], ...] = ()  # outputs whose integers stand for float32 numbers
    timed_seconds: float = 0.0  # how long to run the first case over and over for `Outputs.median_seconds`
    most_seconds: float = 0.0  # of CPU time, after which no further case is begun beyond `LEAST_CASES`; 0: all are run
    steps: bool = False  # whether the cases are steps of a model with a state: run from a fresh start, and once more


@dataclass(frozen=True, slots=True)
class Outputs:
    """What running the cases gave."""

    path: str
    cases: tuple[str, ...]  # that were run, the repeated one aside
    names: tuple[str, ...]  # of the outputs, in the model's order
    failures: tuple[tuple[str, str], ...] = ()  # cases that did not run, and why
    load_seconds: float = 0.0
    median_seconds: float | None = None  # of one inference; a rough number for a search, where it was asked for


def execute(job: Execution) -> Outputs:
    """Open a model and run the cases, the first one again at the end, and write all outputs; runs in its worker.

    The first case comes again at the very end, after those of other sizes. A case that fails is a finding, not the end;
    so are `steps` that a model opened afresh answers otherwise. Raises LoadError where the model cannot be opened at
    all.
    """
    import numpy as np

    started = time.perf_counter()
    session = opened(job)
    load_seconds = time.perf_counter() - started
    outputs: dict[str, np.ndarray] = {}
    failures: list[tuple[str, str]] = []
    names: tuple[str, ...] = ()
    scales = dict(job.scales)
    with np.load(job.inputs) as arrays:
        there = cases_of(arrays)
        cases = [case for case in job.only if case in there] if job.only else there
        began = time.process_time()  # what else runs meanwhile is not to decide how many cases are seen
        ran: list[str] = []
        for label, case in (*zip(cases, cases, strict=True), (REPEAT, cases[0])):
            late = job.most_seconds and time.process_time() - began > job.most_seconds
            if late and len(ran) >= LEAST_CASES and label != REPEAT:
                continue
            ran.append(label)
            inputs = feed(arrays, case, job.feeds)
            try:
                found = session.run(inputs)
            except EdgeproofError as error:
                failures.append((label, error.message))
                continue
            except Exception as error:  # noqa: BLE001  the engine's own failure on one case is what we look for
                failures.append((label, f"{type(error).__name__}: {summary(error)}"))
                continue
            names = tuple(found)
            # A copy, because engines hand out views of buffers they write to again.
            outputs |= {
                f"{label}/{name}": dequantized(np.array(value), scales.get(name)) for name, value in found.items()
            }
        if job.steps and not failures:
            failures += _replayed(job, arrays, cases, outputs)
        median = None if failures or not job.timed_seconds else _median(session, arrays, cases[0], job)
    np.savez(job.outputs, **outputs)  # type: ignore[arg-type]
    return Outputs(job.outputs, tuple(ran[:-1]), names, tuple(failures), load_seconds, median)


def opened(job: Execution) -> Session:
    """Open a model; where it has a state, as its file says and not as another stage left it."""
    if job.steps:
        load.cache_clear()
    try:
        return RUNTIMES[job.runtime].open(job.subject)
    finally:
        if job.steps:
            load.cache_clear()


def _replayed(
    job: Execution, arrays: np.lib.npyio.NpzFile, cases: list[str], outputs: Mapping[str, np.ndarray]
) -> list[tuple[str, str]]:
    """Open a model afresh, run all cases in their order again, and name the first that it answers otherwise."""
    import numpy as np

    session = opened(job)
    scales = dict(job.scales)
    for label, case in (*zip(cases, cases, strict=True), (REPEAT, cases[0])):
        for name, value in session.run(feed(arrays, case, job.feeds)).items():
            again = dequantized(np.array(value), scales.get(name))
            if not np.array_equal(again, outputs[f"{label}/{name}"], equal_nan=again.dtype.kind == "f"):
                return [(REPEAT, f"opened afresh, {name} differs at step {label}")]
    return []


def _median(session: Session, arrays: np.lib.npyio.NpzFile, case: str, job: Execution) -> float:
    """Time one case again and again; the median of what fits into the time, of three runs at least."""
    one = session.ready(feed(arrays, case, job.feeds))
    one.place()
    samples: list[float] = []
    until = time.perf_counter() + job.timed_seconds
    while len(samples) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        one.infer()
        samples.append(time.perf_counter() - began)
    return statistics.median(samples)


@dataclass(frozen=True, slots=True)
class Drag:
    """An artifact that was slower than hoped; travels to its engine's worker."""

    runtime: str
    path: str


def drags(job: Drag) -> str:
    """Say what makes an artifact slow on its engine."""
    return RUNTIMES[job.runtime].drags(Path(job.path))


def blames(job: Drag) -> tuple[str, ...]:
    """Name the values of an artifact that its engine does not compute on its fast path."""
    return RUNTIMES[job.runtime].blames(Path(job.path))


def feed(arrays: np.lib.npyio.NpzFile, case: str, feeds: tuple[Feed, ...]) -> dict[str, np.ndarray]:
    """Read one case's arrays under the names and dtypes, and in the layout, that a model takes."""
    import numpy as np

    named = {key.partition("/")[2]: arrays[key] for key in arrays.files if key.partition("/")[0] == case}
    if not feeds:
        return named
    found = {}
    for item in feeds:
        array = named[item.name]
        array = array.astype(item.dtype, copy=False) if item.scale is None else quantized(array, item.dtype, item.scale)
        found[item.takes] = np.ascontiguousarray(array.transpose(item.axes)) if item.axes else array
    return found


def quantized(array: np.ndarray, dtype: str, scale: Scale) -> np.ndarray:
    """Round numbers, to even as TFLite and ONNX do, to the integers that stand for them, within the dtype's ends."""
    import numpy as np

    ends = np.iinfo(dtype)
    rounded = np.rint(array.astype(np.float64) / scale.scale) + scale.zero_point
    found: np.ndarray = np.clip(rounded, ends.min, ends.max).astype(dtype)
    return found


def dequantized(array: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Give the numbers that an output's integers stand for."""
    import numpy as np

    if scale is None:
        return array
    return ((array.astype(np.float64) - scale.zero_point) * scale.scale).astype(np.float32)


def cases_of(arrays: np.lib.npyio.NpzFile) -> list[str]:
    """Name the cases of an inputs file, in order."""
    return list(dict.fromkeys(key.partition("/")[0] for key in arrays.files))


def cannot_open(runtime: str, path: str | Path, error: Exception) -> LoadError:
    """Build the error for a file an engine refuses."""
    return LoadError(f"{runtime} cannot load {Path(path).name}: {type(error).__name__}: {summary(error)}")
