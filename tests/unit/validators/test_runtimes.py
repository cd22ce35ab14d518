"""The registry of engines, and running a model on every case of a file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from convert.errors import LoadError, UnknownName, UsageError
from convert.formats import FORMATS
from convert.sources import SOURCES
from convert.spec import SourceFile
from convert.worker import Environment
from validators import runtimes
from validators.ideals import IDEALS
from validators.runtimes import RUNTIMES, Execution, Feed, Runtime, Subject, execute, reference_for, runtime_for

# The registry


@pytest.mark.parametrize("kind", SOURCES.names())
def test_every_kind_of_source_has_a_reference_that_runs_where_it_is_loaded(kind):
    reference = reference_for(kind)

    assert SOURCES[kind].family.name in reference.families
    assert reference.environment.name == SOURCES[kind].environment.name


@pytest.mark.parametrize("form", FORMATS.names())
def test_every_format_has_an_engine_that_runs_it(form):
    assert form in runtime_for(form).formats


def test_every_engine_runs_something_and_no_two_claim_the_same():
    families = [name for runtime in RUNTIMES for name in runtime.families]
    formats = [name for runtime in RUNTIMES for name in runtime.formats]

    ideals = {ideal.runtime for ideal in IDEALS}
    used = (runtime.families or runtime.formats or runtime.path_of or runtime.name in ideals for runtime in RUNTIMES)
    assert all(used)
    assert {runtime.path_of for runtime in RUNTIMES} - {""} <= set(formats)
    assert len(families) == len(set(families))
    assert len(formats) == len(set(formats))


def test_an_artifact_never_runs_in_the_process_of_a_reference():
    references = {runtime.environment.name for runtime in RUNTIMES if runtime.families}

    assert not references & {runtime.environment.name for runtime in RUNTIMES if runtime.formats}


@pytest.mark.parametrize("find", [reference_for, runtime_for])
def test_an_unknown_name_is_answered_with_the_known_ones(find):
    with pytest.raises(UnknownName) as caught:
        find("pytroch")

    assert "'pytroch'" in caught.value.message
    assert "onnx" in caught.value.fix


def test_a_second_engine_of_one_name_is_refused():
    with pytest.raises(ValueError, match="two runtimes are named 'torch'"):
        RUNTIMES.register(RUNTIMES["torch"])


# Running


class Session(runtimes.Session):
    """Adds one, through a buffer of its own; refuses what is larger than a hundred, and counts its runs."""

    def __init__(self):
        self.buffer = np.zeros(4, "float32")
        self.runs = 0

    def run(self, inputs):
        self.runs += 1
        ((name, x),) = inputs.items()
        if x.max() > 1000:
            raise UsageError("that is too large", fix="less")
        if x.max() > 100:
            raise RuntimeError("no kernel for this size\nsecond line")
        self.buffer[:] = x + 1
        return {"y": self.buffer, "runs": np.array(self.runs), "taken": np.array(f"{name}:{x.dtype}")}


@pytest.fixture
def engine():
    def open_engine(subject):
        if subject.file.path == "damaged":
            raise LoadError("cannot load damaged")
        return Session()

    RUNTIMES.register(Runtime("adding", "adding", Environment("adding"), open_engine))
    yield "adding"
    RUNTIMES.unregister("adding")


def job(engine, tmp_path, values, *, path="fine", only=(), feeds=()):
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, **{f"case-{i}/x": np.full(4, value, "float32") for i, value in enumerate(values)})
    return Execution(
        engine, Subject(SourceFile(path, "onnx", "", "", 0)), str(inputs), str(tmp_path / "out.npz"), only, feeds
    )


def test_every_case_is_run_and_the_first_one_twice(engine, tmp_path):
    outputs = execute(job(engine, tmp_path, [1, 2, 3]))

    assert outputs.cases == ("case-0", "case-1", "case-2")
    assert outputs.names == ("y", "runs", "taken")
    assert outputs.failures == ()
    with np.load(outputs.path) as stored:
        assert {key: stored[key].tolist() for key in stored.files if key.endswith("/runs")} == {
            "case-0/runs": 1,
            "case-1/runs": 2,
            "case-2/runs": 3,
            "repeat/runs": 4,
        }
        assert (stored["repeat/y"] == stored["case-0/y"]).all()


def test_an_answer_is_copied_out_of_the_buffer_the_engine_writes_to_again(engine, tmp_path):
    with np.load(execute(job(engine, tmp_path, [1, 2, 3])).path) as stored:
        assert [stored[f"case-{i}/y"][0] for i in range(3)] == [2, 3, 4]


def test_a_case_that_fails_is_told_and_the_others_run(engine, tmp_path):
    outputs = execute(job(engine, tmp_path, [1, 500, 3, 5000]))

    failures = dict(outputs.failures)
    assert failures.keys() == {"case-1", "case-3"}
    assert failures["case-1"].startswith("RuntimeError: no kernel for this size")
    assert failures["case-3"] == "that is too large"
    with np.load(outputs.path) as stored:
        assert {key for key in stored.files if key.endswith("/y")} == {"case-0/y", "case-2/y", "repeat/y"}


def test_a_model_that_fails_on_every_case_still_gives_a_result(engine, tmp_path):
    outputs = execute(job(engine, tmp_path, [500, 600]))

    assert {label for label, _ in outputs.failures} == {"case-0", "case-1", "repeat"}


def test_only_the_cases_that_were_asked_for_are_run(engine, tmp_path):
    outputs = execute(job(engine, tmp_path, [1, 2, 3], only=("case-1", "case-2")))

    assert outputs.cases == ("case-1", "case-2")
    with np.load(outputs.path) as stored:
        assert (stored["repeat/y"] == stored["case-1/y"]).all()


def test_inputs_are_fed_under_the_names_and_dtypes_the_model_takes(engine, tmp_path):
    with np.load(execute(job(engine, tmp_path, [1], feeds=(Feed("x", "args_0", "int32"),))).path) as stored:
        assert stored["case-0/taken"].tolist() == "args_0:int32"


def test_a_model_that_cannot_be_opened_is_an_error(engine, tmp_path):
    with pytest.raises(LoadError, match="cannot load damaged"):
        execute(job(engine, tmp_path, [1], path="damaged"))


class Breaks(Session):
    """Answers wrongly from the first input of another size on, as an engine may that keeps a buffer of the old one."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def run(self, inputs):
        self.sizes.add(inputs["x"].shape)
        return {"y": inputs["x"] + len(self.sizes)}


def test_the_first_case_comes_again_after_those_of_other_sizes(tmp_path):
    RUNTIMES.register(Runtime("breaking", "breaking", Environment("breaking"), lambda _: Breaks()))
    try:
        todo = job("breaking", tmp_path, [1, 2])
        np.savez(todo.inputs, **{"a/x": np.ones(4), "b/x": np.ones(4) * 2, "size-17/x": np.ones(17)})
        with np.load(execute(todo).path) as stored:
            assert stored["a/y"].tolist() == [2] * 4
            assert stored["repeat/y"].tolist() == [3] * 4, "so that parity sees what a resize left broken"
    finally:
        RUNTIMES.unregister("breaking")


class Sums(runtimes.Session):
    """A running sum, which reads what it starts from."""

    def __init__(self, start):
        self.total = start

    def run(self, inputs):
        self.total = self.total + inputs["x"]
        return {"y": self.total}


@pytest.mark.parametrize(("starts", "told"), [([0, 0], False), ([0, 1], True)], ids=["reset", "not reset"])
def test_steps_are_run_once_more_from_a_fresh_start(tmp_path, starts, told):
    left = iter(starts)
    RUNTIMES.register(Runtime("summing", "summing", Environment("summing"), lambda _: Sums(next(left))))
    try:
        outputs = execute(dataclasses.replace(job("summing", tmp_path, [1, 2, 3]), steps=True))
    finally:
        RUNTIMES.unregister("summing")

    with np.load(outputs.path) as stored:
        assert [float(stored[f"{label}/y"][0]) for label in ("case-0", "case-1", "case-2", "repeat")] == [1, 3, 6, 7]
    assert outputs.failures == ((("repeat", "opened afresh, y differs at step case-0"),) if told else ())
