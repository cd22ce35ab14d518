"""onnx2tf in its own environment, for real: a proven file, native images, fused recurrences, no network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from kinds import SAMPLES

from convert import convert, toolchains
from convert.errors import ToolchainError
from convert.formats import FORMATS
from convert.spec import NHWC
from validators.verdict import Status


@pytest.fixture(scope="module")
def toolchain():
    """Prepare it in the user's cache, once per machine: some 10 s and 90 MB."""
    try:
        return toolchains.prepare(toolchains.Preparing("onnx2tf"))
    except ToolchainError as error:
        pytest.skip(error.message)


def built(name: str, folder: Path, **options: object):
    report = convert(SAMPLES / name, "tflite", out=folder, threads=(), **options)
    (target,) = report.targets
    assert [(a.plan, a.status) for a in target.attempts] == [(target.attempts[0].plan, Status.PASS)], target.reason
    return target, Counter(FORMATS["tflite"].read(Path(target.artifact.path)).operators)


def test_a_model_passes_with_native_images_and_a_free_batch(toolchain, tmp_path):
    target, operators = built("digits.pt", tmp_path, via="onnx2tf", layout=NHWC)
    (image,) = target.artifact.signature.inputs
    assert image.shape == ("batch", 8, 8, 1)
    assert operators["CONV_2D"] == 2
    assert operators["TRANSPOSE"] <= 1  # the one before PyTorch's flatten; none at the input


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent.pt", "recurrent.keras"])
def test_a_recurrence_is_one_fused_kernel_that_forgets_between_calls(toolchain, name, tmp_path):
    target, operators = built(name, tmp_path, via="onnx2tf-batch1")
    assert operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert sum(operators.values()) < 20
    assert any("empties their state" in line for line in target.artifact.rescues)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens.pt", "two_by_two.pt", "dictionary.pt", "digits.keras"])
def test_every_shape_of_model_passes(toolchain, name, tmp_path):
    built(name, tmp_path, via="onnx2tf")
