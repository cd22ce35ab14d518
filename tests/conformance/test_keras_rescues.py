"""Keras networks that their converters leave in pieces convert, and the report says what was rewritten."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convert import convert
from validators.verdict import Status

#: A grouped convolution (compiled with XLA, which tf2onnx leaves as a call), an exact GELU (left as Erfc), a
#: Normalization (constants that become inputs) and a bilinear enlargement of free sizes (keras#22079).
BUILD = """
import sys, keras, numpy as np
from keras import layers
keras.utils.set_random_seed(7)
image = keras.Input((None, None, 4), name="image")
x = layers.Normalization(mean=[0.4, 0.5, 0.6, 0.1], variance=[0.04, 0.05, 0.06, 0.2])(image)
x = layers.Conv2D(8, 3, groups=2, padding="same")(x)
x = layers.Activation("gelu")(x)
x = layers.UpSampling2D(2, interpolation="bilinear")(x)
keras.Model(image, layers.Conv2D(2, 1, name="mask")(x)).save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rescued")
    subprocess.run([sys.executable, "-c", BUILD, folder / "pieces.keras"], check=True)
    return convert(folder / "pieces.keras", to="onnx,tflite", out=folder / "out", threads=())


@pytest.mark.parametrize(("form", "route"), [("onnx", "tf2onnx"), ("tflite", "tflite-converter")])
def test_what_converters_leave_in_pieces_converts_by_its_first_candidate(report, form, route):
    (target,) = [target for target in report.targets if target.target == form]
    assert target.status is Status.PASS, target.reason
    assert [attempt.plan for attempt in target.attempts] == [route]


def test_the_report_says_what_was_rewritten(report):
    (target,) = [target for target in report.targets if target.target == "onnx"]
    assert any("Erfc" in said for said in target.artifact.rescues)
