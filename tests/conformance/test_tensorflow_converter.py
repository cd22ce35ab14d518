"""TFLiteConverter works on a frozen graph: what it refuses is named by its place in the model."""

from __future__ import annotations

import subprocess
import sys

from convert import convert
from validators.verdict import Status

#: Keras masks the sign of zeros before it looks for the largest; TFLite has no kernel for a bitwise AND of 32 bits.
BUILD = """
import sys, keras
x = keras.Input((4,), name="x")
keras.Model(x, keras.ops.argmax(keras.layers.Dense(3)(x), axis=-1)).save(sys.argv[1])
"""


def test_an_operator_that_tflite_lacks_is_named_with_its_place_and_no_line_of_ours(tmp_path):
    subprocess.run([sys.executable, "-c", BUILD, tmp_path / "largest.keras"], check=True)
    (target,) = convert(
        tmp_path / "largest.keras", to="tflite", via="tflite-converter", out=tmp_path / "out", threads=()
    ).targets
    assert target.status is Status.FAIL
    said = target.attempts[0].reason
    assert "'tf.BitwiseAnd' op" in said
    assert "/BitwiseAnd" in said  # the scope of the model that it is in
    assert ".py:" not in said
