"""Timing: what is measured on a clock that is told the time, what is withheld, and why."""

from __future__ import annotations

import itertools
import random
import statistics

import numpy as np
import pytest

from convert.spec import SourceFile
from convert.worker import Environment
from validators import latency
from validators.latency import LEAST_RUNS, WINDOW_RUNS, Measurement, Timing, instability, measure, steady, summarise
from validators.runtimes import RUNTIMES, Feed, Runtime, Subject

MS = 1e-3


class Clock:
    """A clock that only runs make go on; each run takes the next of `durations` seconds."""

    def __init__(self, durations):
        self.now = 100.0
        self.runs = 0
        self._durations = iter(durations)

    def __call__(self):
        return self.now

    def run(self):
        self.runs += 1
        self.now += next(self._durations)


def timed(durations):
    clock = Clock(durations)
    samples, withheld = steady(clock.run, clock)
    return samples, withheld, clock


def noisy(median, share, seed=0):
    rng = random.Random(seed)
    while True:
        yield median * (1 + share * rng.uniform(-1, 1))


# What is stable


def test_a_steady_engine_is_reported():
    samples, withheld, _ = timed(itertools.repeat(2 * MS))

    assert withheld == ""
    assert len(samples) >= WINDOW_RUNS
    assert sum(samples) >= latency.WINDOW_SECONDS
    assert samples == pytest.approx([2 * MS] * len(samples))


def test_a_steady_engine_with_some_noise_is_reported():
    assert timed(noisy(2 * MS, 0.1))[1] == ""


def test_every_sample_is_one_run():
    samples, _, _ = timed(noisy(2 * MS, 0.05))

    assert min(samples) >= 2 * MS * 0.94
    assert max(samples) <= 2 * MS * 1.06


def test_warm_up_is_not_among_the_samples():
    samples, withheld, clock = timed(itertools.chain([1.0, 0.5, 0.2], itertools.repeat(2 * MS)))

    assert withheld == ""
    assert max(samples) == pytest.approx(2 * MS)
    assert clock.runs > len(samples)


def test_a_fast_engine_is_warmed_up_by_time_and_a_slow_one_by_runs():
    fast, slow = timed(itertools.repeat(0.1 * MS)), timed(itertools.repeat(0.5))

    assert (fast[2].runs - len(fast[0])) * 0.1 * MS >= latency.WARM_UP_SECONDS * 0.99
    assert slow[2].runs - len(slow[0]) == latency.WARM_UP_RUNS


def test_a_burst_of_other_work_is_waited_for():
    burst = [2 * MS] * 150 + [9 * MS] * 150
    samples, withheld, _ = timed(itertools.chain(burst, itertools.repeat(2 * MS)))

    assert withheld == ""
    assert statistics.median(samples) == pytest.approx(2 * MS)
    assert sum(sample > 3 * MS for sample in samples) < len(samples) / 10


# What is withheld


def test_an_engine_that_grows_slower_is_withheld_as_drifting():
    _, withheld, _ = timed(MS * 1.005**i for i in itertools.count())

    assert "medians of quarters differ" in withheld
    assert "limit 10%" in withheld


def test_an_engine_of_two_speeds_is_withheld():
    rng = random.Random(0)

    assert timed(rng.choice([MS, 2 * MS]) for _ in itertools.count())[1].startswith("not stable: ")
    assert "the middle half spreads over 67% of the median" in instability([MS, 2 * MS] * 32)


def test_an_engine_of_two_speeds_in_phases_is_withheld_as_drifting():
    _, withheld, _ = timed(itertools.cycle([MS] * 100 + [2 * MS] * 100))

    assert "medians of quarters differ" in withheld


def test_an_engine_that_is_too_slow_for_a_steady_state_is_withheld():
    samples, withheld, _ = timed(itertools.repeat(3.0))

    assert len(samples) < LEAST_RUNS
    assert withheld == "only 4 runs fit into 10 s"


def test_an_engine_that_never_settles_does_not_take_forever():
    _, withheld, clock = timed(itertools.cycle([MS] * 40 + [3 * MS] * 40))

    assert withheld
    assert clock.now - 100 < latency.PATIENCE_SECONDS + 2


@pytest.mark.parametrize("count", range(LEAST_RUNS))
def test_fewer_runs_than_the_least_are_no_steady_state(count):
    assert instability([MS] * count) == f"only {count} runs fit into 10 s"


@pytest.mark.parametrize("count", range(LEAST_RUNS, 2 * LEAST_RUNS))
def test_as_few_equal_runs_as_the_least_are_a_steady_state(count):
    assert instability([MS] * count) == ""


def test_a_drift_back_and_forth_is_seen_too():
    assert "quarters" in instability([MS] * 20 + [1.3 * MS] * 20 + [MS] * 20 + [MS] * 20)


# What is said


def measurement(samples, withheld=""):
    return summarise(samples, withheld, threads=2, load=0.5, first=0.25, added=1 << 20)


def test_a_measurement_says_median_spread_and_what_it_was_told():
    found = measurement([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])

    assert (found.median_seconds, found.runs, found.threads) == (4.0, 7, 2)
    assert (found.load_seconds, found.first_seconds, found.peak_added_bytes) == (0.5, 0.25, 1 << 20)
    assert found.spread == (6.0 - 2.0) / 4.0


def test_a_90th_percentile_needs_64_runs():
    assert measurement([MS] * 63).p90_seconds is None
    assert measurement([MS] * 64).p90_seconds == pytest.approx(MS)


def test_the_90th_percentile_is_above_nine_tenths_of_the_runs():
    samples = [float(i) for i in range(100)]

    p90 = measurement(random.Random(0).sample(samples, 100)).p90_seconds

    assert sum(sample <= p90 for sample in samples) in (90, 91)


@pytest.mark.parametrize("count", [0, 1, 4, 63, 64, 200])
def test_what_is_withheld_is_left_out_with_its_reason(count):
    found = measurement([MS] * count, withheld="not stable")

    assert (found.median_seconds, found.p90_seconds, found.spread) == (None, None, None)
    assert (found.withheld, found.runs) == ("not stable", count)


# The measurement itself


class Doubling:
    """A session that doubles its input and remembers what it was given."""

    def __init__(self):
        self.seen = []

    def run(self, inputs):
        self.seen.append(inputs)
        return {"y": inputs["args_0"] * 2}


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
        only=tuple(f"case-{i}" for i in range(20)),
        feeds=(Feed("x", "args_0", "int32"),),
    )

    found = measure(job)

    assert isinstance(found, Measurement)
    assert found.threads == 3
    assert found.runs >= LEAST_RUNS
    assert found.load_seconds >= 0
    assert found.first_seconds > 0
    assert found.peak_added_bytes >= 0
    (session,) = doubling
    assert {(*inputs, inputs["args_0"].dtype.name, inputs["args_0"].shape) for inputs in session.seen} == {
        ("args_0", "int32", (1, 4))
    }
    assert len({int(inputs["args_0"][0, 0]) for inputs in session.seen}) == latency.ROTATION
