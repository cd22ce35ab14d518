"""Reduced precisions from the command line: what is made, what is refused, what the report says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

IMAGES = (load_digits().images / 16).astype("float32")[:, None]


@pytest.fixture
def data(tmp_path):
    """Calibration data and test data, which share no row."""
    np.savez(tmp_path / "train.npz", image=IMAGES[:200])
    np.savez(tmp_path / "test.npz", image=IMAGES[1000:1100])
    return tmp_path


def test_every_precision_is_an_artifact_of_its_own_with_its_proof(command, samples, data):
    ran = command(
        samples / "digits.pt",
        *("--to", "tflite", "--precision", "fp32,fp16,int8", "--calibration", "train.npz", "--inputs", "test.npz"),
        *("--out", "o", "--json"),
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert [target["precision"] for target in report["targets"]] == ["fp32", "fp16", "int8"]
    for target, name in zip(
        report["targets"], ["digits.tflite", "digits.fp16.tflite", "digits.int8.tflite"], strict=True
    ):
        assert (data / "o" / name).is_file()
        assert target["artifact"]["precision"] == target["precision"]
    full, _, int8 = report["targets"]
    assert int8["beside"]["file_bytes"] == full["artifact"]["file_bytes"] > int8["artifact"]["file_bytes"]
    attempt = int8["attempts"][int8["kept"]]  # others may have been slower, or lost more
    assert attempt["quality"]["status"] == "PASS"
    assert 0.8 < attempt["parity"]["outputs"][0]["ratio"] < 1.25
    assert report["calibration"]["count"] == 200
    assert report["calibration"]["ranges"] == [{"name": "image", "low": 0.0, "high": 1.0}]


def test_a_search_finds_what_passes_and_its_recipe_repeats_it_to_the_byte(command, samples, data):
    words = (samples / "digits.pt", "--to", "tflite", "--precision", "int8", "--calibration", "train.npz", "--json")
    demanding = (*words, "--min-sqnr-db", "42")
    assert command(*demanding, "--search-seconds", "0", "--out", "none").returncode == 1
    ran = command(*demanding, "--out", "first")
    assert ran.returncode == 0, ran.stderr
    (target,) = json.loads(ran.stdout)["targets"]
    assert sum(point["kept"] for point in target["points"]) == 1
    assert any(point["front"] for point in target["points"])
    recipe = data / "first" / "digits.int8.tflite.recipe.json"
    again = command(*demanding, "--recipe", recipe, "--out", "again")
    assert again.returncode == 0, again.stderr
    (repeated,) = json.loads(again.stdout)["targets"]
    assert repeated["points"] == []
    assert repeated["artifact"]["sha256"] == target["artifact"]["sha256"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "tflite", "--precision", "int8"], "none is given"),
        (["--to", "savedmodel", "--precision", "fp16"], "for savedmodel there are: fp32"),
        (["--to", "tflite", "--precision", "int7"], "did you mean"),
        (["--to", "tflite", "--io", "int8"], "--io has no meaning for fp32"),
        (["--to", "tflite", "--calibration", "random"], "--calibration has no meaning for fp32"),
        (["--to", "tflite", "--precision", "fp16", "--io", "int8"], "cannot take and give int8"),
        (["--to", "tflite", "--precision", "fp16", "--recipe", "missing.json"], "cannot read the recipe"),
        (["--to", "tflite", "--precision", "fp16", "--search-seconds", "-1"], "is no time"),
        (["--to", "tflite", "--precision", "int8", "--calibration", "missing.npz"], "missing.npz"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused_with_a_fix(command, refused, samples, words, said):
    refused(command(samples / "digits.pt", *words, "--quiet"), 2, said)


def test_a_file_that_is_no_recipe_is_refused(command, refused, samples, tmp_path):
    (tmp_path / "r.json").write_text('{"format": 3}')
    refused(
        command(samples / "digits.pt", "--to", "tflite", "--precision", "fp16", "--recipe", "r.json"), 2, "is no recipe"
    )


def test_calibration_on_generated_data_is_marked_as_not_for_release(command, samples):
    ran = command(
        samples / "digits.pt",
        "--to",
        "tflite",
        "--precision",
        "int8",
        "--calibration",
        "random",
        "--search-seconds",
        "0",
    )
    assert "NOT FOR RELEASE" in ran.stdout, ran.stderr


def test_a_base_that_is_quantized_itself_is_refused(command, refused, samples, data):
    words = (samples / "digits.pt", "--to", "tflite", "--precision", "fp16", "--out", "o", "--quiet")
    assert command(*words).returncode == 0
    made = data / "o" / "digits.fp16.tflite"
    refused(
        command(made, "--reference", samples / "digits.pt", "--base", made, "--quiet", module="validators"),
        2,
        "is fp16 itself",
    )
