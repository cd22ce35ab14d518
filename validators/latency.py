"""How long an artifact takes on this machine: load, first inference, steady state; and the memory it adds.

Protocol: fresh processes with nothing else of ours running; load and first inference once in each; then warm-up, then
inferences in rotation over several inputs, timed one by one in wall and in CPU time. A window of timings is reported
when it is stable; an unstable one is measured again, and withheld with the reason in the end. Load and first inference
are an app's, with the handing over of inputs and the reading of outputs; the steady state is the engine's inference
alone, on inputs that are already where it reads them, as the engines' own benchmark tools time it. How often and how
long, `validators.protocol` says.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convert.worker import cores
from validators.interval import Intervals, of_median, of_memory, of_processes
from validators.memory import Marks, Memory, held, highest, reset_peak
from validators.openings import Opening, openings
from validators.phone import Phone
from validators.protocol import DEFAULT, P90_RUNS, P95_RUNS, P99_RUNS, PROTOCOLS, ROTATION, Protocol, pinned
from validators.runtimes import RUNTIMES, Feed, Inference, Session, Subject, cases_of, feed
from validators.steady import LEAST_RUNS, QUARTER_DRIFT, instability, outliers, warm_up
from validators.where import Where

#: The least that is run before anything counts; what else is warm-up, a change-point test says.
WARM_UP_SECONDS = 0.1
WARM_UP_RUNS = 3

#: So many windows are tried at least where the first is not stable.
WINDOWS = 2

#: Inferences during which the memory of running is watched, the first among them; always as many, to be repeatable.
WATCHED_RUNS = 4

NANO = 1e-9


@dataclass(frozen=True, slots=True)
class Timing:
    """One artifact to time at one number of threads; travels to a worker of its own."""

    runtime: str
    subject: Subject
    inputs: str  # .npz of cases
    only: tuple[str, ...]
    feeds: tuple[Feed, ...]
    samples: str  # .npy to write: wall and CPU nanoseconds of every run
    protocol: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Block:
    """What one process measured; the timings are in the file `samples`."""

    samples: str
    unsettled: str
    openings: tuple[Opening, ...]
    memory: Memory
    inputs: int  # distinct ones
    warm_up_runs: int = 0
    windows: int = 1
    pinned: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    marked: bool = True  # whether the memory is of the artifact alone: the process's mark was started over


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured; `median_seconds` and the rest of the steady state are None where `withheld` says why.

    `where` is where: on this machine, or on the `device`, whose tool need not tell everything; what it does not is
    None, and `untold` has the reason by the name of the field.
    `spread` is the interquartile range over the median. `p90_seconds` needs 64 runs, `p95_seconds` 130, `p99_seconds`
    662.
    `peak_added_bytes` is the highest resident memory during load and inference less what the process held before.
    `load_seconds` and `first_seconds` are medians of the `openings`. `cpu_*` is the process's CPU time of all threads
    in the same runs, withheld for reasons of its own. `outliers` are far slower than the rest and in every number.
    `intervals` are what budgets are held against, `samples` the files of every timing, one per process.
    """

    threads: int
    load_seconds: float | None  # None, as the memory may be, where a device did not do as it usually does
    first_seconds: float | None
    runs: int
    median_seconds: float | None
    p90_seconds: float | None
    spread: float | None
    peak_added_bytes: int | None
    where: Where = Where.HOST
    withheld: str = ""
    protocol: str = DEFAULT
    p99_seconds: float | None = None
    slowest_seconds: float | None = None
    outliers: int | None = 0
    cpu_median_seconds: float | None = None
    cpu_spread: float | None = None
    cpu_withheld: str = ""
    openings: tuple[Opening, ...] = ()  # seconds of load and of first inference in each fresh process
    processes: int = 1  # in which a steady state was looked for
    windows: int = 1  # of timings that were tried in all of them
    warm_up_runs: int = 0  # that do not count, in all of them
    inputs: int = ROTATION  # distinct ones in rotation
    pinned: tuple[int, ...] = ()  # cores that the processes were kept on
    memory: Memory | None = None
    notes: tuple[str, ...] = ()
    mean_seconds: float | None = None
    fastest_seconds: float | None = None
    deviation_seconds: float | None = None  # standard deviation of one run
    p95_seconds: float | None = None
    process_peak_bytes: int | None = None  # of a tool's whole process, its own code and buffers among it
    device: Phone | None = None
    untold: dict[str, str] = field(default_factory=dict)
    intervals: Intervals | None = None
    samples: tuple[str, ...] = ()

    @property
    def cold_start_seconds(self) -> float | None:
        """The median of load and first inference together; None where nothing was opened."""
        return statistics.median(load + first for load, first in self.openings) if self.openings else None


@dataclass(frozen=True, slots=True)
class Clocks:
    """What time is read from, in nanoseconds: wall time that never goes back, and CPU time of this process."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.process_time_ns


@dataclass(slots=True)
class Samples:
    """Nanoseconds of runs, one by one."""

    wall: list[int] = field(default_factory=list)
    cpu: list[int] = field(default_factory=list)
    unsettled: str = ""  # why they are no steady state, where that is known of how they came about

    def after(self, runs: int) -> Samples:
        """Give all but the first `runs`."""
        return Samples(self.wall[runs:], self.cpu[runs:])


@dataclass(frozen=True, slots=True)
class Window:
    """The timings of a steady state, or of the last try for one; and how it was found."""

    samples: Samples
    warm_up_runs: int
    windows: int


def measure(job: Timing) -> Block:
    """Load and time an artifact; runs alone, in a fresh worker."""
    import numpy as np

    protocol = PROTOCOLS[job.protocol]
    runtime = RUNTIMES[job.runtime]  # here, because finding it imports all runtimes
    with np.load(job.inputs) as arrays:
        cases = [case for case in cases_of(arrays) if case in job.only][:ROTATION]
        rotation = [feed(arrays, case, job.feeds) for case in cases]
    distinct = len({b"".join(array.tobytes() for array in inputs.values()) for inputs in rotation})

    def once() -> tuple[Session, Opening]:
        started = time.perf_counter()
        session = runtime.open(job.subject)
        loaded = time.perf_counter()
        session.run(rotation[0])
        return session, (loaded - started, time.perf_counter() - loaded)

    with pinned(job.subject.threads) as kept_on:
        apart, reason = openings(lambda: once()[1], -(-protocol.openings // protocol.processes) - 1)
        resettable = reset_peak()
        before = held()
        started = time.perf_counter()
        session = runtime.open(job.subject)
        loaded = time.perf_counter()
        load = highest().over(before)
        reset_peak()
        resumed = time.perf_counter()
        session.run(rotation[0])
        first = time.perf_counter() - resumed
        for place in range(1, WATCHED_RUNS):
            session.run(rotation[place % len(rotation)])
        ran = highest().over(before)
        ready = [session.ready(inputs) for inputs in rotation]
        window = steady(in_turn(ready), protocol)
    np.save(job.samples, np.array([window.samples.wall, window.samples.cpu], np.int64))
    notes = [f"load and first inference are of fewer processes: {reason}"] * bool(reason)
    notes += ["memory is that of the process's whole life: its mark cannot be started over here"] * (not resettable)
    notes += [f"times include inputs and outputs: {ready[0].whole}"] * bool(ready[0].whole)
    return Block(
        job.samples,
        window.samples.unsettled,
        (*apart, (loaded - started, first)),
        Memory(load, ran),
        distinct,
        window.warm_up_runs + WATCHED_RUNS,
        window.windows,
        kept_on,
        tuple(notes),
        resettable,
    )


def in_turn(ready: Sequence[Inference]) -> Callable[[], Callable[[], object]]:
    """Give what places the inputs of the next inference, in rotation, and gives the call that makes it."""
    turns = itertools.cycle(ready)

    def placed() -> Callable[[], object]:
        one = next(turns)
        one.place()
        return one.infer

    return placed


def steady(placed: Callable[[], Callable[[], object]], protocol: Protocol, clocks: Clocks | None = None) -> Window:
    """Time what `placed` gives, and not itself, until a window is stable; give the last one where none was."""
    clocks = clocks or Clocks()
    began = clocks.wall()
    warm = 0
    while warm < WARM_UP_RUNS or (clocks.wall() - began) * NANO < WARM_UP_SECONDS:
        placed()()
        warm += 1
    patience = clocks.wall() + protocol.patience_seconds / NANO
    samples, tried = Samples(), 0
    while True:
        fill(samples, placed, protocol, clocks)
        tried += 1
        if not protocol.withholds:
            return Window(samples, warm, tried)
        over = tried >= WINDOWS and clocks.wall() > patience
        if cut := warm_up(samples.wall):
            samples = samples.after(cut)
            warm += cut
            if not over:
                continue
            if not protocol.enough(len(samples.wall), sum(samples.wall) * NANO):
                samples.unsettled = f"not stable: its speed changed until its last {len(samples.wall)} runs"
        few = len(samples.wall) < LEAST_RUNS  # another window would have as few
        if few or over or not instability(samples.wall, protocol.limit_seconds):
            return Window(samples, warm, tried)
        samples = Samples()


def fill(samples: Samples, placed: Callable[[], Callable[[], object]], protocol: Protocol, clocks: Clocks) -> None:
    """Time runs one by one until there are enough of them over enough time, or the limit is reached."""
    wall, cpu = clocks.wall, clocks.cpu  # looked up once, because that, too, would be in the times
    began = wall() - sum(samples.wall)
    while True:
        infer = placed()
        # NOTE: Why in this order: reading the CPU clock is a call of the system, which wall time leaves out.
        computed = cpu()
        started = wall()
        infer()
        ended = wall()
        finished = cpu()
        samples.cpu.append(finished - computed)
        samples.wall.append(ended - started)
        elapsed = (ended - began) * NANO
        if protocol.enough(len(samples.wall), elapsed):
            return


def combined(blocks: Sequence[Block], threads: int, protocol: Protocol) -> Measurement:
    """Read what the processes of one artifact measured, and put it together."""
    import numpy as np

    stored = [np.load(block.samples) for block in blocks]
    found = summarise(
        [
            Samples(wall.tolist(), cpu.tolist(), block.unsettled)
            for block, (wall, cpu) in zip(blocks, stored, strict=True)
        ],
        [opening for block in blocks for opening in block.openings],
        threads,
        protocol,
    )
    memory = typical([block.memory for block in blocks])
    notes = list(dict.fromkeys(note for block in blocks for note in block.notes))
    if found.openings and len(found.openings) < 5:
        notes.append(f"load and first inference are of {len(found.openings)} fresh process(es)")
    distinct = min(block.inputs for block in blocks)
    if distinct < ROTATION:
        notes.append(f"only {distinct} distinct input(s) in rotation")
    if threads > cores():
        notes.append(f"{threads} threads on {cores()} core(s): they wait for each other")
    peaks = [max(block.memory.load.resident, block.memory.run.resident) for block in blocks]
    between = of_memory(peaks, marked=all(block.marked for block in blocks))
    return dataclasses.replace(
        found,
        peak_added_bytes=max(memory.load.resident, memory.run.resident),
        memory=memory,
        windows=sum(block.windows for block in blocks),
        warm_up_runs=sum(block.warm_up_runs for block in blocks),
        inputs=distinct,
        pinned=blocks[0].pinned,
        notes=(*found.notes, *notes),
        intervals=dataclasses.replace(found.intervals or Intervals(), memory=between),
        samples=tuple(block.samples for block in blocks),
    )


def typical(found: Sequence[Memory]) -> Memory:
    """Give the median of what several processes added, mark by mark."""

    def middle(marks: Sequence[Marks]) -> Marks:
        anonymous = [mark.anonymous for mark in marks if mark.anonymous is not None]
        return Marks(
            statistics.median_low([mark.resident for mark in marks]),
            statistics.median_low(anonymous) if anonymous else None,
        )

    return Memory(middle([memory.load for memory in found]), middle([memory.run for memory in found]))


def summarise(
    blocks: Sequence[Samples], opened: Sequence[Opening], threads: int, protocol: Protocol = PROTOCOLS[DEFAULT]
) -> Measurement:
    """Turn each process's timings into a measurement, holding back what they do not support."""
    walls, cpus = ([[one * NANO for one in runs] for runs in side] for side in _sides(blocks))
    unsettled = [block.unsettled for block in blocks]
    unstable, cpu_unstable = (_unstable(side, unsettled, protocol.limit_seconds) for side in (walls, cpus))
    withheld, cpu_withheld = unstable, cpu_unstable
    if not protocol.withholds:
        few = min(map(len, walls)) < protocol.runs
        withheld = cpu_withheld = (
            f"only {min(map(len, walls))} of {protocol.runs} runs fit into {protocol.limit_seconds:g} s" if few else ""
        )
    wall, cpu = ([one for runs in side for one in runs] for side in (walls, cpus))
    median, spread = (None, None) if withheld else _middle(wall)
    cpu_median, cpu_spread = (None, None) if cpu_withheld else _middle(cpu)
    shown = not withheld
    return Measurement(
        threads=threads,
        load_seconds=statistics.median(load for load, _ in opened),
        first_seconds=statistics.median(first for _, first in opened),
        runs=len(wall),
        median_seconds=median,
        p90_seconds=_percentile(wall, 90) if shown and len(wall) >= P90_RUNS else None,
        spread=spread,
        peak_added_bytes=0,
        withheld=withheld,
        protocol=protocol.name,
        p99_seconds=_percentile(wall, 99) if shown and len(wall) >= P99_RUNS else None,
        slowest_seconds=max(wall, default=None) if shown else None,
        outliers=outliers(wall),
        cpu_median_seconds=cpu_median,
        cpu_spread=cpu_spread,
        cpu_withheld=cpu_withheld,
        openings=tuple(opened),
        processes=len(blocks),
        notes=(f"{protocol.name} leaves nothing out: {unstable}",) if unstable and shown else (),
        intervals=Intervals(
            None if withheld else of_processes(walls),
            None if cpu_withheld else of_processes(cpus),
            of_median([load + first for load, first in opened]),
        ),
        mean_seconds=statistics.fmean(wall) if shown and wall else None,
        fastest_seconds=min(wall, default=None) if shown else None,
        deviation_seconds=statistics.stdev(wall) if shown and len(wall) > 1 else None,
        p95_seconds=_percentile(wall, 95) if shown and len(wall) >= P95_RUNS else None,
    )


def _sides(blocks: Sequence[Samples]) -> tuple[list[list[int]], list[list[int]]]:
    return [block.wall for block in blocks], [block.cpu for block in blocks]


def _unstable(blocks: Sequence[Sequence[float]], unsettled: Sequence[str], limit_seconds: float) -> str:
    """Say why the timings of several processes are no steady state: one alone is none, or they differ."""
    known = zip(blocks, unsettled, strict=True)
    reasons = [reason for block, said in known if (reason := said or instability(block, limit_seconds))]
    if reasons:
        return reasons[0] if len(blocks) == 1 else f"in {len(reasons)} of {len(blocks)} processes: {reasons[0]}"
    medians = [statistics.median(block) for block in blocks]
    middle = statistics.median(medians)
    apart = max(abs(median - middle) for median in medians) / middle
    if apart > QUARTER_DRIFT:
        return f"not stable: medians of processes differ by {apart:.0%} (limit {QUARTER_DRIFT:.0%})"
    return ""


def _middle(samples: Sequence[float]) -> tuple[float, float]:
    """Give the median, and the interquartile range over it."""
    low, median, high = statistics.quantiles(samples, n=4)
    return median, (high - low) / median


def _percentile(samples: Sequence[float], hundredths: int) -> float:
    return statistics.quantiles(samples, n=100)[hundredths - 1]


def overlap(one: Measurement, other: Measurement) -> bool:
    """Whether the middle halves of two measurements' timings overlap, so that neither is called the faster."""
    lows, highs = zip(_half(one), _half(other), strict=True)
    return bool(max(lows) <= min(highs))


def _half(measured: Measurement) -> tuple[float, float]:
    """Give the ends of the middle half: the median with half the interquartile range on either side of it."""
    median, spread = measured.median_seconds or 0.0, measured.spread or 0.0
    return median * (1 - spread / 2), median * (1 + spread / 2)


def samples_path(folder: Path, stage: str) -> str:
    """Name the file that a stage's timings are written to."""
    return str(folder / f"{stage}.samples.npy")
