"""SavedModels convert, loops traced at a free batch included."""

from __future__ import annotations

import subprocess
import sys

from kinds import EXPORT

from convert import convert
from validators.verdict import Status


def test_a_saved_recurrent_network_converts_to_built_in_operators_at_batch_1(samples, tmp_path):
    subprocess.run([sys.executable, "-c", EXPORT, samples / "recurrent.keras", tmp_path / "recurrent"], check=True)
    report = convert(tmp_path / "recurrent", to="tflite", via="tflite-converter-batch1", out=tmp_path / "out")
    (target,) = report.targets
    assert target.status is Status.PASS, target.reason
    assert str(target.artifact.signature) == "(rows:float32[1,8,8]) -> (output_0:float32[1,10])"
    assert report.reference.oracle == "float64"
