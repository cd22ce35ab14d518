"""A trained sample of every kind of model file, with what is needed to load it. A new source adds its own here."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[2] / "samples"

WEIGHTS = {"architecture": f"{SAMPLES / 'digits_torch.py'}:Digits", "input": "image:float32[batch,1,8,8]"}

#: Pickles are written when they are needed: they name classes by module, which must be importable where they are read.
PICKLE = """
import sys, torch, digits_torch
model = digits_torch.Digits()
model.load_state_dict(torch.load(sys.argv[1]))
torch.save(model.eval(), sys.argv[2])
"""

#: Lightning is not needed to write what it writes.
LIGHTNING = """
import sys, torch
weights = {f"model.{name}": tensor for name, tensor in torch.load(sys.argv[1]).items()}
torch.save({"pytorch-lightning_version": "2.5.0", "state_dict": weights, "hyper_parameters": {}}, sys.argv[2])
"""

EXPORT = """
import sys, keras
keras.saving.load_model(sys.argv[1]).export(sys.argv[2], verbose=False)
"""

PACK = """
import sys, keras, tarfile, tempfile
with tempfile.TemporaryDirectory() as folder, tarfile.open(sys.argv[2], "w:gz") as archive:
    keras.saving.load_model(sys.argv[1]).export(folder, verbose=False)
    archive.add(folder, ".")
"""


@dataclass(frozen=True)
class Sample:
    """One model file and the options `convert` needs for it."""

    file: str
    options: dict[str, Any] = field(default_factory=dict)
    script: str = ""  # that makes it from the sample's weights when asked for

    def path(self, folder: Path) -> Path:
        """Give the model file, which is made in `folder` where it is not committed."""
        if not self.script:
            return SAMPLES / self.file
        made = folder / "made.pt"
        subprocess.run(
            [sys.executable, "-c", self.script, SAMPLES / self.file, made],
            env={**os.environ, "PYTHONPATH": str(SAMPLES)},
            check=True,
        )
        return made


SAMPLE_OF = {
    "keras": Sample("digits.keras"),
    "keras_h5": Sample("digits.h5"),
    "saved_model": Sample("digits.keras", script=EXPORT),
    "tf_hub": Sample("digits.keras", script=PACK),
    "onnx": Sample("digits.onnx"),
    "tflite": Sample("digits.tflite"),
    "torchscript": Sample("digits.pt"),
    "exported_program": Sample("digits.pt2"),
    "torch_weights": Sample("digits_weights.pt", WEIGHTS),
    "huggingface": Sample("bert_digits"),
    "lightning": Sample("digits_weights.pt", WEIGHTS, script=LIGHTNING),
    "safetensors": Sample("digits_weights.safetensors", WEIGHTS),
    "torch_pickle": Sample("digits_weights.pt", {"trust": True, "input": WEIGHTS["input"]}, script=PICKLE),
}
