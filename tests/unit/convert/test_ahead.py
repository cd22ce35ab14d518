"""What is done while a source loads and runs: converters' processes load it too, and artifacts are run already."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from convert import building, pipeline
from convert.plan import Wish
from convert.sources import SOURCES, Loading
from convert.spec import LoadOptions, Request, SourceFile
from validators.report import Attempt, Stage


class Started:
    """Notes which processes are started, and what is done in them ahead."""

    def __init__(self):
        self.warmed, self.loading = [], []

    def warm(self, environment):
        self.warmed.append(environment.name)

    def ahead(self, stage, call, argument, environment):
        assert call.__name__ == "describe"
        assert stage == f"load-{environment.name}"
        self.loading.append(environment.name)


@pytest.fixture
def started(monkeypatch):
    def on(cores, kind, *targets, via=""):
        monkeypatch.setattr(pipeline, "parallel", lambda count: max(1, min(count, cores)))
        made = Started()
        job = Loading(SourceFile("model", kind, "", "", 0), LoadOptions())
        pipeline.warm(made, Request(model="model", targets=targets, via=via), Wish(kind), targets, job)
        return made

    return on


@pytest.fixture
def keras_converter(monkeypatch):
    """The process that Keras models are converted in, where there are two cores."""
    from convert.routes import ROUTES

    return ROUTES["tf2onnx"].environment.name


def test_a_converter_of_another_process_loads_the_source_meanwhile(started):
    found = started(2, "torch_pickle", "onnx")
    assert found.warmed == ["torch", "torch-onnx"]
    assert found.loading == ["torch-onnx"]


def test_without_a_second_core_only_the_source_is_loaded(started):
    found = started(1, "torch_pickle", "onnx")
    assert found.warmed == ["torch", "torch-onnx"]
    assert not found.loading


def test_as_many_load_as_there_are_cores_for(started):
    assert started(2, "torch_pickle", "onnx", "tflite").loading == ["torch-onnx"]
    assert started(3, "torch_pickle", "onnx", "tflite").loading == ["torch-onnx", "litert-torch"]


def test_a_converter_that_reads_the_file_itself_loads_nothing(started):
    assert not started(4, "onnx", "tflite", via="onnx2tf").loading


def test_what_converts_in_the_sources_own_process_finds_it_loaded_there(started):
    assert not started(4, "torch_pickle", "torchscript").loading


def test_a_keras_model_is_loaded_once_for_all_its_formats(started, keras_converter):
    own = SOURCES["keras"].environment.name
    expected = [] if keras_converter == own else [keras_converter]
    assert started(4, "keras", "onnx", "tflite").loading == expected


@pytest.mark.parametrize("answered", [False, True])
def test_an_artifact_is_run_while_its_source_still_runs_and_not_twice_where_it_has(monkeypatch, answered):
    baseline, done = Future(), []
    if answered:
        baseline.set_result("answers")

    def examine(*_, ahead, **more):
        done.append(("examined", ahead, more))
        baseline.set_result("answers")
        return "seen"

    def prove(_, answers, *__, **more):
        done.append((answers, more))
        return SimpleNamespace(attempt=lambda *_: Attempt("plan", "title", Stage.DONE, "right"))

    monkeypatch.setattr(building, "convert", lambda *_: "artifact")
    monkeypatch.setattr(building, "examine", examine)
    monkeypatch.setattr(building, "prove", prove)
    current = SimpleNamespace(
        workers=None, facts=SimpleNamespace(signature=None), request=SimpleNamespace(allow=("flex",))
    )

    building.try_candidate(current, SimpleNamespace(name="plan", title="title"), "onnx", "cases", baseline)

    if answered:
        assert done == [("answers", {"allow": ("flex",)})]
    else:
        assert done == [("examined", True, {"allow": ("flex",)}), ("answers", {"examined": "seen"})]
