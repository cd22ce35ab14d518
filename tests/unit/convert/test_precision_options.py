"""Options of reduced precision that cannot be honoured are refused before anything is loaded."""

from __future__ import annotations

import numpy as np
import pytest

from convert.errors import UsageError
from convert.quantize import check_precisions
from convert.spec import QualityGate, Request


@pytest.fixture
def check(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((9, 4)))

    def run(**options):
        calibration = options.pop("calibration", str(tmp_path / "data.npz"))
        options.setdefault("precisions", ("int8",))
        check_precisions(Request("m.onnx", ("tflite",), calibration=calibration, **options), "onnx", ("tflite",))

    return run


def test_good_options_are_taken(check, tmp_path):
    check()
    check(calibration="random")
    check(calibration="some.module:samples", gate=QualityGate(min_agreement=0.9))
    check(calibration="", precisions=("fp16",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calibration": ""}, "takes the ranges of activations from data"),
        ({"calibration": "nothing.npz"}, "--calibration: there is no file nothing.npz"),
        ({"preprocess": "scale=1"}, "--preprocess has no meaning"),
        ({"calibration": "", "precisions": ("fp16",), "preprocess": "scale=1"}, "--preprocess is for images"),
        ({"gate": QualityGate(labels="labels.npy")}, "right answers to rows of --inputs"),
        ({"gate": QualityGate(max_accuracy_drop=0.1)}, "has no metric to judge"),
        ({"gate": QualityGate(min_agreement=2)}, "is no share"),
        ({"precisions": ("fp32",)}, "--calibration has no meaning for fp32 alone"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(check, options, words):
    with pytest.raises(UsageError, match=words) as caught:
        check(**options)

    assert caught.value.fix
