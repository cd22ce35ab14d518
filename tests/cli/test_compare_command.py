"""`python -m validators compare` and `--baseline`, as a user runs them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, save


@pytest.fixture
def compare(command):
    def run(*words: object):
        return command("compare", *words, module="validators")

    return run


def test_artifacts_of_different_formats_are_compared(compare, samples):
    ran = compare(samples / "digits.tflite", samples / "digits.onnx", "--seconds", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    (other,) = found["result"]["others"]
    assert (found["result"]["first"]["format"], other["artifact"]["format"]) == ("tflite", "onnx")
    assert other["verdict"] in ("faster", "slower", "same", "cannot tell")
    for clock in ("cpu", "wall"):
        assert 0 < other[clock]["low"] <= other[clock]["ratio"] <= other[clock]["high"]
    assert (other["blocks"], found["result"]["clock"], found["result"]["where"]) == (5, "cpu", "host")
    assert "block 5: building all sessions again" in ran.stderr


def test_what_cannot_be_compared_is_refused(compare, samples, tmp_path, refused):
    digits = samples / "digits.tflite"
    refused(compare(), 2, "nothing to compare with")
    refused(compare(digits), 2, "nothing to compare with")
    refused(compare(digits, tmp_path / "nowhere.onnx"), 2, "nowhere.onnx")
    (tmp_path / "notes.txt").write_text("fast")
    refused(compare(digits, "notes.txt"), 2, "notes.txt", "no artifact edgeproof runs")
    (tmp_path / "torn.tflite").write_bytes(digits.read_bytes()[:2000])
    refused(compare(digits, "torn.tflite"), 2, "torn.tflite")
    refused(compare(digits, digits, "--max-regression", "5"), 2, "--max-regression 5", "5%")
    refused(compare(digits, digits, "--max-regression", "fast"), 2, "cannot read --max-regression 'fast'")
    refused(compare(digits, digits, "--fix", "height=3"), 2, "--fix height", "batch")
    refused(compare(digits, digits, "--threads", "0"), 2, "--threads 0")
    refused(compare(digits, digits, "--seconds", "0"), 2, "--seconds 0")
    np.savez(tmp_path / "other.npz", pixels=np.zeros((3, 8, 8, 1), "float32"))
    refused(compare(digits, digits, "--inputs", "other.npz"), 2, "'pixels'")


def test_artifacts_with_other_inputs_are_refused(compare, samples, tmp_path, refused):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 7]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Abs", ["image"], ["logits"])], "graph", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "other.onnx")
    refused(compare(samples / "digits.onnx", "other.onnx"), 2, "other.onnx takes image:float32[1,7]", "the same inputs")


def test_a_missing_baseline_is_not_a_pass_and_what_was_made_replaces_nothing(command, samples, tmp_path):
    words = (samples / "digits.tflite", "--reference", samples / "digits.tflite", "--protocol", "quick", "--json")
    ran = command(*words, "--baseline", "gone.tflite", "--out", "proof", module="validators")
    assert ran.returncode == 1, ran.stderr
    (target,) = json.loads(ran.stdout)["targets"]
    assert (target["status"], target["regression"]["status"]) == ("NOT_RUN", "NOT_RUN")
    assert target["reason"] == "against the baseline: there is no baseline gone.tflite"
    ran = command(
        samples / "digits.onnx", *("--to", "onnx", "--baseline", "gone.onnx", "--protocol", "quick", "--out", "made")
    )
    assert ran.returncode == 1, ran.stderr
    assert "there is no baseline gone.onnx" in ran.stdout
    assert (tmp_path / "made" / "unproven" / "digits.onnx").is_file()
    assert not (tmp_path / "made" / "digits.onnx").exists()


def test_a_baseline_is_timed_again_beside_what_was_made(command, samples):
    ran = command(
        *(samples / "digits.onnx", "--to", "onnx", "--protocol", "quick", "--out", "made", "--json"),
        *("--baseline", samples / "digits.onnx", "--max-regression", "900%"),
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    (target,) = json.loads(ran.stdout)["targets"]
    held = target["regression"]
    assert (held["status"], held["max_regression"]) == ("PASS", 9.0)
    assert held["result"]["others"][0]["blocks"] >= 5
    assert target["latency"][0]["protocol"] == "quick"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-regression", "5%"), "--max-regression has no meaning"),
        (("--protocol", "fastest"), "'fastest'"),
        (("--threads", "none"), "cannot read --threads"),
    ],
)
def test_options_that_make_no_sense_are_refused(command, samples, refused, words, said):
    refused(command(samples / "digits.pt", "--to", "tflite", *words), 2, said)
    refused(
        command(samples / "digits.tflite", "--reference", samples / "digits.pt", *words, module="validators"), 2, said
    )


def test_a_baseline_of_another_format_is_refused(command, samples, refused):
    ran = command(samples / "digits.pt", "--to", "tflite", "--baseline", samples / "digits.onnx")
    refused(ran, 2, "is ONNX", "tflite")
