"""Golden vectors: what is written for an app's own test, and how a device's answers to them are judged."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from sklearn.datasets import load_digits

IMAGES = (load_digits().images / 16).astype("float32")[:, None]


@pytest.fixture(scope="module")
def golden(samples, tmp_path_factory):
    """Golden vectors of the digits network in float and with int8 inputs and outputs, and the artifacts."""
    from convert import convert

    home = tmp_path_factory.mktemp("golden")
    np.savez(home / "train.npz", image=IMAGES[:200])
    report = convert(
        samples / "digits.pt",
        "tflite",
        out=home / "out",
        precision="fp32,int8",
        calibration=home / "train.npz",
        io="int8",
        threads=(),
        golden=home / "vectors",
    )
    assert report.exit_code == 0
    assert [target.golden for target in report.targets] == [
        str(home / "vectors" / name / "index.json") for name in ("tflite", "tflite-int8")
    ]
    return home


def device(home, label, answers):
    """Run an artifact on the raw vectors alone, as an app would, and write what it answers."""
    from ai_edge_litert.interpreter import Interpreter

    folder = home / "vectors" / label
    index = json.loads((folder / "index.json").read_text())
    interpreter = Interpreter(str(home / "out" / index["artifact"]))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers.mkdir()
    for step in index["steps"]:
        (vector,), (expected,) = step["inputs"], step["outputs"]
        image = np.fromfile(folder / vector["file"], np.dtype(vector["dtype"]).newbyteorder("<"))
        interpreter.resize_tensor_input(taken["index"], vector["shape"])
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], image.reshape(vector["shape"]).astype(vector["dtype"]))
        interpreter.invoke()
        name = expected["file"].rpartition("/")[2]
        found = interpreter.get_tensor(given["index"])
        assert str(found.dtype) == expected["dtype"]
        assert list(found.shape) == expected["shape"]
        found.astype(found.dtype.newbyteorder("<")).tofile(answers / name)
    return folder, answers


@pytest.mark.parametrize(("label", "dtype"), [("tflite", "float32"), ("tflite-int8", "int8")])
def test_the_answers_of_the_artifact_itself_pass(command, golden, tmp_path, label, dtype):
    folder, answers = device(golden, label, tmp_path / "answers")
    steps = json.loads((folder / "index.json").read_text())["steps"]
    assert {vector["dtype"] for step in steps for vector in (*step["inputs"], *step["outputs"])} == {dtype}
    assert len(steps) > 36
    ran = command("replay", folder, answers, module="validators")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "PASS" in ran.stdout
    verdict = json.loads(command("replay", folder, answers, "--json", module="validators").stdout)
    assert 0.8 < verdict["outputs"][0]["ratio"] < 1.25


def test_what_the_index_says_an_output_may_differ_by_is_more_than_the_artifact_errs(golden, tmp_path):
    folder, answers = device(golden, "tflite", tmp_path / "answers")
    for step in json.loads((folder / "index.json").read_text())["steps"]:
        for vector in step["outputs"]:
            want = np.fromfile(folder / vector["file"], "<f4")
            have = np.fromfile(answers / vector["file"].rpartition("/")[2], "<f4")
            assert np.sqrt(np.mean(np.square(have - want))) < vector["rmse_limit"] < 1e-3 * np.abs(want).max()


@pytest.fixture
def answers(golden, tmp_path):
    """The source's own answers, which are right, as a device's."""
    shutil.copytree(golden / "vectors" / "tflite" / "expected", tmp_path / "answers")
    return tmp_path / "answers"


def test_right_answers_in_one_npz_pass(command, golden, answers, tmp_path):
    arrays = {
        "/".join(path.stem.split(".")): np.fromfile(path, "<f4").reshape(-1, 10) for path in answers.glob("*.bin")
    }
    np.savez(tmp_path / "answers.npz", **arrays)
    ran = command("replay", golden / "vectors" / "tflite", "answers.npz", module="validators")
    assert (ran.returncode, ran.stderr) == (0, "")


def scaled(path):
    (np.fromfile(path, "<f4") * np.float32(1.001)).tofile(path)


def reversed_order(path):
    np.fromfile(path, "<f4").reshape(-1, 10)[:, ::-1].copy().tofile(path)


def swapped_bytes(path):
    np.fromfile(path, "<f4").astype(">f4").tofile(path)


def not_numbers(path):
    np.full(np.fromfile(path, "<f4").shape, np.nan, "<f4").tofile(path)


@pytest.mark.parametrize(
    ("change", "files", "said"),
    [
        (scaled, "*.bin", "errs"),
        (reversed_order, "*.bin", "errs"),
        (reversed_order, "normal-3.logits.bin", "normal-3"),
        (swapped_bytes, "*.bin", "FAIL"),
        (not_numbers, "zeros-0.logits.bin", "NaN in other places"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-4]),
            "batch-3.logits.bin",
            "has 116 bytes, and float32[3, 10]",
        ),
        (lambda path: path.unlink(), "sparse-2.logits.bin", "are missing, such as sparse-2/logits"),
        (scaled, "repeat.logits.bin", "differs when the artifact is run again"),
    ],
)
def test_wrong_answers_fail_and_say_where(command, golden, answers, change, files, said):
    for path in answers.glob(files):
        change(path)
    ran = command("replay", golden / "vectors" / "tflite", answers, module="validators")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert said in ran.stdout


def test_the_folder_of_all_is_enough_where_it_holds_one_artifact(command, golden, answers, tmp_path, refused):
    ran = command("replay", golden / "vectors", answers, module="validators")
    refused(ran, 2, "several artifacts", "tflite-int8")
    shutil.copytree(golden / "vectors" / "tflite", tmp_path / "all" / "tflite")
    assert command("replay", "all", answers, module="validators").returncode == 0


def test_what_is_no_golden_folder_or_no_answer_is_refused(command, golden, answers, tmp_path, refused):
    vectors = golden / "vectors" / "tflite"
    refused(command("replay", tmp_path / "nowhere", answers, module="validators"), 2, "no golden vectors")
    refused(command("replay", vectors, tmp_path / "nowhere", module="validators"), 2, "no answers")
    (tmp_path / "empty").mkdir()
    refused(command("replay", vectors, "empty", module="validators"), 2, "none of the")
    (tmp_path / "text.npz").write_text("no archive")
    refused(command("replay", vectors, "text.npz", module="validators"), 2, "cannot read")
    shutil.copytree(vectors, tmp_path / "torn")
    (tmp_path / "torn" / "index.json").write_text("{")
    refused(command("replay", "torn", answers, module="validators"), 2, "cannot be read")
    shutil.copyfile(vectors / "index.json", tmp_path / "torn" / "index.json")
    (tmp_path / "torn" / "oracle.npz").unlink()
    refused(command("replay", "torn", answers, module="validators"), 2, "incomplete", "oracle.npz")


def test_a_folder_of_something_else_is_never_replaced(command, samples, tmp_path, refused):
    (tmp_path / "mine" / "onnx").mkdir(parents=True)
    (tmp_path / "mine" / "onnx" / "notes.txt").write_text("keep me")
    ran = command(samples / "digits.pt", "--to", "onnx", "--golden", "mine", "--quiet")
    refused(ran, 2, "something else than golden vectors")
    assert (tmp_path / "mine" / "onnx" / "notes.txt").read_text() == "keep me"


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_made(command, samples, tmp_path, refused):
    (tmp_path / "file").write_text("keep me")
    ran = command(samples / "digits.pt", "--to", "onnx", "--golden", "file", "--quiet")
    refused(ran, 2, "cannot write golden vectors")
    assert (tmp_path / "file").read_text() == "keep me"


def test_an_artifact_of_somebody_else_gets_golden_vectors_too(command, golden, samples, tmp_path):
    made = golden / "out" / "digits.tflite"
    words = (made, "--reference", samples / "digits.pt", "--golden", "vectors", "--out", "proof", "--quiet")
    for _ in range(2):  # a second run replaces the first one's
        ran = command(*words, module="validators")
        assert ran.returncode == 0, ran.stderr
    ran = command("replay", "vectors", tmp_path / "vectors" / "expected", module="validators")
    assert ran.returncode == 0
