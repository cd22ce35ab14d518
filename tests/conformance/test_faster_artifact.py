"""A network whose int8 file is slower than its float one ends with what makes it slow in float, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

#: Hard-swish is what XNNPACK computes in floats only: as integers it cuts the graph at every layer. With turns of CPU
#: time the int8 file takes 1.5 times the float latency, and half of it with the four activations left in float.
NETWORK = """
import sys
import keras

keras.utils.set_random_seed(3)
x = inputs = keras.Input((32, 32, 3), name="image")
for filters in (16, 24, 32, 32):
    x = keras.layers.Conv2D(filters, 3, padding="same")(x)
    x = keras.layers.Activation("hard_swish")(x)
x = keras.layers.GlobalAveragePooling2D()(x)
keras.Model(inputs, keras.layers.Dense(10)(x)).save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("swish")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    model = folder / "swish.keras"
    subprocess.run([sys.executable, "-c", NETWORK, str(model)], check=True, env=environment, capture_output=True)
    random = np.random.default_rng(0)
    for name in ("train", "test"):
        np.savez(folder / f"{name}.npz", image=random.standard_normal((128, 32, 32, 3)).astype("f4"))
    options = ["--to", "tflite", "--precision", "int8", "--calibration", str(folder / "train.npz")]
    options += ["--inputs", str(folder / "test.npz"), "--out", str(folder / "out"), "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "convert", str(model), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_what_the_delegate_leaves_out_is_left_in_float(report):
    (target,) = report["targets"]
    assert target["status"] == "PASS"
    assert [item["operator"] for item in target["given_up"]].count("HARD_SWISH") == 4
    (words,) = [remark for remark in target["remarks"] if "left in float it takes" in remark]
    told = (part.split(" times the float latency")[0].split()[-1] for part in words.split("; without, "))
    now, without = map(float, told)
    assert now < 1 < 1.05 < without, words


@pytest.mark.slow
def test_all_that_was_tried_and_the_recipe_of_what_was_kept_are_in_the_report(report):
    (target,) = report["targets"]
    assert [point["kept"] for point in target["points"]].count(True) == 1
    assert all(point["latency_seconds"] for point in target["points"] if point["passed"])
    kept = next(point for point in target["points"] if point["kept"])
    assert target["attempts"][target["kept"]]["recipe"] == kept["recipe"]
    assert json.loads(Path(target["recipe_path"]).read_text())["kept"] == kept["recipe"]["kept"]
    first = target["points"][0]
    assert kept["latency_seconds"] < first["latency_seconds"]
    assert kept["sqnr_db"] >= first["sqnr_db"] - 0.1
