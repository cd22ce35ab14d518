"""Real artifacts on other kernels than those that prove them: named in the verdict, and wrong ones caught."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from validators import paths
from validators.examine import run_artifact
from validators.runtimes import RUNTIMES
from validators.verdict import Status


@pytest.mark.parametrize(
    ("form", "titles"),
    [
        ("tflite", ["LiteRT's built-in kernels", "LiteRT's reference kernels"]),
        ("onnx", ["ONNX Runtime without graph optimisations"]),
        ("torchscript", [f"TorchScript's {word} call" for word in ("first", "second", "third")]),
    ],
)
def test_a_right_artifact_is_judged_on_every_path_of_its_format(bench, artifact, form, titles):
    verdict = bench.prove(artifact(form)).parity

    assert verdict.status is Status.PASS
    assert [path.title for path in verdict.paths] == titles
    for path in verdict.paths:
        assert path.status is Status.PASS
        assert path.cases >= 2
        assert [output.name for output in path.outputs] == ["digit", "parity"]


def test_kernels_that_compute_something_else_fail_the_artifact(bench, artifact, monkeypatch):
    """The plain path is given a copy with one weight changed, as if its kernels were wrong."""
    right = artifact("onnx")
    model = onnx.load(right)
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    wrong = right.parent / "wrong_on_one_path.onnx"
    onnx.save(model, wrong)

    def run(workers, cases, runtime, given, *others, **more):
        if runtime.name == "onnxruntime_plain":
            given = dataclasses.replace(given, path=str(wrong))
        return run_artifact(workers, cases, runtime, given, *others, **more)

    monkeypatch.setattr("validators.examine.run_artifact", run)
    try:
        verdict = bench.prove(right).parity
    finally:
        wrong.unlink()

    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("on ONNX Runtime without graph optimisations: ")
    assert "times what its source does" in verdict.reason


def test_a_path_that_takes_too_long_is_cut_short_and_judged_on_what_it_ran(bench, artifact, monkeypatch):
    monkeypatch.setattr(paths, "SECONDS", 1e-9)

    verdict = bench.prove(artifact("tflite")).parity

    assert verdict.status is Status.PASS
    assert [path.cases for path in verdict.paths] == [2, 2]


def test_every_path_can_be_opened_by_its_name():
    assert {"litert_builtin", "litert_reference", "onnxruntime_plain", "onnxruntime_exact"} <= set(RUNTIMES.names())


def test_a_quantized_artifact_is_held_against_its_own_proven_run_there(samples, tmp_path, monkeypatch):
    """One or two rows are too few for the ideal: both err by luck, and alike."""
    from convert import convert

    monkeypatch.setattr(paths, "SECONDS", 1e-9)
    report = convert(
        samples / "digits.pt",
        to="onnx",
        precision="int8",
        calibration=samples / "digits_nchw_inputs.npz",
        search_seconds=0,
        out=tmp_path / "out",
        threads=(),
        timeout_seconds=300,
    )

    (target,) = report.targets
    (path,) = target.attempts[target.kept].parity.paths
    assert (path.status, path.cases) == (Status.PASS, 2)
    assert path.outputs[0].ratio == pytest.approx(1, abs=0.05)
