"""An artifact that was run before its source answered: the same verdict, unless the source leaves other cases."""

from __future__ import annotations

import dataclasses

import pytest

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


def test_it_runs_again_where_the_source_leaves_other_cases(bench, given, stages):
    baseline = bench.baseline
    examined = examine(bench.workers, baseline.signature, baseline.cases, given, "fewer", ahead=True)
    last = baseline.cases.names[-1]
    fewer = dataclasses.replace(baseline, cases=baseline.cases.without([last], ["one is gone"]))
    stages.clear()

    proof = prove(bench.workers, fewer, given, "fewer", examined=examined)

    assert stages == ["run-fewer", "run-fewer-onnxruntime_plain"]
    assert proof.parity.status is Status.PASS
    assert proof.ran is not None
    assert last not in proof.ran.cases
    assert last in examined.ran.cases
    assert [stage.stage for stage in proof.stages] == ["inspect-fewer", *stages]


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
