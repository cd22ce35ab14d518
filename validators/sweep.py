"""Sweeps run: an artifact timed and weighed at each value in fresh processes; what fails there ends nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from convert.errors import EdgeproofError
from convert.spec import BATCH, Artifact, Limits, Signature
from convert.worker import Workers
from validators.examine import seen_as_file
from validators.inputs import base_sizes
from validators.kinds import draw
from validators.latency import WATCHED_RUNS, Measurement, Timing
from validators.memory import held, highest, limit_allocation, reset_peak
from validators.protocol import ROTATION, Protocol, pinned
from validators.prove import Baseline, Proof, time_in_processes, timing_environment
from validators.quantity import bytes_text
from validators.runtimes import RUNTIMES, Feed, Subject, feed
from validators.swept import THREADS, Sweep, Swept, SweptPoint, largest

if TYPE_CHECKING:
    import numpy as np

#: Bytes of inputs in rotation at one value; fewer distinct ones are made where they are large, and the report says so.
ROTATION_BYTES = 64 << 20

#: No inputs are made that take more than this share of the memory that a stage may use: an engine copies them.
INPUTS_SHARE = 0.1

#: One value may take this share of the memory that is free when it begins, whatever a stage may: an artifact at a size
#: that nobody tried before must not drive out what else runs, and its memory is looked at in intervals.
FREE_SHARE = 0.5

#: A try for the largest batch may allocate so many times its limit, and this much beside, before the system refuses it:
#: engines set more aside than they use. What grows past it all the same is killed, engine and all.
STOP_FACTOR = 2
STOP_BESIDE = 256 << 20
ENGINE_BYTES = 1 << 30

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Subjected:
    """An artifact to sweep, as it was proven: what of it every value needs."""

    baseline: Baseline
    artifact: Artifact
    proof: Proof
    label: str
    seed: int
    protocol: Protocol
    threads: int

    @property
    def fixed(self) -> dict[str, int]:
        """The free dimensions of the source that the artifact fixes."""
        return dict(self.proof.binding.fixed) if self.proof.binding else {}

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """How it takes the inputs."""
        return self.proof.binding.feeds if self.proof.binding else ()


@dataclass(frozen=True, slots=True)
class Weighing:
    """One artifact to load and run a few times, which may allocate no more than so many bytes; travels to a worker."""

    runtime: str
    subject: Subject
    inputs: str  # .npz
    case: str
    feeds: tuple[Feed, ...]
    most_bytes: int


def sweep(workers: Workers, subjected: Subjected, asked: Sweep, say: Say) -> Swept:
    """Time an artifact at every value, one after another; nothing else of ours may run meanwhile."""
    points = []
    for value in asked.values:
        say(f"{subjected.label}: {asked.name} {value}")
        points.append(_point(workers, subjected, asked.name, value))
    return Swept(asked.name, tuple(points))


def largest_batch(workers: Workers, subjected: Subjected, limit_bytes: int, say: Say) -> Swept:
    """Find the largest batch whose peak memory is within a limit, each try in a process of its own."""
    if BATCH in subjected.fixed:
        reason = f"the artifact fixes {BATCH} to {subjected.fixed[BATCH]}"
        return Swept(BATCH, (), reason, limit_bytes)

    def try_one(batch: int) -> SweptPoint:
        say(f"{subjected.label}: {BATCH} {batch} within {bytes_text(limit_bytes)}")
        return _weighed(workers, subjected, batch, limit_bytes)

    points, found = largest(try_one, limit_bytes)
    reason = ""
    if found is None:
        reason = points[0].reason or f"{BATCH} 1 takes {bytes_text(points[0].peak_bytes or 0)} already"
    return Swept(BATCH, points, reason, limit_bytes, found)


def _point(workers: Workers, subjected: Subjected, name: str, value: int) -> SweptPoint:
    """Measure at one value; whatever keeps it from that is the reason of a point without numbers."""
    signature = subjected.baseline.signature
    sizes = {**base_sizes(signature), **subjected.fixed}
    if name in subjected.fixed and subjected.fixed[name] != value:
        return SweptPoint(value, reason=f"the artifact fixes {name} to {subjected.fixed[name]}")
    threads = value if name == THREADS else subjected.threads
    sizes |= {} if name == THREADS else {name: value}
    items = sizes.get(BATCH)
    stage = f"sweep-{subjected.label}-{name}-{value}"
    limits = _limits(workers)
    try:
        count = _affordable(signature, sizes, int(limits.memory_bytes * INPUTS_SHARE))
        path, cases = _drawn(workers, subjected, sizes, stage, count)
        found = _timed(workers, subjected, path, cases, threads, stage, limits)
    except EdgeproofError as error:
        workers.require_open()
        return SweptPoint(value, items, reason=error.message)
    return SweptPoint(value, items, found, found.peak_added_bytes)


def _limits(workers: Workers, most_bytes: int | None = None) -> Limits:
    """Give what one value may use: never more than a share of the memory that is free now."""
    free = int(psutil.virtual_memory().available * FREE_SHARE)
    known = (workers.limits.memory_bytes, free, *([most_bytes] if most_bytes else []))
    return Limits(workers.limits.timeout_seconds, min(known))


def _timed(
    workers: Workers,
    subjected: Subjected,
    inputs: str,
    cases: tuple[str, ...],
    threads: int,
    stage: str,
    limits: Limits,
) -> Measurement:
    """Time on inputs of one size, in as many fresh processes as the protocol has."""
    job = Timing(
        subjected.proof.runtime.name,
        Subject(seen_as_file(subjected.artifact), threads=threads),
        inputs,
        cases,
        subjected.feeds,
        "",
        subjected.protocol.name,
    )
    return time_in_processes(workers, subjected.proof.runtime, job, stage, subjected.protocol, limits)[0]


def _weighed(workers: Workers, subjected: Subjected, batch: int, limit_bytes: int) -> SweptPoint:
    """Weigh one batch in a process that can neither allocate nor hold much more than the limit."""
    sizes = {**base_sizes(subjected.baseline.signature), **subjected.fixed, BATCH: batch}
    runtime = subjected.proof.runtime
    environment = timing_environment(runtime, subjected.threads)
    stage = f"weigh-{subjected.label}-{batch}"
    most = STOP_FACTOR * limit_bytes + STOP_BESIDE
    limits = _limits(workers, ENGINE_BYTES + most + limit_bytes)
    try:
        _affordable(subjected.baseline.signature, sizes, limit_bytes)
        path, (case, *_) = _drawn(workers, subjected, sizes, stage, 1)
        subject = Subject(seen_as_file(subjected.artifact), threads=subjected.threads)
        job = Weighing(runtime.name, subject, path, case, subjected.feeds, most)
        try:
            peak = workers.run(stage, weigh, job, environment, limits=limits).value
        finally:
            workers.retire(environment)
    except EdgeproofError as error:
        workers.require_open()
        return SweptPoint(batch, batch, reason=error.message)
    return SweptPoint(batch, batch, peak_bytes=peak)


def weigh(job: Weighing) -> int:
    """Give the peak memory that an artifact adds while it is loaded and run a few times; in a fresh worker."""
    import numpy as np

    runtime = RUNTIMES[job.runtime]
    with np.load(job.inputs) as arrays:
        inputs = feed(arrays, job.case, job.feeds)
    with pinned(job.subject.threads):
        limit_allocation(job.most_bytes)
        reset_peak()
        before = held()
        session = runtime.open(job.subject)
        for _ in range(WATCHED_RUNS):
            session.run(inputs)
        return highest().over(before).resident


def _affordable(signature: Signature, sizes: dict[str, int], most_bytes: int) -> int:
    """Say how many distinct inputs to make; raises InputsTooLarge where one alone takes more than `most_bytes`."""
    import numpy as np

    one = sum(math.prod(spec.sized(sizes)) * np.dtype(spec.dtype).itemsize for spec in signature.inputs)
    if one > most_bytes:
        raise InputsTooLarge(f"its inputs alone take {bytes_text(one)}, more than {bytes_text(most_bytes)}")
    return max(1, min(ROTATION, ROTATION_BYTES // max(one, 1)))


class InputsTooLarge(EdgeproofError):
    """Inputs of a size that are not made at all."""


def _drawn(
    workers: Workers, subjected: Subjected, sizes: dict[str, int], stage: str, count: int
) -> tuple[str, tuple[str, ...]]:
    """Make seeded inputs of a size and write them; give the file and the names of its cases."""
    import numpy as np

    names = tuple(f"normal-{number}" for number in range(count))
    signature = subjected.baseline.signature
    arrays: Mapping[str, np.ndarray] = {
        f"{name}/{tensor}": array
        for name in names
        for tensor, array in draw(name, "normal", signature, sizes, subjected.seed).arrays.items()
    }
    path = str(workers.folder / f"{stage}.inputs.npz")
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path, names
