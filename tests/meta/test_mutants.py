"""The self-test on real artifacts: faults are really planted, caught by the gate, and named where a gate is blind."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from convert import convert
from convert.spec import sha256_of
from validators import mutants
from validators.prove import Proof
from validators.self_test import SelfTest, self_test
from validators.verdict import Status, Verdict

HERE = Path(__file__).parent
FORMATS = ("tflite", "onnx", "torchscript")


def self_tested(folder: Path, precision: str) -> dict[str, SelfTest]:
    """Convert a network with a LayerNorm to every format, and put each artifact to the self-test."""
    subprocess.run([sys.executable, "-W", "ignore", HERE / "normalised_net.py", folder], check=True, timeout=120)
    report = convert(
        folder / "normalised.pt",
        to=FORMATS,
        precision=precision,
        calibration="" if precision == "fp32" else folder / "images.npz",
        threads=(),
        out=folder / "out",
        search_seconds=0,
        self_test=True,
    )
    assert report.exit_code == 0
    for target in report.targets:
        assert sha256_of(Path(target.artifact.path)) == target.artifact.sha256, "the artifact itself is only read"
    assert "--self-test" in report.command
    return {target.target: target.self_test for target in report.targets}


@pytest.fixture(scope="module")
def tested(tmp_path_factory) -> dict[str, SelfTest]:
    return self_tested(tmp_path_factory.mktemp("self-tested"), "fp32")


@pytest.mark.parametrize("form", FORMATS)
def test_every_kind_of_fault_in_a_float_artifact_is_planted_and_caught(tested, form):
    found = tested[form]
    assert found.absent == ()
    assert {mutant.kind for mutant in found.mutants} == set(mutants.KINDS)
    assert found.survivors == ()
    assert [mutant for mutant in found.mutants if not mutant.counts] == []
    assert found.caught >= 10
    (axes,) = [mutant for mutant in found.mutants if mutant.kind == mutants.AXES]
    assert "scores" in axes.reason, "the contract is what catches it"


@pytest.mark.slow
def test_faults_are_planted_in_int8_artifacts_too(tmp_path):
    for found in self_tested(tmp_path, "int8").values():
        kinds = {mutant.kind for mutant in found.mutants}
        assert kinds >= {mutants.SCALED, mutants.UNBIASED, mutants.SWAPPED, mutants.AXES}
        assert [mutant for mutant in found.mutants if not mutant.planted] == []
        assert [mutant for mutant in found.survivors if mutant.kind == mutants.SWAPPED] == []
        assert found.caught >= len(found.mutants) / 2


@pytest.mark.parametrize("form", FORMATS)
def test_a_blind_gate_is_shown_up(bench, artifact, tmp_path, form):
    """Every mutant survives a gate that passes whatever it is given, and the self-test names each."""
    path = artifact(form)
    proof = bench.prove(path)

    def blind(mutant, label) -> Proof:
        judged = bench.prove(Path(mutant.path))
        return dataclasses.replace(judged, structure=Verdict(Status.PASS, ""), parity=Verdict(Status.PASS, ""))

    made = dataclasses.replace(
        _as_artifact(path, form), path=str(path), sha256=sha256_of(path), file_bytes=path.stat().st_size
    )
    found = self_test(bench.workers, made, proof, blind, f"blind-{form}", 0, lambda _: None)
    assert found.caught == 0
    assert len(found.survivors) >= 8


@pytest.mark.parametrize("scale", [1.01, 1.001])
def test_weights_are_scaled_by_as_much_as_is_asked(bench, artifact, tmp_path, scale):
    import onnx
    from onnx import numpy_helper

    path, out = artifact("onnx"), tmp_path / "scaled.onnx"
    environment = mutants.MUTATORS["onnx"].environment
    spots = bench.workers.run(f"spots-{scale}", mutants.places, mutants.Listing("onnx", str(path)), environment).value
    number = next(number for number, spot in enumerate(spots) if spot.kind == mutants.SCALED)
    job = mutants.Planting("onnx", str(path), number, str(out), scale)
    bench.workers.run(f"plant-{scale}", mutants.plant, job, environment)
    before, after = (
        next(numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer if t.name == spots[number].where)
        for file in (path, out)
    )
    assert after == pytest.approx(before * scale, rel=1e-6)
    assert (after != before).any()


def _as_artifact(path: Path, form: str):
    from convert.spec import Artifact, Signature

    return Artifact(str(path), form, "fp32", Signature((), ()), "", 0)


def test_a_format_that_is_not_broken_says_so(bench, artifact):
    made = dataclasses.replace(_as_artifact(artifact("onnx"), "savedmodel"))
    found = self_test(bench.workers, made, bench.prove(artifact("onnx")), lambda *_: None, "none", 0, lambda _: None)
    assert found.mutants == ()
    assert "onnx, tflite, torchscript" in found.reason
