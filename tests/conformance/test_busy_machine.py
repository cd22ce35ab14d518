"""Comparisons on a machine that is busy with other work: an artifact is not slower than itself, extra work is."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from validators.pairs import CANNOT_TELL, SAME, SLOWER
from validators.versus import compare

pytest.importorskip("onnxruntime")

LAYERS = 20
RUNS = 20

#: Other work, on every core: it computes, and goes through more memory than caches hold.
OTHER_WORK = "import numpy as np\na = np.ones(1 << 22)\nwhile True:\n    a += 1\n    sum(range(100_000))"


def chain(path, layers, width=256, rows=32):
    """Write a network of equal layers, so that one more of twenty is 5 % of extra work."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    names = ["x", *(f"h{layer}" for layer in range(1, layers)), "y"]
    weights = [
        numpy_helper.from_array((rng.standard_normal((width, width)) / width**0.5).astype("float32"), f"w{layer}")
        for layer in range(layers)
    ]
    nodes = [
        helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]], f"layer{layer}")
        for layer in range(layers)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture
def busy():
    working = [subprocess.Popen([sys.executable, "-c", OTHER_WORK]) for _ in range(2)]
    yield
    for process in working:
        process.kill()
        process.wait()


def verdicts(first, other, runs=RUNS, **options):
    return Counter(compare([first, other], seed=seed, **options).result.others[0].verdict for seed in range(runs))


@pytest.mark.slow
def test_an_artifact_is_never_slower_than_itself_on_a_busy_machine(busy, tmp_path):
    one = chain(tmp_path / "one.onnx", LAYERS)

    assert set(verdicts(one, one)) <= {SAME, CANNOT_TELL}


@pytest.mark.slow
def test_ten_per_cent_of_extra_work_is_slower_on_a_busy_machine(busy, tmp_path):
    one, more = chain(tmp_path / "one.onnx", LAYERS), chain(tmp_path / "more.onnx", LAYERS + LAYERS // 10)

    assert verdicts(one, more)[SLOWER] >= 18


def test_twice_the_work_is_slower_and_the_same_is_not(tmp_path):
    one, twice = chain(tmp_path / "one.onnx", LAYERS), chain(tmp_path / "twice.onnx", 2 * LAYERS)

    found = compare([one, twice, one], seconds=1.0).result

    assert [versus.verdict == SLOWER for versus in found.others] == [True, False]
    assert found.others[0].cpu.ratio == pytest.approx(2, rel=0.3)
    assert found.others[0].blocks == 5
