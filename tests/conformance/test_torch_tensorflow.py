"""Every operator of PyTorch that has a counterpart in TensorFlow gives PyTorch's answers, at any batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: Records every network, with what it answers at two batches and lengths.
RECORD = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from torch_nets import CASES
from convert.sources._measure import measure
from convert.sources._torch import run
from convert.spec import specs_from
from convert.torch_tensorflow.recording import exported, record

SPECS = {"x": "x:float32[batch,4,9,7]", "y": "y:float32[batch,6,size]", "ids": "ids:int64[batch,5]=0..5"}
failed = {}
for name, (net, names) in CASES.items():
    folder = Path(name)
    folder.mkdir()
    try:
        inputs = specs_from([SPECS[key] for key in names.split()])
        signature = measure(lambda arrays: run(net, arrays), inputs)
        cases = []
        for batch, size in ((1, 16), (3, 11)):
            rng = np.random.default_rng(batch)
            sizes = {"batch": batch, "size": size}
            given = {
                spec.name: rng.integers(0, 6, spec.sized(sizes)) if spec.high
                else rng.standard_normal(spec.sized(sizes)).astype("float32") for spec in inputs
            }
            cases.append((list(given.values()), list(run(net, given).values())))
        np.save(folder / "cases.npy", np.array(cases, dtype=object), allow_pickle=True)
        record(exported(net, signature), signature, folder)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(failed))
"""

#: Computes what was recorded, where no PyTorch is.
ANSWER = """
import json
from pathlib import Path
import numpy as np, tensorflow as tf
from convert.torch_tensorflow.program import WEIGHTS, load
from convert.torch_tensorflow.table import Kept
from convert.torch_tensorflow.writing import run, tensor

told = {}
for folder in sorted(Path().iterdir()):
    program, kept = load(folder), Kept()
    with np.load(folder / WEIGHTS) as stored:
        weights = {name: stored[name] for name in program.weights}
    specs = [
        tf.TensorSpec([None if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype)
        for spec in program.signature.inputs
    ]

    @tf.function(input_signature=specs, autograph=False)
    def call(*tensors):
        return [tensor(value, kept) for value in run(program, dict(zip(program.inputs, tensors)) | weights, kept)]

    try:
        wrong = []
        for given, expected in np.load(folder / "cases.npy", allow_pickle=True):
            for place, (found, right) in enumerate(zip(call(*given), expected, strict=True)):
                found = found.numpy()
                if found.shape != right.shape or found.dtype != right.dtype:
                    wrong.append(f"output {place} is {found.dtype}{found.shape}, not {right.dtype}{right.shape}")
                elif right.dtype.kind != "f":
                    wrong += [f"output {place} differs"] * (not np.array_equal(found, right))
                elif not np.allclose(found, right, rtol=1e-4, atol=2e-5, equal_nan=True):
                    wrong.append(f"output {place} is off by {np.nanmax(np.abs(found - right))}")
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {error}")
    told[folder.name] = sorted(set(wrong))
print("\\n" + json.dumps(told))
"""


def said(folder, *words):
    done = subprocess.run([sys.executable, "-c", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_operator_gives_pytorchs_answers(tmp_path):
    assert said(tmp_path, RECORD, str(Path(__file__).parent)) == {}
    told = said(tmp_path, ANSWER)
    assert len(told) > 15
    assert {name: wrong for name, wrong in told.items() if wrong} == {}
