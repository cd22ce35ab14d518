"""Comparisons: who sits in which process and meets whom, when it is decided, and what is refused."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from convert.errors import LoadError, UsageError
from convert.spec import Artifact, Scale, Signature, TensorSpec
from convert.worker import Environment
from validators import contest as contests
from validators import regression, versus
from validators.contest import Took
from validators.entrants import Entrant, cases_for, feeds_of
from validators.pairs import CANNOT_TELL, FASTER, SAME, SLOWER
from validators.regression import applies, check_baseline, regress
from validators.runtimes import RUNTIMES, Runtime
from validators.verdict import Status
from validators.versus import LOOKS, contest

IMAGE = TensorSpec("image", "float32", ("batch", 1, 8, 8), layout="nchw")
SCORES = TensorSpec("scores", "float32", ("batch", 10))


def artifact(path, *inputs, runtime="one", precision="fp32"):
    return Entrant(path, runtime, precision, "", 0, runtime, Signature(inputs or (IMAGE,), (SCORES,)), runtime)


class Machine:
    """Engines whose artifacts take the milliseconds that their names begin with, in processes that are told of."""

    def __init__(self, monkeypatch, tmp_path, noise=0.0):
        self.folder = tmp_path
        self.opened = Counter()
        self.started = Counter()
        self.retired = Counter()
        self.seats = {}
        self._open = {}
        self._chance = random.Random(0)
        self._noise = noise
        monkeypatch.setattr(contests, "WARM_UP_SECONDS", 0.0)
        monkeypatch.setattr(contests, "timer", lambda rotation: rotation[0])

    def open(self, subject):
        self.opened[subject.file.path] += 1
        seconds = float(subject.file.path.split()[0]) * 1e-3

        def turn(count, start):
            cpu = seconds * (1 + self._chance.uniform(-1, 1) * self._noise)
            return Took(cpu * self._chance.choice((1, 3)), cpu)

        return SimpleNamespace(ready=lambda inputs: turn)

    # What the comparison takes for its workers: every environment is a process of its own.

    def warm(self, environment):
        assert environment.name not in self._open, "a process of the block before was kept"
        self.started[environment.name] += 1
        self._open[environment.name] = {}

    def run(self, stage, call, job, environment):
        contests._OPEN.clear()
        contests._OPEN.update(self._open[environment.name])
        value = call(job)
        self._open[environment.name] = dict(contests._OPEN)
        self.seats[environment.name] = set(contests._OPEN)
        return SimpleNamespace(value=value)

    def retire(self, environment):
        self.retired[environment.name] += 1
        del self._open[environment.name]

    def retire_all(self):
        pass

    def require_open(self):
        pass


@pytest.fixture
def machine(monkeypatch, tmp_path):
    made = Machine(monkeypatch, tmp_path)
    for name in ("one", "two"):
        RUNTIMES.register(Runtime(name, name, Environment(name), made.open, formats=(name,)))
    yield made
    for name in ("one", "two"):
        RUNTIMES.unregister(name)


@pytest.mark.parametrize("runtime", ["one", "two"])
@pytest.mark.parametrize(("other", "said"), [("10", SAME), ("11", SLOWER), ("9", FASTER)])
def test_an_artifact_is_judged_against_the_first_by_its_cpu_time(machine, runtime, other, said):
    result = contest(machine, [artifact("10 ms"), artifact(f"{other} ms again", runtime=runtime)])

    (one,) = result.others
    assert one.verdict == said
    assert (result.clock, result.threads) == ("cpu", 1)
    assert one.cpu.ratio == pytest.approx(int(other) / 10)
    assert result.first_seconds == pytest.approx(0.010)
    assert (one.blocks, one.detectable) == (LOOKS[0], pytest.approx(0.0, abs=1e-9))


def test_every_block_opens_all_artifacts_again_in_fresh_processes(machine):
    contest(machine, [artifact("10 ms"), artifact("11 ms")])

    assert machine.opened == {"10 ms": 2 * LOOKS[0], "11 ms": LOOKS[0]}, "the first one and its double"
    assert machine.started == machine.retired == {"contest-one-0": LOOKS[0]}


def test_engines_never_share_a_process_and_the_double_has_one_of_its_own(machine):
    contest(machine, [artifact("10 ms"), artifact("11 ms", runtime="two")])

    assert machine.seats == {"contest-one-0": {0}, "contest-two-1": {1}, "contest-one-2": {2}}


def test_each_artifact_is_held_against_the_double_that_sits_as_it_does(machine):
    result = contest(machine, [artifact("10 ms"), artifact("11 ms"), artifact("12 ms", runtime="two")])

    assert [one.verdict for one in result.others] == [SLOWER, SLOWER]
    assert [one.artifact.path for one in result.others] == ["11 ms", "12 ms"]
    assert machine.seats == {"contest-one-0": {0, 1, 4}, "contest-two-1": {2}, "contest-one-2": {3}}


def test_a_noisy_machine_is_asked_again_and_says_that_it_cannot_tell(machine):
    machine._noise = 0.5
    result = contest(machine, [artifact("10 ms"), artifact("10.1 ms")])

    assert result.others[0].verdict == CANNOT_TELL
    assert result.others[0].blocks == LOOKS[-1]


def test_no_block_begins_after_the_time_is_up(machine):
    machine._noise = 0.5
    result = contest(machine, [artifact("10 ms"), artifact("10.1 ms")], seconds=1e-9)

    assert result.others[0].blocks == 5


def test_wall_time_decides_at_several_threads(machine):
    result = contest(machine, [artifact("10 ms"), artifact("11 ms")], threads=2)

    assert result.clock == "wall"
    assert result.others[0].decided("wall") == result.others[0].wall != result.others[0].cpu


def test_processes_end_where_an_artifact_cannot_be_opened(machine, monkeypatch):
    def refuse(subject):
        raise LoadError("broken")

    RUNTIMES.unregister("two")
    RUNTIMES.register(Runtime("two", "two", Environment("two"), refuse, formats=("two",)))
    with pytest.raises(LoadError, match="broken"):
        contest(machine, [artifact("10 ms"), artifact("11 ms", runtime="two")])

    assert machine.started == machine.retired


# What they take


def test_inputs_are_at_least_eight_distinct_ones_of_the_first_artifact():
    cases = cases_for([artifact("a")], {}, None, 0)

    assert len({case.arrays["image"].tobytes() for case in cases}) == 8
    assert {case.arrays["image"].shape for case in cases} == {(1, 1, 8, 8)}


def test_a_free_dimension_has_the_size_that_another_artifact_fixes_or_that_is_stated():
    fixed = artifact("b", TensorSpec("image", "float32", (4, 1, 8, 8), layout="nchw"))

    assert cases_for([artifact("a"), fixed], {}, None, 0)[0].arrays["image"].shape == (4, 1, 8, 8)
    assert cases_for([artifact("a")], {"batch": 3}, None, 0)[0].arrays["image"].shape == (3, 1, 8, 8)


def test_a_dimension_that_is_not_free_is_not_fixed():
    with pytest.raises(UsageError, match="--fix height: the free dimensions of a are: batch"):
        cases_for([artifact("a")], {"height": 3}, None, 0)


def test_the_users_rows_are_used_where_there_are_some():
    rows = {"image": np.ones((3, 1, 8, 8), "float32")}

    assert [case.name for case in cases_for([artifact("a")], {}, rows, 0)] == ["user-0", "user-1", "user-2"]


@pytest.mark.parametrize(
    ("spec", "feed"),
    [
        (IMAGE, ("image", "float32", (), None)),
        (TensorSpec("x:0", "float32", (1, 1, 8, 8)), ("x:0", "float32", (), None)),
        (TensorSpec("image", "float32", (1, 8, 8, 1), layout="nhwc"), ("image", "float32", (0, 2, 3, 1), None)),
        (TensorSpec("image", "float32", (1, 8, 8, 1)), ("image", "float32", (0, 2, 3, 1), None)),
        (
            TensorSpec("image", "int8", (1, 1, 8, 8), quantized=Scale(0.1, 3)),
            ("image", "int8", (), Scale(0.1, 3)),
        ),
    ],
)
def test_another_artifact_takes_the_same_numbers_in_its_own_way(spec, feed):
    first, other = artifact("a"), artifact("b", spec)
    (found,) = feeds_of(first, other, cases_for([first, other], {}, None, 0)[0])

    assert (found.takes, found.dtype, found.axes, found.scale) == feed


def test_inputs_of_the_same_names_are_fed_in_the_order_of_the_artifact():
    ids, mask = (TensorSpec(name, "int64", ("batch", 16), 0, 9) for name in ("ids", "mask"))
    narrow = TensorSpec("mask", "int32", (1, 16))
    first, other = artifact("a", ids, mask), artifact("b", narrow, ids)

    found = feeds_of(first, other, cases_for([first, other], {}, None, 0)[0])

    assert [(one.name, one.takes, one.dtype) for one in found] == [("mask", "mask", "int32"), ("ids", "ids", "int64")]


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ((TensorSpec("image", "float32", (1, 3, 8, 8)),), r"b takes image:float32\[1,3,8,8\], and a image"),
        ((TensorSpec("image", "float32", (1, 64)),), "here with the shape"),
        ((TensorSpec("image", "int64", (1, 1, 8, 8)),), "b takes image:int64"),
        ((IMAGE, TensorSpec("more", "float32", (1,))), r"b takes 2 input\(s\)"),
    ],
)
def test_artifacts_that_take_other_inputs_are_refused(specs, said):
    first, other = artifact("a"), artifact("b", *specs)

    case = cases_for([first], {}, None, 0)[0]

    with pytest.raises(UsageError, match=said):
        feeds_of(first, other, case)


# Against a baseline


@pytest.fixture
def sides(machine, monkeypatch, tmp_path):
    """Two files of the first engine's format, that are what their contents say."""
    monkeypatch.setattr(
        regression, "entrant", lambda workers, path, label, user: artifact(path.read_text(), precision="fp32")
    )

    def hold(old, new, most=0.05, **options):
        for name, text in (("old", old), ("new", new)):
            (tmp_path / name).write_text(text)
        made = Artifact(str(tmp_path / "new"), "one", "fp32", Signature((), ()), "", 0)
        return regress(machine, str(tmp_path / "old"), made, most, "one", **options)

    return hold


@pytest.mark.parametrize(
    ("new", "status"), [("10 ms", Status.PASS), ("10.3 ms", Status.PASS), ("11 ms", Status.FAIL), ("5 ms", Status.PASS)]
)
def test_an_artifact_passes_where_it_is_not_slower_than_allowed(sides, new, status):
    found = sides("10 ms", new)

    assert found.status is status
    assert "95 % interval" in found.reason
    assert found.result.others[0].cpu.ratio == pytest.approx(float(new.split()[0]) / 10)


def test_what_cannot_be_told_does_not_pass(sides, machine):
    machine._noise = 0.5
    found = sides("10 ms", "10.5 ms")

    assert found.status is Status.NOT_RUN
    assert "cannot be told; the baseline differs from itself by" in found.reason


def test_a_missing_baseline_is_not_run_and_never_a_pass(machine, tmp_path):
    made = Artifact("10 ms", "one", "fp32", Signature((), ()), "", 0)
    found = regress(machine, str(tmp_path / "nowhere.tflite"), made, None, "one")

    assert found.status is Status.NOT_RUN
    assert found.reason == f"there is no baseline {tmp_path}/nowhere.tflite"
    assert found.max_regression == regression.MAX_REGRESSION


def test_a_baseline_that_does_not_run_is_not_run(sides, monkeypatch):
    def refuse(*_, **__):
        raise LoadError("it is torn")

    monkeypatch.setattr(regression, "contest", refuse)

    assert sides("10 ms", "10 ms").status is Status.NOT_RUN
    assert "it is torn" in sides("10 ms", "10 ms").reason


def test_a_baseline_of_another_precision_that_is_made_too_is_for_that_one(sides, monkeypatch):
    precisions = {"10 ms": "int8", "11 ms": "fp32"}
    monkeypatch.setattr(
        regression,
        "entrant",
        lambda workers, path, label, user: artifact(path.read_text(), precision=precisions[path.read_text()]),
    )

    assert sides("10 ms", "11 ms", made=("fp32", "int8")) is None
    assert sides("10 ms", "11 ms", made=("fp32",)).status is Status.FAIL


def test_a_missing_baseline_is_for_the_formats_of_its_suffix_or_for_all(tmp_path):
    assert [applies(tmp_path / "gone.tflite", form) for form in ("tflite", "onnx")] == [True, False]
    assert [applies(tmp_path / "gone", form) for form in ("tflite", "onnx")] == [True, True]


def test_a_limit_without_a_baseline_is_refused():
    with pytest.raises(UsageError, match="--max-regression has no meaning"):
        check_baseline("", 0.05, ("tflite",))
    check_baseline("", None, ("tflite",))
    check_baseline("gone.tflite", 0.05, ("tflite",))


def test_fewer_than_two_artifacts_are_nothing_to_compare():
    with pytest.raises(UsageError, match="nothing to compare with"):
        versus.compare(["one.tflite"])
