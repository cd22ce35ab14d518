"""Everything a new user gets wrong is answered with one error, a fix and the documented exit code."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

SAMPLES = Path(__file__).parents[2] / "samples"


def write(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def bad_files(folder: Path) -> None:
    """Write every file that is no model."""
    write(folder, "empty.pt", b"")
    write(folder, "text.pt", b"import torch\n")
    write(folder, "truncated.pt", (SAMPLES / "digits.pt").read_bytes()[:20_000])
    write(folder, "truncated.keras", (SAMPLES / "digits.keras").read_bytes()[:20_000])
    write(folder, "truncated.pt2", (SAMPLES / "digits.pt2").read_bytes()[:20_000])
    write(folder, "truncated.h5", (SAMPLES / "digits.h5").read_bytes()[:20_000])
    write(folder, "truncated.safetensors", (SAMPLES / "digits_weights.safetensors").read_bytes()[:20_000])
    write(folder, "stub.h5", (SAMPLES / "digits.h5").read_bytes()[:8])
    damaged = bytearray((SAMPLES / "digits_weights.pt").read_bytes())
    damaged[damaged.index(b"_rebuild_tensor_v2")] ^= 0xFF
    write(folder, "damaged.pt", damaged)
    (folder / "folder").mkdir()
    with zipfile.ZipFile(folder / "traversal.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("../../outside", "1")


FILES = {
    "nosuch.pt": "there is no file nosuch.pt",
    "empty.pt": "empty.pt is empty",
    "text.pt": "text.pt is text (it starts with 'import torch')",
    "truncated.pt": "truncated.pt starts like a zip archive",
    "truncated.keras": "truncated",
    "truncated.pt2": "truncated",
    "truncated.h5": "is an HDF5 file of 117,896 bytes of which only 20,000 are there",
    "truncated.safetensors": "truncated",
    "stub.h5": "HDF5",
    "damaged.pt": "damaged.pt",
    "folder": "folder is an empty folder",
    "traversal.keras": "outside",
    "a" * 300: "too long",
}


@pytest.mark.parametrize(("name", "said"), FILES.items(), ids=[name[:30] for name in FILES])
def test_a_file_that_is_no_model_is_refused_with_what_is_wrong(command, refused, tmp_path, name, said):
    bad_files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refused(command(name, "--to", "tflite"), 2, said)
    assert sorted(tmp_path.rglob("*")) == before, "nothing may be written for it"


OPTIONS = {
    "no format": ([], "--to"),
    "an empty format": (["--to", ""], "--to"),
    "a comma for a format": (["--to", ","], "tflite"),
    "a misspelt format": (["--to", "tflte"], "did you mean 'tflite'"),
    "a format in capitals": (["--to", "ONNX"], "did you mean 'onnx'"),
    "a format like no other": (["--to", "coreml"], "use one of: all, onnx, savedmodel, tflite, torchscript"),
    "one good format and a bad one": (["--to", "onnx,tflte"], "tflte"),
    "a size that is none": (["--to", "tflite", "--fix", "batch=many"], "cannot read --fix 'batch=many'"),
    "a size of nothing": (["--to", "tflite", "--fix", "batch=0"], "cannot read --fix"),
    "two sizes for one dimension": (["--to", "tflite", "--fix", "batch=1", "--fix", "batch=2"], "'batch' twice"),
    "a layout that is none": (["--to", "tflite", "--layout", "hwc"], "did you mean 'nhwc'"),
    "a layout for a format that has none": (
        ["--to", "onnx", "--layout", "nhwc"],
        "--layout nhwc has no meaning for onnx",
    ),
    "a candidate that is none": (["--to", "tflite", "--via", "litert"], "did you mean 'litert-torch'"),
    "a candidate of another format": (["--to", "tflite,onnx", "--via", "litert-torch-batch1"], "to onnx named"),
    "a signature of a file that has one": (["--to", "onnx", "--signature", "serve"], "--signature has no meaning"),
    "no threads": (["--to", "tflite", "--threads", "0"], "--threads"),
    "a negative number of threads": (["--to", "tflite", "--threads", "1,-2"], "--threads"),
    "threads in words": (["--to", "tflite", "--threads", "all"], "--threads"),
    "a seed below zero": (["--to", "tflite", "--seed", "-1"], "--seed"),
    "an input without a shape": (["--to", "tflite", "--input", "image:float32"], "'image:float32'"),
    "an input of an unknown dtype": (["--to", "tflite", "--input", "image:float[1]"], "float32"),
    "an input of size zero": (["--to", "tflite", "--input", "image:float32[0]"], "'0'"),
    "an input twice": (["--to", "tflite", "--input", "a:int8[1]", "--input", "a:int8[2]"], "'a'"),
    "an inputs file that is not there": (["--to", "tflite", "--inputs", "nosuch.npz"], "nosuch.npz"),
    "an inputs file of text": (["--to", "tflite", "--inputs", "text.npz"], "text.npz"),
    "an inputs file that is empty": (["--to", "tflite", "--inputs", "empty.npz"], "empty.npz"),
    "an inputs file without arrays": (["--to", "tflite", "--inputs", "none.npz"], "none.npz"),
    "an inputs file of one array": (["--to", "tflite", "--inputs", "one.npy"], "one.npy"),
    "an inputs file of objects": (["--to", "tflite", "--inputs", "objects.npz"], "objects.npz"),
    "an output folder that is a file": (["--to", "tflite", "--out", "text.npz"], "--out"),
    "an output folder below a file": (["--to", "tflite", "--out", "text.npz/out"], "--out"),
    "an output folder where none can be": (["--to", "tflite", "--out", "/proc/edgeproof"], "/proc/edgeproof"),
}


@pytest.mark.parametrize(("words", "said"), OPTIONS.values(), ids=OPTIONS.keys())
def test_an_option_that_cannot_be_honoured_is_refused(command, refused, samples, tmp_path, words, said):
    write(tmp_path, "text.npz", b"hello")
    write(tmp_path, "empty.npz", b"")
    np.savez(tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", image=np.array([None], dtype=object))
    before = sorted(tmp_path.rglob("*"))
    refused(command(samples / "digits.pt", *words), 2, said)
    assert sorted(tmp_path.rglob("*")) == before, "nothing may be written for it"


@pytest.mark.parametrize(
    "words",
    [
        *[("--memory-limit", value) for value in ("0", "-1", "nan", "inf", "much")],
        *[("--timeout", value) for value in ("0", "-1", "nan", "soon")],
        ("--no-such-option",),
        ("--seed", "many"),
    ],
    ids=" ".join,
)
def test_a_value_that_makes_no_sense_is_a_usage_error_that_names_the_option(command, samples, words):
    ran = command(samples / "digits.pt", "--to", "tflite", *words)
    assert ran.returncode == 2, ran.stderr
    assert "error:" in ran.stderr.lower()
    assert words[0] in ran.stderr
    assert "Traceback" not in ran.stderr


INPUTS = {
    "an array the model does not know": ({"picture": np.zeros((4, 1, 8, 8), "float32")}, "picture"),
    "another dtype": ({"image": np.zeros((4, 1, 8, 8), "float64")}, "float64, expected float32"),
    "not a number": ({"image": np.full((4, 1, 8, 8), np.nan, "float32")}, "NaN"),
}


@pytest.mark.parametrize(("arrays", "said"), INPUTS.values(), ids=INPUTS.keys())
def test_inputs_that_do_not_fit_are_refused_with_what_the_model_takes(
    command, refused, samples, tmp_path, finished, arrays, said
):
    np.savez(tmp_path / "inputs.npz", **arrays)
    ran = command(samples / "digits.pt", "--to", "torchscript", "--inputs", "inputs.npz", "--out", "out")
    refused(ran, 2, "inputs file", "image", said)
    assert finished(tmp_path / "out") == []


def test_inputs_that_lack_one_are_refused_by_its_name(command, refused, samples, tmp_path):
    np.savez(tmp_path / "inputs.npz", left=np.zeros((4, 1, 8, 4), "float32"))
    refused(command(samples / "two_by_two.pt", "--to", "onnx", "--inputs", "inputs.npz"), 2, "no array 'right'")


def test_an_input_that_contradicts_the_file_is_refused_with_what_the_file_says(command, refused, samples):
    ran = command(samples / "digits.pt", "--inspect", "--input", "image:float32[batch,3,8,8]")
    refused(ran, 2, "image:float32[batch,3,8,8]", "image:float32[batch,1,8,8]")


def test_an_input_the_model_does_not_have_is_answered_with_those_it_has(command, refused, samples):
    ran = command(samples / "digits.pt", "--inspect", "--input", "picture:float32[batch,1,8,8]")
    refused(ran, 2, "picture", "image:float32[batch,1,8,8]")


def test_torchscript_without_a_signature_is_answered_with_the_exact_option_to_add(command, refused, unsigned):
    ran = command(unsigned, "--to", "tflite")
    refused(ran, 2, "--input 'image:float32[batch,1,HEIGHT,WIDTH]'", "takes 1 channel", "--inputs")


def test_weights_without_an_architecture_are_answered_with_the_option_to_add(command, refused, samples):
    ran = command(samples / "digits_weights.pt", "--to", "tflite")
    refused(ran, 2, "features.0.weight", "no model", "--architecture")


def test_weights_of_another_architecture_name_what_is_missing_unexpected_and_of_another_shape(
    command, refused, weights, architecture
):
    changed = architecture(
        """
def __init__(self):
    super().__init__()
    self.features[0] = torch.nn.Conv2d(1, 8, 3, padding=1)
    self.head = torch.nn.Linear(10, 2)
    del self.classifier
"""
    )
    ran = command(*weights, changed, "--to", "tflite")
    refused(ran, 3, "missing in the file: head.weight", "unexpected in the file: classifier.2.weight")
    assert "features.0.weight has shape [16, 1, 3, 3] in the file, [8, 1, 3, 3] in the architecture" in ran.stderr


@pytest.mark.parametrize("sample", ["digits.keras", "digits.pt"])
def test_an_architecture_for_a_file_that_has_one_is_refused_and_not_ignored(command, refused, samples, sample):
    refused(command(samples / sample, "--inspect", "--architecture", "net.py:Net"), 2, "--architecture")


class Touch:
    """Unpickling this touches a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return os.system, (f"touch {self._path}",)


@pytest.fixture
def pickled(tmp_path) -> Path:
    """A file as torch.save writes it, which touches `ran` when it is unpickled."""
    with zipfile.ZipFile(tmp_path / "pickled.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": Touch(tmp_path / "ran")}, 2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return tmp_path / "pickled.pt"


def test_a_pickle_is_refused_without_trust_and_nothing_in_it_runs(command, refused, pickled, tmp_path):
    refused(command(pickled, "--to", "tflite"), 2, "posix.system", "--trust", "--architecture")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_runs_with_trust_and_must_hold_a_module(command, refused, pickled, tmp_path):
    refused(command(pickled, "--to", "tflite", "--trust"), 3, "holds a dict, not a torch.nn.Module")
    assert (tmp_path / "ran").exists()


def test_a_pickled_module_is_a_model_with_trust(command, architecture, tmp_path):
    architecture("pass")
    save = "import torch, net; torch.save(net.Net().eval(), 'module.pt')"
    subprocess.run([sys.executable, "-c", save], check=True, cwd=tmp_path)
    ran = command("module.pt", "--inspect", "--trust", "--input", "image:float32[batch,1,8,8]")
    assert ran.returncode == 0, ran.stderr
    assert "output: output:float32[batch,10]" in ran.stdout
    assert "note: unpickled because of --trust" in ran.stdout


def test_the_model_is_never_replaced_by_an_artifact_made_from_it(command, refused, samples, tmp_path):
    content = (samples / "digits.pt").read_bytes()
    write(tmp_path, "digits.pt", content)
    ran = command("digits.pt", "--to", "torchscript", "--out", ".")
    assert (tmp_path / "digits.pt").read_bytes() == content
    refused(ran, 2, "digits.pt", "--out")


def test_a_folder_that_the_model_lies_in_is_never_replaced_by_a_saved_model(command, refused, samples, tmp_path):
    (tmp_path / "digits").mkdir()
    write(tmp_path / "digits", "digits.onnx", (samples / "digits.onnx").read_bytes())
    refused(command("digits/digits.onnx", "--to", "savedmodel", "--out", "."), 2, "replace the model", "--out")
    assert (tmp_path / "digits" / "digits.onnx").is_file()


@pytest.mark.parametrize("theirs", ["out/digits/mine.txt", "out/digits/2/saved_model.pb", "out/digits"])
def test_what_is_no_artifact_is_never_replaced_by_a_saved_model(command, refused, samples, tmp_path, theirs):
    (tmp_path / theirs).parent.mkdir(parents=True)
    (tmp_path / theirs).write_text("mine")
    refused(command(samples / "digits.onnx", "--to", "savedmodel", "--out", "out"), 2, "out/digits", "--out")
    assert (tmp_path / theirs).read_text() == "mine"


def test_a_folder_is_never_replaced_by_a_file(command, refused, samples, tmp_path):
    (tmp_path / "out" / "digits.onnx").mkdir(parents=True)
    refused(command(samples / "digits.onnx", "--to", "onnx", "--out", "out"), 2, "out/digits.onnx", "--out")


def test_nothing_is_written_into_a_model_folder(command, refused, samples, tmp_path):
    shutil.copytree(samples / "bert_digits", tmp_path / "bert")
    refused(command("bert", "--to", "onnx", "--out", "bert/out"), 2, "inside the model", "--out")
    assert not (tmp_path / "bert" / "out").exists()


def test_sizes_whose_inputs_fit_no_memory_are_refused(command, refused, samples):
    refused(command(samples / "digits.onnx", "--to", "onnx", "--fix", "batch=9999999999"), 2, "GiB", "--fix")


@pytest.mark.slow
def test_a_keras_model_that_holds_code_is_refused_without_trust(command, refused, tmp_path):
    save = (
        "import keras; x = keras.Input((4,), name='x'); y = keras.layers.Lambda(lambda t: t * 2, name='y')(x);"
        "m = keras.Model(x, y); m.save('code.keras'); m.save('code.h5')"
    )
    subprocess.run([sys.executable, "-c", save], check=True, cwd=tmp_path)
    for name in ("code.keras", "code.h5"):
        refused(command(name, "--inspect"), 2, "Lambda", "--trust")
        assert "output: y:float32[batch,4]" in command(name, "--inspect", "--trust").stdout


WORDS = {
    "an option that is none": (
        ["digits.pt", "--memory-limt", "8"],
        "no such option '--memory-limt'. Did you mean '--memory-limit'?",
    ),
    "an option without its value": (["digits.pt", "--to"], "option '--to' requires an argument"),
    "a word too many": (["digits.pt", "onnx", "--to", "onnx"], "got unexpected extra argument (onnx)"),
    "a number that is none": (["digits.pt", "--to", "onnx", "--seed", "x"], "'x' is not a valid integer"),
}


@pytest.mark.parametrize(("words", "said"), WORDS.values(), ids=WORDS)
def test_words_that_make_no_sense_are_refused_like_everything_else(command, refused, words, said):
    refused(command(*words), 2, said, "--help")
