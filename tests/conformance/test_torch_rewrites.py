"""What litert-torch cannot lower reaches TFLite in other operators, with a free batch and the same answers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Converts one network that holds everything there is a rewrite for, and runs it beside its source.
CONVERT = """
import json
from pathlib import Path
import numpy as np, torch
from convert.routes import Work
from convert.routes.torch_to_tflite import convert
from convert.formats.tflite import read, seal
from convert.sources._measure import measure
from convert.sources._torch import run
from convert.spec import specs_from

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up = torch.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)
        self.line = torch.nn.ConvTranspose1d(3, 2, 3, stride=2, dilation=2, padding=1)
        self.bag = torch.nn.EmbeddingBag(20, 5, mode="mean")
        self.video = torch.nn.Conv3d(4, 8, (3, 3, 3), stride=(2, 1, 1), padding=1, groups=4)

    def forward(self, image, ids, sound, film):
        wave = torch.stft(sound, 32, 8, win_length=24, window=torch.hann_window(24), return_complex=True)
        return {
            "up": self.up(image), "line": self.line(image[:, :, 0]), "bag": self.bag(ids), "film": self.video(film),
            "loudness": wave.abs(), "turned": torch.view_as_real(wave * wave.conj()),
            "sorted": sound[:, :9].sort(1).values, "best": torch.topk(sound, 3).values,
            "spectrum": torch.fft.fft2(image).real, "filtered": torch.fft.irfft2(torch.fft.rfft2(image) * 0.5),
        }

class Grid(torch.nn.Module):
    def forward(self, image, grid):
        sample = torch.nn.functional.grid_sample
        return {
            "between": sample(image, grid * 1.5, align_corners=False),
            "nearest": sample(image, grid * 1.5, mode="nearest", padding_mode="border", align_corners=True),
        }

def worst(net, inputs, name):
    signature = measure(lambda arrays: run(net, arrays), inputs)
    out = Path(name)
    draft = convert(Work(out, net, signature, out))
    seal(out, draft)
    return draft, out, compared(net, inputs, out)

net = Net().eval()
inputs = specs_from([
    "image:float32[batch,3,6,6]", "ids:int64[batch,7]=0..19", "sound:float32[batch,80]", "film:float32[batch,4,5,6,6]",
])

def compared(net, inputs, out):
    from ai_edge_litert.interpreter import Interpreter
    worst = {}
    for batch in (1, 3):
        rng = np.random.default_rng(0)
        given = {
            spec.name: rng.integers(0, 20, spec.sized({"batch": batch})) if spec.high
            else rng.standard_normal(spec.sized({"batch": batch})).astype("float32") for spec in inputs
        }
        narrow = {name: array.astype("int32") if array.dtype == "int64" else array for name, array in given.items()}
        actual = Interpreter(str(out)).get_signature_runner()(**narrow)
        for name, right in run(net, given).items():
            same = actual[name].shape == right.shape
            worst[f"{name} {batch}"] = float(np.abs(actual[name] - right).max()) if same else 9.0
    return worst

draft, out, found = worst(net, inputs, "net.tflite")
grids, other, more = worst(Grid(), specs_from(["image:float32[batch,3,6,5]", "grid:float32[batch,4,7,2]"]), "g.tflite")
print("\\n" + json.dumps({
    "worst": found | more, "rescues": [*draft.rescues, *grids.rescues], "operators": read(out).operators,
    "grid": read(other).operators,
}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("rewrites")
    ran = subprocess.run([sys.executable, "-c", CONVERT], capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "output",
    ["up", "line", "bag", "film", "loudness", "turned", "sorted", "best", "spectrum", "filtered", "between", "nearest"],
)
def test_what_was_rewritten_answers_as_its_source_does(answers, output):
    assert all(answers["worst"][f"{output} {batch}"] < 1e-4 for batch in (1, 3)), answers["worst"]


def test_every_rewrite_is_reported(answers):
    said = " ".join(answers["rescues"])
    named = (
        "transposed convolutions",
        "EmbeddingBag",
        "3-D convolutions",
        "Fourier",
        "window",
        "sorting",
        "grid_sample",
    )
    assert [words for words in named if words not in said] == []


def test_only_operators_of_a_stock_runtime_are_left(answers):
    assert [name for name in answers["operators"] if name.startswith(("STABLEHLO", "Flex"))] == []


def test_a_lowering_that_is_slow_is_replaced(answers):
    assert "GATHER_ND" not in answers["grid"]
