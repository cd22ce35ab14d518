"""PyTorch modules become SavedModels by every road, also where a converter alone gets an operator wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

#: Converts one network of hazards by the route it is given, loads what came out, and runs it beside its source.
CONVERT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from convert.routes import ROUTES, Work
from convert.sources._measure import measure
from convert.sources._torch import run
from convert.spec import specs_from

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up = torch.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)
        self.line = torch.nn.ConvTranspose1d(3, 2, 2, stride=3, output_padding=2)
        self.bag = torch.nn.EmbeddingBag(20, 5, mode="mean")

    def forward(self, image, ids):
        return {"up": self.up(image), "line": self.line(image[:, :, 0]), "bag": self.bag(ids)}

net = Net().eval()
inputs = specs_from(["image:float32[batch,3,6,6]", "ids:int64[batch,7]=0..19"])
signature = measure(lambda arrays: run(net, arrays), inputs)
draft = ROUTES[sys.argv[1]].convert(Work(Path("net"), net, signature, Path("net")))
cases = []
for batch in (1, 3):
    rng = np.random.default_rng(0)
    given = {
        "image": rng.standard_normal((batch, 3, 6, 6)).astype("float32"), "ids": rng.integers(0, 20, (batch, 7)),
    }
    cases.append((given, run(net, given)))
np.save("cases.npy", np.array(cases, dtype=object), allow_pickle=True)
names = dict(zip(draft.input_names, given)), dict(zip(draft.output_names, cases[0][1]))
print("\\n" + json.dumps([list(draft.rescues), *names]))
"""

#: Loads the SavedModel where nothing of its source is, and says how far it is from the answers.
SERVE = """
import json, sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load("net/1").signatures["serving_default"]
inputs, outputs = json.loads(sys.argv[1])
worst = {}
for given, right in np.load("cases.npy", allow_pickle=True):
    found = served(**{name: tf.constant(given[key]) for name, key in inputs.items()})
    for name, key in outputs.items():
        same = found[name].shape == right[key].shape
        worst[key] = max(worst.get(key, 0.0), float(np.abs(found[name] - right[key]).max()) if same else 9.0)
print("\\n" + json.dumps(worst))
"""


@pytest.fixture(scope="module", params=["torch-stablehlo", "torch-tensorflow"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")

    def said(*words):
        done = subprocess.run([sys.executable, "-c", *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    rescues, *names = said(CONVERT, request.param)
    return request.param, rescues, said(SERVE, json.dumps(names))


def test_every_output_is_the_sources(served):
    _, _, worst = served
    assert set(worst) == {"up", "line", "bag"}
    assert all(error < 1e-5 for error in worst.values()), worst


def test_what_litert_torch_gets_wrong_is_rewritten_and_reported(served):
    route, rescues, _ = served
    told = " ".join(rescues)
    assert ("transposed convolutions" in told and "EmbeddingBag" in told) == (route == "torch-stablehlo"), told
