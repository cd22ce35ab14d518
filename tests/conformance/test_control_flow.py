"""Models whose inputs steer their control flow: kept by compilers, caught where only one run is recorded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NETS = """
import torch

class Branch(torch.nn.Module):
    def forward(self, x):
        if x.mean() > 0:
            return {"y": x * 2}
        return {"y": x}

class Batch(torch.nn.Module):
    def forward(self, x):
        return x + 1 if x.shape[0] > 2 else x

class Straight(torch.nn.Module):
    def forward(self, x, **more):
        assert x.mean() < 1e9
        return torch.where(x.mean() > 0, x * 2, x)

class Loop(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        for step in range(x.shape[1]):
            state = torch.tanh(self.cell(torch.cat([x[:, step], state], dim=1)))
        return state
"""

TRY = """
import json, sys, warnings
from pathlib import Path
import numpy as np, onnxruntime, torch
from convert.errors import RouteError
from convert.routes import Work, torch_to_onnx_script, torch_trace
from convert.spec import Signature, specs_from
sys.path.insert(0, "")
import nets

def signature(inputs, outputs):
    return Signature(specs_from([inputs]), specs_from([outputs]))

def refused(net):
    try:
        promised = signature("x:float32[batch,3]", "y:float32[batch,3]")
        torch_trace.convert(Work(Path(), net.eval(), promised, Path("t.pt")))
    except RouteError as error:
        return [error.message, error.fix]
    return []

answers = {name: refused(getattr(nets, name)()) for name in ("Branch", "Batch", "Straight")}
net, out = nets.Loop().eval(), Path("loop.onnx")
torch_to_onnx_script.convert(Work(Path(), net, signature("x:float32[batch,length,3]", "y:float32[batch,4]"), out))
session = onnxruntime.InferenceSession(str(out))
answers["loop"] = []
for shape in ((1, 16, 3), (3, 5, 3)):
    x = torch.randn(shape)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    answers["loop"].append(float(np.abs(found - net(x).detach().numpy()).max()))
print("\\n" + json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("control")
    (folder / "nets.py").write_text(NETS)
    ran = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_recorded_branch_is_refused_with_the_line_that_decides(answers):
    message, fix = answers["Branch"]
    assert "the model goes another way for other inputs" in message
    assert "nets.py:6" in message
    assert "torch.where" in fix


def test_a_recorded_batch_size_is_refused(answers):
    assert "at batch=3" in answers["Batch"][0]


def test_a_decision_that_changes_nothing_is_no_reason_to_refuse(answers):
    assert answers["Straight"] == []


def test_a_loop_survives_in_onnx_at_lengths_it_was_not_exported_at(answers):
    assert all(error < 1e-5 for error in answers["loop"])
