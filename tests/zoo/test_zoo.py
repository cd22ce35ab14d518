"""Models edgeproof was not tuned for are converted to every format and proven; what fails is known, with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cells import Cell, Store, convert, targets
from expected import FAILURES, FIXED, surprise
from fingerprint import definitions, of_model
from models import BY_NAME, ENTRIES, PAIRS, TITLES
from places import HERE

CELLS = [(entry.name, form) for entry in ENTRIES for form in targets(entry)]

#: Quick ones that need no library beside the frameworks: a kind of source each, and every format.
SLICE = (
    ("keras/hand_points", "onnx"),  # .h5
    ("tf/encoder", "tflite"),  # a TF Hub archive of a tf.Module
    ("torch/hand_wave", "tflite"),  # TorchScript
    ("torch/hand_ssd", "torchscript"),  # .pt2
    ("torch/hand_dcgan", "torchscript"),  # .safetensors
    ("torch/hand_hyper", "torchscript"),  # a Lightning checkpoint
)


def require_expected(cell: Cell) -> None:
    found = surprise(cell)
    assert not found, f"{found}\nrepeat it: {cell.command}"
    if not cell.proven:
        pytest.xfail(FAILURES[cell.model, cell.form].reason)


@pytest.mark.parametrize(("name", "form"), SLICE, ids=[f"{name}-{form}" for name, form in SLICE])
def test_a_slice_of_the_zoo_is_proven_and_found_right_by_an_independent_check(
    name: str, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "zoo")
    (cell,) = convert(BY_NAME[name], (form,), store)
    require_expected(cell)
    assert cell.checked["agreed"], cell.checked


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), CELLS, ids=[f"{name}-{form}" for name, form in CELLS])
def test_a_model_of_the_zoo_comes_out_as_expected(name: str, form: str) -> None:
    entry, store = BY_NAME[name], Store()
    cell = store.kept(entry, form)
    if cell is None:
        for made in convert(entry, targets(entry), store):
            store.keep(entry, made)
        cell = store.kept(entry, form)
    assert cell is not None
    require_expected(cell)


def test_the_side_tables_name_cells_that_exist() -> None:
    assert not {cell for cell in (*FAILURES, *FIXED) if cell not in CELLS}
    assert not set(FAILURES) & set(FIXED)
    assert not set(SLICE) - set(CELLS)


def test_names_are_unique_and_kinds_known() -> None:
    assert len(BY_NAME) == len(ENTRIES)
    assert len({entry.file_name for entry in ENTRIES}) == len(ENTRIES)
    assert {entry.saved for entry in ENTRIES} == set(PAIRS) == set(TITLES)
    assert len({(entry.builder, entry.arguments) for entry in ENTRIES}) >= 60


def test_a_pattern_chooses_by_full_name_by_part_and_without_the_first_word() -> None:
    named = [entry.name for entry in ENTRIES if entry.matches("mobilenetv2")]
    assert "keras/app_mobilenetv2" in named
    assert [entry.name for entry in ENTRIES if entry.matches("keras/app_mobilenetv2")] == ["keras/app_mobilenetv2"]


def test_what_builds_a_model_is_found_with_all_it_refers_to() -> None:
    text = "".join(definitions("torch_vision", "hand_ssd"))
    assert "class Detector" in text
    assert "def unit" in text
    assert "def ready" in text  # of another module
    assert "class Generator" not in text
    assert of_model(BY_NAME["torch/hand_ssd"]) != of_model(BY_NAME["torch/hand_dcgan"])


def test_a_kept_result_is_taken_again_only_while_the_tool_is_the_same(tmp_path: Path) -> None:
    import fingerprint

    entry, store = BY_NAME["torch/hand_ssd"], Store(tmp_path)
    assert store.kept(entry, "onnx") is None
    store.keep(entry, Cell(entry.name, "onnx", fingerprint.of_tool(), of_model(entry), "PASS"))
    assert store.kept(entry, "onnx").proven
    store.keep(entry, Cell(entry.name, "onnx", "older", of_model(entry), "PASS"))
    assert store.kept(entry, "onnx") is None
    assert store.kept(entry, "onnx", stale=True) is not None
    store.keep(entry, Cell(entry.name, "onnx", fingerprint.of_tool(), "otherwise", "PASS"))
    assert store.kept(entry, "onnx", stale=True) is None


def test_an_artifact_called_right_that_answers_otherwise_is_a_surprise(samples: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype("float32")
    spec = {"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}
    reported = {side: {"inputs": [spec], "outputs": [{"name": "logits"}]} for side in ("source", "artifact")}
    np.savez(
        tmp_path / "fresh.npz",
        **{f"{case}|in|image": image for case in range(4)},
        **{f"{case}|out|0|logits": np.random.default_rng(case).standard_normal((1, 10)) for case in range(4)},
    )
    (tmp_path / "reported.json").write_text(json.dumps(reported))
    command = [sys.executable, HERE / "fresh.py", samples / "digits.pt", "torchscript"]
    command += [tmp_path / "fresh.npz", tmp_path / "reported.json"]
    verdict = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    assert verdict["agreed"] is False
    assert "dB" in verdict["why"]
    cell = Cell("torch/hand_ssd", "onnx", status="PASS", checked=verdict)
    assert cell.wrong
    assert "independent check disagrees" in surprise(cell)
