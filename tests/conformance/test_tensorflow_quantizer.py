"""TFLiteConverter's own quantizer, the second way to reduced precision: its files keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quantized_tflite import Bench

from convert import convert
from convert.errors import RouteError, UsageError
from convert.formats import tflite
from convert.recipe import Kept
from convert.spec import Scale
from convert.worker import Workers, limits_of
from validators.verdict import Status


@pytest.fixture(scope="module")
def digits(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The digits network, and the float file that TFLiteConverter makes of it."""
    folder = tmp_path_factory.mktemp("digits")
    base = folder / "digits.tflite"
    base.write_bytes((samples / "digits.tflite").read_bytes())
    images = np.load(samples / "digits_nhwc_inputs.npz")["image"]
    with Workers(tmp_path_factory.mktemp("stages"), limits_of(180.0, 0)) as workers:
        bench = Bench(workers, folder, base, "image", images, samples / "digits.keras")
        bench.task = replace(bench.task, recipe=replace(bench.task.recipe, quantizer="tflite-converter"))
        yield bench


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic", "int8", "int16x8"])
def test_its_files_keep_the_contract_and_err_as_their_ideals(precision, digits):
    path = digits.reduced(precision)
    facts = tflite.read(path)
    assert facts.precision == precision
    assert facts.signature == digits.task.base.signature
    assert 0.85 < digits.ratio(path) < 1.1
    first = path.read_bytes()
    assert digits.reduced(precision).read_bytes() == first


def test_inputs_and_outputs_can_be_integers(digits):
    found = tflite.read(digits.reduced("int8", io="uint8")).signature
    assert (found.inputs[0].dtype, found.outputs[0].dtype) == ("uint8", "uint8")
    assert found.inputs[0].quantized == Scale(pytest.approx(1 / 255), 0)


def test_what_it_cannot_do_is_refused(digits):
    with pytest.raises(RouteError, match="leaves no single layer"):
        digits.reduced("int8", kept=(Kept("x", "fp32"),))
    with pytest.raises(RouteError, match="finds its ranges by itself"):
        digits.reduced("int8", ranges="mse")
    with pytest.raises(UsageError, match="--io int8"):
        digits.reduced("fp16", io="int8")


def test_a_saved_model_of_two_inputs_that_can_be_swapped_is_quantized_by_it_too(samples, tmp_path):
    made = convert(samples / "two_by_two.keras", to="savedmodel", out=tmp_path / "saved", threads=())
    folder = Path(made.targets[0].artifact.path)
    (target,) = convert(
        folder, to="tflite", precision="int8", calibration="random", out=tmp_path / "out", threads=()
    ).targets
    (attempt,) = [item for item in target.attempts if item.plan.endswith("+tflite-converter")]
    assert attempt.status is Status.PASS, attempt.reason
