"""Sweeps: what is asked for, what fails at one value and ends nothing, and the largest batch that fits."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from convert.errors import RunStopped, UsageError, WorkerCrashed, WorkerMemory
from convert.spec import Artifact, Limits, Signature, TensorSpec
from convert.worker import Environment, Workers
from validators import sweep as sweeps
from validators.latency import Block
from validators.memory import Marks, Memory, limit_allocation
from validators.protocol import PROTOCOLS, ROTATION
from validators.report import TargetReport
from validators.reports._sweeps import tables
from validators.reports._sweeps import title as title_of
from validators.runtimes import Feed, Runtime
from validators.structure import Binding
from validators.sweep import Subjected, largest_batch, sweep
from validators.swept import MOST_BATCH, Sweep, Swept, SweptPoint, largest, require_free, sweeps_from
from validators.verdict import Status

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", "length", 4)),), ())
MIB = 1 << 20


# What is asked for


def test_sweeps_are_read_with_their_values_once_each():
    assert sweeps_from(["batch=1,2, 4,2", " threads =2"]) == (Sweep("batch", (1, 2, 4)), Sweep("threads", (2,)))
    assert str(Sweep("batch", (1, 2))) == "batch=1,2"


@pytest.mark.parametrize("text", ["batch", "batch=", "=1", "batch=0", "batch=-1", "batch=1.5", "batch=1,,2", "batch=a"])
def test_what_is_no_sweep_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="cannot read --sweep") as error:
        sweeps_from([text])
    assert "--sweep batch=1,2,4,8" in error.value.fix


def test_one_dimension_is_swept_once():
    with pytest.raises(UsageError, match="states 'batch' twice"):
        sweeps_from(["batch=1", "batch=2"])


def test_only_what_is_free_is_swept():
    require_free(sweeps_from(["batch=1", "length=3", "threads=2"]), MIB, SIGNATURE)
    with pytest.raises(UsageError, match="no free dimension named 'lenght'") as error:
        require_free(sweeps_from(["lenght=3"]), 0, SIGNATURE)
    assert "'length'" in error.value.fix
    fixed = Signature((TensorSpec("x", "float32", (1, 4)),), ())
    with pytest.raises(UsageError, match="'batch'") as error:
        require_free((), MIB, fixed)
    assert "the model has none" in error.value.fix


# The largest batch


def tried(limit, peak):
    seen = []

    def one(batch):
        seen.append(batch)
        found = peak(batch)
        return SweptPoint(batch, batch, reason=found) if isinstance(found, str) else SweptPoint(batch, peak_bytes=found)

    points, found = largest(one, limit)
    assert sorted(seen) == [point.value for point in points], "what was tried is told, once each"
    assert len(seen) == len(set(seen))
    return found, seen


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 100, 709])
def test_the_largest_batch_is_found_by_doubling_and_bisection(most):
    found, seen = tried(1000 + 10 * most, lambda batch: 1000 + 10 * batch)
    assert found == most
    assert len(seen) <= 2 * most.bit_length() + 1


def test_where_not_even_one_fits_there_is_none():
    assert tried(5, lambda batch: 10 * batch) == (None, [1])


def test_a_batch_that_crashes_does_not_fit():
    assert tried(1000, lambda batch: batch if batch <= 5 else "killed")[0] == 5


def test_the_search_ends_at_a_batch_that_nobody_needs():
    found, seen = tried(10, lambda batch: 1)
    assert (found, max(seen)) == (MOST_BATCH, MOST_BATCH)


# In processes


class Machine:
    """Workers that answer what the artifact at a size would; each process is told of."""

    def __init__(self, folder, answer):
        self.folder = folder
        self.limits = Limits(60.0, 8 << 30)
        self.jobs, self.limited, self.retired, self.stopped = [], [], 0, False
        self._answer = answer

    def run(self, stage, call, job, environment, *, limits=None):
        self.jobs.append(job)
        self.limited.append(limits)
        with np.load(job.inputs) as arrays:
            shapes = [arrays[name].shape for name in arrays.files]
        return SimpleNamespace(value=self._answer(job, shapes), seconds=0.0, command="")

    def retire(self, environment):
        self.retired += 1

    def require_open(self):
        if self.stopped:
            raise RunStopped("the run was stopped")


def subjected(*fixed):
    runtime = Runtime("engine", "engine", Environment("engine"), lambda _: None)
    binding = Binding((Feed("x", "x", "float32"),), (), fixed)
    return Subjected(
        SimpleNamespace(signature=SIGNATURE),
        Artifact("m.onnx", "onnx", "fp32", SIGNATURE, "", 0),
        SimpleNamespace(binding=binding, runtime=runtime),
        "onnx",
        0,
        PROTOCOLS["quick"],
        1,
    )


def block(job, shapes):
    """Take a microsecond for every number of the input."""
    nanoseconds = 1000 * int(np.prod(shapes[0]))
    np.save(job.samples, np.full((2, 100), nanoseconds))
    marks = Memory(Marks(MIB, None), Marks(MIB + nanoseconds, None))
    return Block(job.samples, "", ((0.1, 0.2),), marks, len(shapes))


def quiet(_):
    pass


def test_each_value_is_timed_and_weighed_in_a_process_of_its_own(tmp_path):
    machine = Machine(tmp_path, block)
    found = sweep(machine, subjected(), Sweep("batch", (1, 4)), quiet)

    assert machine.retired == len(machine.jobs) == 2
    assert [point.latency.median_seconds for point in found.points] == [pytest.approx(64e-6), pytest.approx(256e-6)]
    assert [point.per_item(point.latency.median_seconds) for point in found.points] == [pytest.approx(64e-6)] * 2
    assert [point.peak_bytes for point in found.points] == [MIB + 64_000, MIB + 256_000]
    assert [point.latency.inputs for point in found.points] == [ROTATION, ROTATION]


def test_other_dimensions_and_threads_are_swept_alike(tmp_path):
    machine = Machine(tmp_path, block)
    (longer,) = sweep(machine, subjected(), Sweep("length", (20,)), quiet).points
    assert longer.latency.median_seconds == pytest.approx(80e-6)
    (threads,) = sweep(machine, subjected(), Sweep("threads", (2,)), quiet).points
    assert (threads.latency.threads, machine.jobs[-1].subject.threads) == (2, 2)


def test_large_inputs_are_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "ROTATION_BYTES", 3 * 256)  # one input at batch 1 has 16 x 4 floats
    (point,) = sweep(Machine(tmp_path, block), subjected(), Sweep("batch", (1,)), quiet).points
    assert point.latency.inputs == 3
    assert "only 3 distinct input(s) in rotation" in point.latency.notes


def test_a_value_that_crashes_or_is_stopped_is_a_row_with_its_reason_and_ends_nothing(tmp_path):
    def answer(job, shapes):
        if shapes[0][0] == 2:
            raise WorkerCrashed("was killed by SIGSEGV")
        if shapes[0][0] == 3:
            raise WorkerMemory("grew past its memory limit")
        return block(job, shapes)

    machine = Machine(tmp_path, answer)
    found = sweep(machine, subjected(), Sweep("batch", (1, 2, 3, 4)), quiet).points
    assert [point.reason for point in found] == ["", "was killed by SIGSEGV", "grew past its memory limit", ""]
    assert [point.latency is None for point in found] == [False, True, True, False]
    assert machine.retired == 4, "no process goes on to the next value"


def test_an_interrupted_run_is_no_row(tmp_path):
    def answer(job, shapes):
        machine.stopped = True
        raise WorkerCrashed("was killed")

    machine = Machine(tmp_path, answer)
    with pytest.raises(RunStopped):
        sweep(machine, subjected(), Sweep("batch", (1,)), quiet)


def test_what_the_artifact_fixes_is_a_row_that_says_so(tmp_path):
    found = sweep(Machine(tmp_path, block), subjected(("batch", 2)), Sweep("batch", (1, 2)), quiet).points
    assert [point.reason for point in found] == ["the artifact fixes batch to 2", ""]
    none = largest_batch(Machine(tmp_path, block), subjected(("batch", 2)), MIB, quiet)
    assert (none.points, none.reason) == ((), "the artifact fixes batch to 2")


def test_inputs_that_no_machine_holds_are_not_made(tmp_path):
    machine = Machine(tmp_path, block)
    (point,) = sweep(machine, subjected(), Sweep("batch", (10**12,)), quiet).points
    assert "its inputs alone take" in point.reason
    assert machine.jobs == []


def test_no_value_may_take_more_than_half_of_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps.psutil, "virtual_memory", lambda: SimpleNamespace(available=2 << 30))
    machine = Machine(tmp_path, block)
    sweep(machine, subjected(), Sweep("batch", (1,)), quiet)
    assert machine.limited[0].memory_bytes == 1 << 30


def test_the_largest_batch_is_judged_by_its_measured_peak_and_stopped_hard(tmp_path):
    machine = Machine(tmp_path, lambda job, shapes: 100_000 * shapes[0][0])
    found = largest_batch(machine, subjected(), MIB, quiet)

    assert (found.largest, found.limit_bytes) == (10, MIB)
    assert machine.retired == len(machine.jobs) == len(found.points)
    assert {job.most_bytes for job in machine.jobs} == {2 * MIB + sweeps.STOP_BESIDE}
    assert all(limits.memory_bytes <= sweeps.ENGINE_BYTES + 3 * MIB + sweeps.STOP_BESIDE for limits in machine.limited)


def test_where_no_batch_fits_it_is_said_why(tmp_path):
    assert largest_batch(Machine(tmp_path, lambda *_: 5 * MIB), subjected(), MIB, quiet).reason == (
        "batch 1 takes 5 MiB already"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    count: int


def allocate(wish: Wish) -> str:
    """Allocate in a process that may have 64 MiB more than it has."""
    if not limit_allocation(64 * MIB):
        return "no limit"
    try:
        return f"got {len(bytearray(wish.count))}"
    except MemoryError:
        return "refused"


@pytest.mark.skipif(not hasattr(__import__("os"), "sched_setaffinity"), reason="only Linux limits private memory")
def test_an_allocation_beyond_the_limit_is_refused_by_the_system(tmp_path):
    with Workers(tmp_path, Limits(60.0, 4 << 30)) as workers:
        assert workers.run("small", allocate, Wish(MIB), Environment("small")).value == f"got {MIB}"
        assert workers.run("large", allocate, Wish(512 * MIB), Environment("large")).value == "refused"


# What is shown


def shown(swept):
    from rich.console import Console

    target = TargetReport("onnx", "fp32", Status.PASS, "", None, (), sweeps=(swept,))
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        for part in tables(target):
            console.print(part)
    return captured.get()


def test_the_table_says_time_per_item_memory_and_every_reason(tmp_path):
    machine = Machine(tmp_path, block)
    measured = sweep(machine, subjected(("batch", 4)), Sweep("batch", (4, 8)), quiet)
    text = shown(measured)
    row, missing = (line for line in text.splitlines() if line.strip().startswith(("4 ", "8 ")))
    assert [cell.strip() for cell in row.split("│")] == [
        *("4", "256 µs ±0%", "256 µs", "256 µs", "64 µs", "15,625"),
        *("+1.244 MiB", ""),
    ]
    assert "NOT_RUN" in missing
    assert "the artifact fixes batch to 4" in missing


def test_the_title_says_which_batch_is_the_largest():
    points = (SweptPoint(1, peak_bytes=5), SweptPoint(2, peak_bytes=50))
    assert title_of(Swept("batch", points, "", 10, 1)) == "largest batch within 10 B: 1"
    assert title_of(Swept("batch", points[:1], "", 10, 1)).endswith("1, and larger ones were not tried")
    assert title_of(Swept("batch", points, "batch 1 takes 5 B already", 1)).endswith("none, batch 1 takes 5 B already")
    assert "does not fit" in shown(Swept("batch", points, "", 10, 1))
