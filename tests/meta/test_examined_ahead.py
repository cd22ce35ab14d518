"""An artifact that was run before its source answered: the same verdict, unless the source leaves other cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convert.spec import Artifact, Signature, sha256_of
from validators.examine import examine
from validators.prove import prove
from validators.verdict import Status


@pytest.fixture
def given(bench, artifact):
    path = artifact("onnx")
    return Artifact(str(path), "onnx", "fp32", Signature((), ()), sha256_of(path), path.stat().st_size)


@pytest.fixture
def stages(bench, monkeypatch):
    """The names of the stages that are run from here on."""
    names: list[str] = []
    run = bench.workers.run

    def told(stage, *others, **more):
        names.append(stage)
        return run(stage, *others, **more)

    monkeypatch.setattr(bench.workers, "run", told)
    return names


def test_the_verdict_is_that_of_an_artifact_which_waited_and_nothing_runs_twice(bench, given, stages):
    baseline = bench.baseline
    waited = prove(bench.workers, baseline, given, "waited")
    there = len(stages)

    examined = examine(bench.workers, baseline.signature, baseline.cases, given, "ahead", ahead=True)
    asked = stages[there:]
    proof = prove(bench.workers, baseline, given, "ahead", examined=examined)

    assert asked == [name.replace("waited", "ahead") for name in stages[:there]]
    assert stages[there:] == asked
    assert proof.parity == waited.parity
    assert proof.parity.status is Status.PASS
    assert proof.parity.paths
    assert [stage.stage for stage in proof.stages] == asked


@pytest.mark.parametrize(
    "left",
    [
        lambda cases: cases.without(cases.names[-1:], ["one is gone"]),
        lambda cases: dataclasses.replace(cases, spread=()),
        lambda cases: cases.sequence(),
    ],
    ids=["fewer", "no NaN", "steps"],
)
def test_it_runs_again_where_the_source_leaves_other_cases(bench, given, stages, left):
    baseline = bench.baseline
    examined = examine(bench.workers, baseline.signature, baseline.cases, given, "left", ahead=True)
    cases = left(baseline.cases)
    stages.clear()

    proof = prove(bench.workers, dataclasses.replace(baseline, cases=cases), given, "left", examined=examined)

    assert stages[0] == "run-left"
    assert proof.ran is not None
    assert proof.ran.cases == (*cases.names, *(case for case, _ in cases.spread))
    assert proof.ran.cases != examined.ran.cases
    assert [stage.stage for stage in proof.stages] == ["inspect-left", *stages]


def test_runs_of_one_that_fails_which_nothing_judged_are_not_in_its_stages(bench, given, tmp_path):
    model = onnx.load(given.path)
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    wrong = dataclasses.replace(given, path=str(tmp_path / "wrong.onnx"))

    examined = examine(bench.workers, bench.baseline.signature, bench.baseline.cases, wrong, "wrong", ahead=True)
    proof = prove(bench.workers, bench.baseline, wrong, "wrong", examined=examined)

    assert proof.parity.status is Status.FAIL
    assert [run.path for run in examined.elsewhere] == ["onnxruntime_plain"]
    assert [path.name for path in proof.parity.paths] == ["onnxruntime_exact"]
    assert [stage.stage for stage in proof.stages] == ["inspect-wrong", "run-wrong", "run-wrong-onnxruntime_exact"]


def test_a_path_on_which_it_crashes_once_is_told_and_not_tried_again(bench, given, monkeypatch):
    from convert.errors import WorkerCrashed

    run, crashes = bench.workers.run, []

    def crashing(stage, *others, **more):
        if stage.endswith("onnxruntime_plain") and not crashes:
            crashes.append(stage)
            raise WorkerCrashed("the process was killed")
        return run(stage, *others, **more)

    monkeypatch.setattr(bench.workers, "run", crashing)
    examined = examine(bench.workers, bench.baseline.signature, bench.baseline.cases, given, "once", ahead=True)
    proof = prove(bench.workers, bench.baseline, given, "once", examined=examined)

    (path,) = proof.parity.paths
    assert path.status is Status.NOT_RUN
    assert "the process was killed" in path.reason


def test_one_that_cannot_be_read_is_told_as_such(bench, given, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    wrong = dataclasses.replace(given, path=str(broken))

    examined = examine(bench.workers, bench.baseline.signature, bench.baseline.cases, wrong, "broken", ahead=True)
    proof = prove(bench.workers, bench.baseline, wrong, "broken", examined=examined)

    assert proof.structure.status is Status.FAIL
    assert proof.parity.status is Status.NOT_RUN
    assert examined.ran is None


def test_one_that_ends_its_process_does_not_run(bench, given, monkeypatch):
    from convert.errors import WorkerCrashed

    run = bench.workers.run

    def crashing(stage, *others, **more):
        if stage.startswith("run-"):
            raise WorkerCrashed("the process was killed")
        return run(stage, *others, **more)

    monkeypatch.setattr(bench.workers, "run", crashing)
    examined = examine(bench.workers, bench.baseline.signature, bench.baseline.cases, given, "crash", ahead=True)
    proof = prove(bench.workers, bench.baseline, given, "crash", examined=examined)

    assert proof.parity.status is Status.FAIL
    assert "the process was killed" in proof.parity.reason
