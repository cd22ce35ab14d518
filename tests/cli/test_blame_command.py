"""`python -m validators blame`: what it answers where there is nothing to blame, or it cannot be."""

from __future__ import annotations

import pytest


@pytest.fixture
def blame(command, samples):
    """Run the command on words, sample names filled in."""

    def run(*words):
        return command("blame", *(str(word).replace("SAMPLES", str(samples)) for word in words), module="validators")

    return run


@pytest.mark.parametrize(
    ("words", "said", "fix"),
    [
        (("nowhere.onnx", "--reference", "SAMPLES/digits.pt"), "there is no file nowhere.onnx", "check the path"),
        (("SAMPLES/digits.onnx", "--reference", "nowhere.pt"), "there is no file nowhere.pt", "check the path"),
        (("SAMPLES/digits.onnx",), "missing option '--reference'", "blame --help"),
        (("SAMPLES/digits.keras", "--reference", "SAMPLES/digits.pt"), "no artifact edgeproof runs", "ONNX"),
        (
            ("SAMPLES/digits.onnx", "--reference", "SAMPLES/digits.onnx", "--out", "SAMPLES"),
            "is not empty",
            "give a new folder",
        ),
        (
            ("SAMPLES/digits.onnx", "--reference", "SAMPLES/digits.onnx", "--base", "SAMPLES/digits.tflite"),
            "is TFLite",
            "give one of its format",
        ),
    ],
)
def test_what_cannot_be_honoured_is_said_with_a_fix(blame, words, said, fix):
    ran = blame(*words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr
    assert fix in ran.stderr.partition("fix: ")[2]


def test_a_right_artifact_has_nothing_to_blame_and_nothing_is_left_beside_it(blame, samples):
    before = sorted(samples.iterdir())
    ran = blame("SAMPLES/digits.onnx", "--reference", "SAMPLES/digits.onnx")
    assert ran.returncode == 0, ran.stderr
    assert "PASS" in ran.stdout
    assert "nothing is to blame" in ran.stdout
    assert sorted(samples.iterdir()) == before
