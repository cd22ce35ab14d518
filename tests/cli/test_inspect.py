"""`--inspect` says what a file is, what it takes, and where one can go from it; it converts nothing."""

from __future__ import annotations

import json
import shutil

import pytest

from convert.formats import FORMATS


def test_inspect_tells_a_person_what_a_model_is(command, samples, tmp_path):
    ran = command(samples / "digits.pt", "--inspect")
    assert ran.returncode == 0
    for words in (
        "TorchScript archive with a signature",
        "parameters: 6,154",
        "input: image:float32[batch,1,8,8]",
        "output: logits:float32[batch,10]",
        "torch-script",
    ):
        assert words in ran.stdout
    assert [name for name in FORMATS.names() if f"{name}: " not in ran.stdout] == []
    assert ran.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_inspect_tells_a_program_what_a_model_is_whatever_it_is_called(command, samples, tmp_path):
    shutil.copy(samples / "two_by_two.keras", tmp_path / "x.bin")
    ran = command("x.bin", "--inspect", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["source"]["kind"] == "keras"
    assert found["model"]["parameters"] > 1000
    signature = found["model"]["signature"]
    assert [(spec["name"], spec["shape"]) for spec in signature["inputs"]] == [
        ("left", ["batch", 8, 4, 1]),
        ("right", ["batch", 8, 4, 1]),
    ]
    assert [spec["name"] for spec in signature["outputs"]] == ["digit", "parity"]
    assert sorted(found["routes"]) == list(FORMATS.names())
    assert all(found["routes"].values())


def test_example_inputs_state_the_signature_of_a_file_that_has_none(command, samples, unsigned):
    ran = command(unsigned, "--inspect", "--inputs", samples / "digits_nchw_inputs.npz")
    assert ran.returncode == 0, ran.stderr
    assert "input: image:float32[batch,1,8,8]" in ran.stdout


@pytest.mark.parametrize(
    "words", [("--to", "onnx"), ("--out", "x"), ("--threads", "2"), ("--seed", "3")], ids=lambda words: words[0]
)
def test_an_option_that_inspect_would_ignore_is_refused_by_name(command, refused, samples, words):
    refused(command(samples / "digits.pt", "--inspect", *words), 2, "--inspect", words[0])


def test_inspect_honours_the_limits_of_its_stage(command, refused, samples):
    refused(command(samples / "digits.pt", "--inspect", "--timeout", "0.01"), 3, "did not finish within 0.01 s")
