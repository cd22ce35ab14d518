"""Saves a MobileNetV2 of 53 convolutions, and images to calibrate it with: `python deep_nets.py FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

import numpy as np
from keras_models import app_mobilenetv2
from natural import CALIBRATION, SEED, smooth

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    app_mobilenetv2().save(folder / "deep.keras")
    images = smooth([CALIBRATION, 64, 64, 3], np.random.default_rng(SEED))
    np.savez(folder / "images.npz", input_layer=images.astype("float32"))
