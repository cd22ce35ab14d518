"""Timing: what is measured on a clock that is told the time, what is withheld, and why."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import signal
import statistics
import time

import numpy as np
import pytest

from convert.errors import UnknownName
from convert.spec import SourceFile
from convert.worker import Environment
from validators import latency, openings
from validators.latency import NANO, Block, Clocks, Samples, Timing, combined, measure, steady, summarise
from validators.memory import Marks, Memory
from validators.openings import openings as opened_apart
from validators.protocol import PROTOCOLS, ROTATION, pinned, protocol_of
from validators.runtimes import RUNTIMES, Feed, Inference, Runtime, Session, Subject
from validators.steady import LEAST_RUNS

MS = 1_000_000  # nanoseconds
DEFAULT = PROTOCOLS["default"]


class Machine:
    """A clock that only runs make go on; each takes the next of `durations` in nanoseconds, and less CPU time."""

    def __init__(self, durations, busy=1.0):
        self.now = 5 * MS
        self.computed = 0.0
        self.runs = 0
        self._durations = iter(durations)
        self._busy = busy

    def run(self):
        self.runs += 1
        took = int(next(self._durations))
        self.now += took
        self.computed += took * self._busy

    @property
    def clocks(self):
        return Clocks(lambda: self.now, lambda: int(self.computed))


def timed(durations, protocol=DEFAULT):
    """Look for a steady state and give the window, the measurement it makes and the machine."""
    machine = Machine(durations)
    window = steady(lambda: machine.run, protocol, machine.clocks)
    return window, measured(window.samples, protocol=protocol), machine


def measured(*blocks, protocol=DEFAULT, threads=1, opened=((0.5, 0.25),)):
    return summarise(blocks, opened, threads, protocol)


def both(nanoseconds):
    return Samples(list(nanoseconds), list(nanoseconds))


def noisy(median, share, seed=0):
    rng = random.Random(seed)
    while True:
        yield median * (1 + share * rng.uniform(-1, 1))


# What is stable


def test_a_steady_engine_is_reported():
    window, found, _ = timed(itertools.repeat(2 * MS))

    assert found.withheld == ""
    assert found.runs >= DEFAULT.runs
    assert sum(window.samples.wall) * NANO >= DEFAULT.seconds
    assert found.median_seconds == pytest.approx(0.002)
    assert (found.p90_seconds, found.spread, found.outliers) == (pytest.approx(0.002), 0, 0)


def test_a_steady_engine_with_some_noise_is_reported():
    window, found, _ = timed(noisy(2 * MS, 0.1))

    assert found.median_seconds == pytest.approx(0.002, rel=0.02)
    assert window.windows == 1


def test_every_sample_is_one_run():
    window, _, _ = timed(noisy(2 * MS, 0.05))

    assert min(window.samples.wall) >= 2 * MS * 0.94
    assert max(window.samples.wall) <= 2 * MS * 1.06


def test_a_fast_engine_is_warmed_up_by_time_and_a_slow_one_by_runs():
    fast, slow = timed(itertools.repeat(MS // 10))[0], timed(itertools.repeat(500 * MS))[0]

    assert fast.warm_up_runs * MS // 10 * NANO >= latency.WARM_UP_SECONDS
    assert slow.warm_up_runs == latency.WARM_UP_RUNS


def test_a_slow_first_hundred_runs_are_warm_up_whatever_the_time_they_take():
    window, found, machine = timed(itertools.chain([6 * MS] * 100, noisy(2 * MS, 0.05)))

    assert found.withheld == ""
    assert found.median_seconds == pytest.approx(0.002, rel=0.02)
    assert max(window.samples.wall) < 3 * MS
    assert window.warm_up_runs >= 100
    assert window.warm_up_runs + found.runs == machine.runs


def test_a_warm_up_in_steps_is_found_to_its_end():
    steps = [8 * MS] * 40 + [5 * MS] * 40 + [3 * MS] * 40
    window, found, _ = timed(itertools.chain(steps, noisy(2 * MS, 0.03)))

    assert found.median_seconds == pytest.approx(0.002, rel=0.02)
    assert max(window.samples.wall) < 3 * MS


def test_a_burst_of_other_work_is_waited_for():
    burst = [2 * MS] * 100 + [9 * MS] * 50
    _, found, _ = timed(itertools.chain(burst, itertools.repeat(2 * MS)))

    assert found.withheld == ""
    assert found.median_seconds == pytest.approx(0.002)


def test_rare_outliers_are_counted_and_stay_in_every_number():
    quiet = noisy(2 * MS, 0.05)
    window, found, _ = timed(20 * MS if i % 50 == 49 else next(quiet) for i in itertools.count())

    assert found.withheld == ""
    assert found.median_seconds == pytest.approx(0.002, rel=0.02)
    assert found.outliers == sum(one == 20 * MS for one in window.samples.wall) > 0
    assert found.runs == len(window.samples.wall)
    assert found.slowest_seconds == pytest.approx(0.02)


def test_outliers_of_a_tenth_of_the_runs_are_in_the_90th_percentile():
    assert measured(both(([2 * MS] * 8 + [40 * MS]) * 40)).p90_seconds == pytest.approx(0.04)


# What is withheld


def test_an_engine_that_grows_slower_is_withheld_as_drifting():
    _, found, _ = timed(MS * 1.005**i for i in itertools.count())

    assert "medians of quarters differ" in found.withheld
    assert "limit 10%" in found.withheld
    assert (found.median_seconds, found.p90_seconds, found.p99_seconds, found.spread) == (None,) * 4


def test_an_engine_of_two_speeds_is_withheld():
    rng = random.Random(0)

    assert timed(rng.choice([MS, 2 * MS]) for _ in itertools.count())[1].withheld.startswith("not stable: ")


def test_two_speeds_that_are_close_to_each_other_are_withheld_with_both():
    rng = random.Random(0)
    _, found, _ = timed(rng.choice([2 * MS, 2 * MS, 2.5 * MS]) * rng.uniform(0.99, 1.01) for _ in itertools.count())

    assert "two speeds" in found.withheld
    assert "of the runs around 2 ms and the rest around 2.49 ms" in found.withheld


def test_an_engine_of_two_speeds_in_phases_is_withheld():
    assert timed(itertools.cycle([MS] * 100 + [2 * MS] * 100))[1].withheld.startswith("not stable: ")


def test_an_engine_that_is_too_slow_for_a_steady_state_is_withheld():
    _, found, machine = timed(itertools.repeat(3000 * MS))

    assert found.runs < LEAST_RUNS
    assert found.withheld == "only 4 runs fit into 10 s"
    assert machine.runs == latency.WARM_UP_RUNS + found.runs, "another window would have as few"


def test_an_engine_that_never_settles_does_not_take_forever():
    _, found, machine = timed(itertools.cycle([MS] * 40 + [3 * MS] * 40))

    assert found.withheld
    assert machine.now * NANO < DEFAULT.patience_seconds + 2


def test_cpu_time_is_withheld_for_reasons_of_its_own():
    steady_work, waiting = [2 * MS] * 100, [2 * MS, 9 * MS] * 50
    found = measured(Samples(waiting, steady_work))

    assert found.withheld
    assert (found.cpu_median_seconds, found.cpu_withheld) == (pytest.approx(0.002), "")
    assert measured(Samples(steady_work, waiting)).cpu_withheld


def test_processes_that_differ_are_withheld():
    found = measured(both([2 * MS] * 140), both([2 * MS] * 140), both([2.5 * MS] * 140))

    assert found.withheld == "not stable: medians of processes differ by 25% (limit 10%)"
    assert measured(both([2 * MS] * 140), both([2.1 * MS] * 140)).withheld == ""


def test_one_process_without_a_steady_state_is_enough_to_withhold():
    found = measured(both([2 * MS] * 140), both([MS, 4 * MS] * 70))

    assert found.withheld.startswith("in 1 of 2 processes: not stable")


# What is said


def test_percentiles_need_enough_runs_in_all_processes_together():
    assert measured(both([MS] * 63)).p90_seconds is None
    assert measured(both([MS] * 64)).p90_seconds == pytest.approx(0.001)
    assert measured(both([MS] * 661)).p99_seconds is None
    assert measured(both([MS] * 662)).p99_seconds == pytest.approx(0.001)
    assert measured(both([MS] * 331), both([MS] * 331)).p99_seconds == pytest.approx(0.001)


@pytest.mark.parametrize(("share", "runs"), [(0.9, 64), (0.99, 662)])
def test_percentiles_wait_until_the_second_slowest_run_is_above_them_for_certain(share, runs):
    def chance(count):  # that at most one of `count` runs is above the percentile
        return share**count + count * (1 - share) * share ** (count - 1)

    assert chance(runs) < 0.01 < chance(runs - 1)


def test_the_90th_percentile_is_above_nine_tenths_of_the_runs():
    samples = [(1000 + i) * MS for i in range(100)]

    p90 = measured(both(random.Random(0).sample(samples, 100))).p90_seconds

    assert sum(sample * NANO <= p90 for sample in samples) in (90, 91)


def test_load_and_first_inference_are_medians_of_the_openings():
    opened = ((0.1, 0.9), (0.2, 0.8), (5.0, 0.7), (0.3, 0.6), (0.4, 0.5))
    found = measured(both([MS] * 64), opened=opened)

    assert (found.load_seconds, found.first_seconds, found.openings) == (0.3, 0.7, opened)


def block(tmp_path, name, **changes):
    path = tmp_path / f"{name}.npy"
    np.save(path, np.array([[2 * MS] * 70, [MS] * 70], np.int64))
    memory = Memory(Marks(3 << 20, 1 << 20), Marks(5 << 20, 2 << 20))
    whole = Block(str(path), "", ((0.1, 0.2),) * 5, memory, ROTATION, warm_up_runs=7, pinned=(1,))
    return dataclasses.replace(whole, **changes)


def test_what_processes_measured_is_put_together_with_what_they_say(tmp_path):
    greedy = Memory(Marks(9 << 20, None), Marks(30 << 20, None))
    blocks = [block(tmp_path, "a"), block(tmp_path, "b"), block(tmp_path, "c", memory=greedy, notes=("odd",))]
    found = combined(blocks, 1, PROTOCOLS["release"])

    assert (found.runs, found.processes, found.warm_up_runs, found.pinned) == (210, 3, 21, (1,))
    assert found.median_seconds == pytest.approx(0.002)
    assert found.cpu_median_seconds == pytest.approx(0.001)
    assert found.memory == Memory(Marks(3 << 20, 1 << 20), Marks(5 << 20, 2 << 20))
    assert found.peak_added_bytes == 5 << 20
    assert found.notes == ("odd",)
    assert found.protocol == "release"


def test_what_budgets_are_held_against_is_kept_with_the_measurement(tmp_path):
    blocks = [block(tmp_path, "a"), block(tmp_path, "b")]
    found = combined(blocks, 1, PROTOCOLS["release"])

    assert (found.intervals.wall.low, found.intervals.wall.high) == (pytest.approx(0.002), pytest.approx(0.002))
    assert found.intervals.cpu.high == pytest.approx(0.001)
    assert (found.intervals.cold_start.low, found.cold_start_seconds) == (pytest.approx(0.3), pytest.approx(0.3))
    assert found.intervals.memory.low < 5 << 20 < found.intervals.memory.high
    assert found.samples == tuple(one.samples for one in blocks)
    unmarked = combined([block(tmp_path, "c", marked=False)], 1, DEFAULT)
    assert unmarked.intervals.memory.low == 0, "the memory of a whole life is an upper end alone"


def test_what_is_withheld_has_no_interval_and_one_opening_none_for_the_cold_start():
    found = measured(Samples([2 * MS, 9 * MS] * 50, [2 * MS] * 100))

    assert found.withheld
    assert found.intervals.wall is None
    assert found.intervals.cpu is not None
    assert found.intervals.cold_start is None


def test_too_few_inputs_openings_and_cores_are_said(tmp_path):
    found = combined([block(tmp_path, "a", inputs=3, openings=((0.1, 0.2),))], 4096, PROTOCOLS["quick"])

    assert "only 3 distinct input(s) in rotation" in found.notes
    assert "load and first inference are of 1 fresh process(es)" in found.notes
    assert any(note.startswith("4096 threads on ") for note in found.notes)


# The presets


def test_every_preset_says_how_many_processes_open_the_file():
    assert {name: protocol.openings for name, protocol in PROTOCOLS.items()} == {
        **dict.fromkeys(("default", "release", "mlperf"), 5),
        "quick": 1,
    }
    assert PROTOCOLS["release"].threads == (1, 4)
    assert PROTOCOLS["release"].self_test
    assert PROTOCOLS["release"].processes * PROTOCOLS["release"].runs >= 662


def test_mlperf_makes_1024_queries_in_60_seconds_at_least_and_leaves_nothing_out():
    mlperf = PROTOCOLS["mlperf"]
    fast_window, fast, _ = timed(itertools.cycle([MS, 5 * MS]), mlperf)
    slow_window, slow, _ = timed(itertools.repeat(100 * MS), mlperf)

    assert sum(fast_window.samples.wall) * NANO >= 60
    assert (fast.withheld, fast.p90_seconds) == ("", pytest.approx(0.005))
    assert any("leaves nothing out: not stable" in note for note in fast.notes)
    assert slow.runs == 1024
    assert (fast_window.windows, slow_window.windows) == (1, 1)


def test_fewer_queries_than_mlperf_asks_for_are_no_mlperf_result():
    found = timed(itertools.repeat(10_000 * MS), PROTOCOLS["mlperf"])[1]

    assert found.withheld == "only 360 of 1024 runs fit into 3600 s"
    assert found.p90_seconds is None


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="relaese") as caught:
        protocol_of("relaese")
    assert "did you mean 'release'" in caught.value.fix


# The measurement itself


class Doubling(Session):
    """A session that doubles its input and remembers what it was given."""

    def __init__(self):
        self.seen = []
        self.placed = []
        self.inferred = []

    def run(self, inputs):
        self.seen.append(inputs)
        return {"y": inputs["args_0"] * 2}

    def ready(self, inputs):
        def infer():
            self.inferred.append(self.placed[-1])

        return Inference(infer, lambda: self.placed.append(int(inputs["args_0"][0, 0])))


@pytest.fixture
def doubling():
    sessions = []

    def open_doubling(subject):
        sessions.append(Doubling())
        return sessions[-1]

    RUNTIMES.register(Runtime("doubling", "doubling", Environment("doubling"), open_doubling))
    yield sessions
    RUNTIMES.unregister("doubling")


def test_an_artifact_is_timed_on_the_cases_it_can_run_under_its_own_names_and_dtypes(tmp_path, doubling):
    path = tmp_path / "inputs.npz"
    cases = {f"case-{i}/x": np.full((1, 4), i, "int64") for i in range(20)}
    np.savez(path, **{"batch-2/x": np.ones((2, 4))}, **cases)
    job = Timing(
        "doubling",
        Subject(SourceFile("artifact", "onnx", "", "", 0), threads=3),
        str(path),
        tuple(f"case-{i}" for i in range(20)),
        (Feed("x", "args_0", "int32"),),
        str(tmp_path / "samples.npy"),
        "quick",
    )

    found = measure(job)

    assert found.notes == ()
    assert np.load(found.samples).shape[1] >= LEAST_RUNS
    assert (np.load(found.samples) >= 0).all()
    assert found.inputs == ROTATION
    ((load, first),) = found.openings
    assert load >= 0
    assert first > 0
    (session,) = doubling
    assert {(*inputs, inputs["args_0"].dtype.name, inputs["args_0"].shape) for inputs in session.seen} == {
        ("args_0", "int32", (1, 4))
    }
    assert len(session.seen) == latency.WATCHED_RUNS, "memory is of runs, as an app makes them"
    assert session.inferred == session.placed, "each inference is of inputs that were put in place for it"
    assert session.placed[:ROTATION] == list(range(ROTATION))
    assert set(session.placed) == set(range(ROTATION))


def test_what_puts_inputs_in_place_is_not_in_the_times():
    machine = Machine(itertools.cycle([5 * MS, 2 * MS]))
    window = steady(lambda: machine.run() or machine.run, DEFAULT, machine.clocks)

    assert set(window.samples.wall) == set(window.samples.cpu) == {2 * MS}


def test_an_engine_that_infers_only_in_whole_runs_is_said_to(tmp_path, doubling, monkeypatch):
    monkeypatch.setattr(Doubling, "ready", Session.ready)
    path = tmp_path / "inputs.npz"
    np.savez(path, **{"case-0/x": np.ones((1, 4), "int32")})
    subject = Subject(SourceFile("artifact", "onnx", "", "", 0))
    feeds, samples = (Feed("x", "args_0", "int32"),), str(tmp_path / "samples.npy")

    found = measure(Timing("doubling", subject, str(path), ("case-0",), feeds, samples, "quick"))

    (note,) = found.notes
    assert note.startswith("times include inputs and outputs: the engine is called with its inputs")
    assert len(doubling[0].seen) > latency.WATCHED_RUNS


# Openings in processes of their own


def test_each_opening_is_in_a_process_where_nothing_was_opened_before():
    seen = []

    def once():
        seen.append(os.getpid())
        return float(len(seen)), float(os.getpid())

    found, reason = opened_apart(once, 4)

    assert reason == ""
    assert [load for load, _ in found] == [1.0] * 4
    assert len({pid for _, pid in found} - {float(os.getpid())}) == 4
    assert seen == []


def test_an_opening_that_dies_is_said_and_ends_the_openings():
    dies = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731

    assert opened_apart(dies, 4) == ([], "an opening in a process of its own was killed by SIGKILL")


def test_an_opening_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(openings, "ANSWER_SECONDS", 0.2)
    found, reason = opened_apart(lambda: time.sleep(60), 4)

    assert found == []
    assert "gave no answer within 0.2 s" in reason


def test_openings_end_when_they_take_too_long(monkeypatch):
    monkeypatch.setattr(openings, "ENOUGH_SECONDS", -1.0)

    assert opened_apart(lambda: (1.0, 1.0), 4) == ([], "no more openings fit into -1 s")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_a_process_is_pinned_while_it_is_timed_and_let_go_afterwards():
    before = os.sched_getaffinity(0)
    with pinned(1) as kept_on:
        assert os.sched_getaffinity(0) == set(kept_on)
        assert len(kept_on) == 1
    assert os.sched_getaffinity(0) == before
    with pinned(len(before) + 1) as kept_on:
        assert kept_on == ()
        assert os.sched_getaffinity(0) == before


def test_wall_and_cpu_time_are_of_the_same_runs():
    machine = Machine(itertools.repeat(4 * MS), busy=0.5)
    window = steady(lambda: machine.run, DEFAULT, machine.clocks)

    assert statistics.median(window.samples.wall) == 4 * MS
    assert statistics.median(window.samples.cpu) == 2 * MS


def test_an_engine_that_grows_faster_to_the_end_is_withheld():
    _, found, _ = timed(max(MS / 10, 100 * MS * 0.995**i) for i in itertools.count())

    assert found.withheld.startswith("not stable: ")
    assert found.median_seconds is None


def test_openings_that_fail_elsewhere_are_said_with_what_was_measured(tmp_path, doubling, monkeypatch):
    monkeypatch.setattr(latency, "openings", lambda once, count: ([], "an opening failed"))
    np.savez(tmp_path / "inputs.npz", **{f"case-{i}/args_0": np.full((1, 4), i, "float32") for i in range(8)})
    subject = Subject(SourceFile("artifact", "onnx", "", "", 0))
    names = tuple(f"case-{i}" for i in range(8))
    job = Timing("doubling", subject, str(tmp_path / "inputs.npz"), names, (), str(tmp_path / "samples.npy"))

    found = combined([measure(job)], 1, DEFAULT)

    assert "load and first inference are of fewer processes: an opening failed" in found.notes
    assert "load and first inference are of 1 fresh process(es)" in found.notes
