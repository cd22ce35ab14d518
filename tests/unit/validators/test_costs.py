"""What an artifact costs on any machine is counted right, agrees between formats, and is never silently 0."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from convert.errors import LoadError
from convert.formats import onnx as onnx_format
from convert.spec import SourceFile
from convert.worker import Workers, limits_of
from validators.costs import COSTERS, Counting, Macs, Step, count, peak_bytes
from validators.costs import _formulas as formulas
from validators.costs import _onnx_operators as onnx_operators
from validators.costs import _tflite_operators as tflite_operators
from validators.costs.tflite import covered
from validators.instructions import INSTRUCTIONS, RUNS, Executing, counts_in, execute_counted
from validators.runtimes import Subject

#: Two convolutions over 8x8 and 4x4 places and a matrix: `torch.utils.flop_counter` counts twice that.
DIGITS = 8 * 8 * 16 * 9 + 4 * 4 * 32 * 16 * 9 + 128 * 10

SHAPES = {"tflite": (1, 8, 8, 1), "onnx": (1, 1, 8, 8), "torchscript": (1, 1, 8, 8)}
SUFFIXES = {"tflite": "tflite", "onnx": "onnx", "torchscript": "pt"}


@pytest.fixture(scope="module")
def counted(samples: Path, tmp_path_factory: pytest.TempPathFactory):
    """Count the costs of the digits sample in one format, or of another file, at the case of its shape."""
    folder = tmp_path_factory.mktemp("costs")
    with Workers(folder, limits_of(120.0, 0)) as workers:

        def run(form: str, path: Path | None = None, case: str = "zeros", **arrays: np.ndarray):
            arrays = arrays or {"image": np.zeros(SHAPES[form], np.float32)}
            np.savez(folder / "inputs.npz", **{f"zeros/{name}": array for name, array in arrays.items()})
            job = Counting(form, str(path or samples / f"digits.{SUFFIXES[form]}"), str(folder / "inputs.npz"), case)
            return workers.run(f"costs-{form}", count, job, COSTERS[form].environment).value

        yield run


@pytest.mark.parametrize("form", SHAPES)
def test_the_digits_sample_makes_the_same_multiply_accumulates_in_every_format(counted, form):
    found = counted(form)
    assert (found.macs, found.known_macs, found.unknown) == (DIGITS, DIGITS, ())
    assert 4 * 6_000 < found.weight_bytes < 4 * 6_400, "6,218 parameters, some folded"
    # The largest pair of neighbours: 16 channels of 8x8 places, and what is computed from them.
    assert 4 * 16 * 64 < found.activation_bytes < 4 * 16 * 64 * 4


def test_twice_the_batch_makes_twice_the_multiply_accumulates_and_weighs_the_same(counted):
    one, two = counted("onnx"), counted("onnx", image=np.zeros((2, 1, 8, 8), np.float32))
    assert two.macs == 2 * one.macs
    assert two.activation_bytes == 2 * one.activation_bytes
    assert two.weight_bytes == one.weight_bytes


def test_only_a_tflite_file_has_a_delegate_and_the_others_say_so(counted):
    found = counted("tflite")
    assert 0 < found.delegated_share < 1, "its shape arithmetic is left"
    assert found.partitions == 2
    other = counted("onnx")
    assert other.partitions is None
    assert "no delegate" in other.reasons["partitions"]


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_without_a_run_what_the_file_states_is_counted_and_the_rest_has_a_reason(counted, form):
    found = counted(form, case="")
    assert found.activation_bytes is None
    assert found.reasons["activation_bytes"] == "it was not run"
    assert found.weight_bytes > 0
    assert sum(found.operators.values()) > 5


def test_an_onnx_file_too_large_to_be_handed_over_in_memory_is_counted_alike(counted, samples, tmp_path, monkeypatch):
    from validators.costs import onnx as costs

    written = []
    write = onnx_format.write_model
    monkeypatch.setattr(onnx_format, "write_model", lambda path, model: (written.append(path), write(path, model)))
    monkeypatch.setattr(costs, "IN_MEMORY_BYTES", 0)
    assert costs.count(samples / "digits.onnx", {"image": np.zeros(SHAPES["onnx"], np.float32)}) == counted("onnx")
    assert len(written) == 2


def test_an_operator_that_nobody_knows_is_named_and_not_0(counted, tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in "xy")
    nodes = [helper.make_node("MatMul", ["x", "x"], ["m"]), helper.make_node("Odd", ["m"], ["y"], domain="theirs")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("theirs", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "odd.onnx")
    found = counted("onnx", tmp_path / "odd.onnx", x=np.zeros((4, 4), np.float32))
    assert (found.macs, found.known_macs, found.unknown) == (None, 64, (("theirs.Odd", 1),))
    assert "theirs.Odd" in found.reasons["macs"]
    assert "does not run" in found.reasons["activation_bytes"]


def test_a_damaged_file_is_refused(counted, samples: Path, tmp_path: Path):
    (tmp_path / "cut.tflite").write_bytes((samples / "digits.tflite").read_bytes()[:400])
    with pytest.raises(Exception, match="damaged"):
        counted("tflite", tmp_path / "cut.tflite")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:`torch.jit")
def test_integer_kernels_of_pytorch_are_counted_by_their_packed_weights(counted, tmp_path: Path):
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.ops.quantized.linear_prepack(
                torch.quantize_per_tensor(torch.rand(3, 8), 0.1, 0, torch.qint8), torch.zeros(3)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.quantized.linear_dynamic(x, self.weight)

    torch.jit.save(torch.jit.freeze(torch.jit.trace(Net().eval(), torch.rand(5, 8))), tmp_path / "net.pt")
    found = counted("torchscript", tmp_path / "net.pt", x=np.zeros((5, 8), np.float32))
    assert (found.macs, found.unknown) == (5 * 3 * 8, ())


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "expected"),
    [
        ("CONV_2D", [(1, 8, 8, 4), (6, 3, 3, 2)], (1, 8, 8, 6), 8 * 8 * 6 * 3 * 3 * 2),  # two groups
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 4), (1, 3, 3, 8)], (1, 8, 8, 8), 8 * 8 * 8 * 9),
        ("TRANSPOSE_CONV", [(4,), (6, 3, 3, 4), (1, 5, 5, 4)], (1, 10, 10, 6), 5 * 5 * 4 * 6 * 9),
        ("CONV_3D", [(1, 4, 4, 4, 2), (3, 3, 3, 2, 5)], (1, 4, 4, 4, 5), 64 * 5 * 27 * 2),
        ("CONV_3D_TRANSPOSE", [(5,), (2, 2, 2, 5, 2), (1, 4, 4, 4, 2)], (1, 8, 8, 8, 5), 64 * 2 * 8 * 5),
        ("FULLY_CONNECTED", [(2, 7, 16), (10, 16)], (2, 7, 10), 2 * 7 * 10 * 16),
        ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), 2 * 3 * 4 * 5),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", [(2, 7, 8), *[(16, 8)] * 4, *[(16, 16)] * 4], None, 14 * 4 * 16 * 24),
        ("ADD", [(2, 3), (2, 3)], (2, 3), 0),
        ("CONV_2D", [(1, 8, 8, 4), None], (1, 8, 8, 6), None),
        ("STABLEHLO_DOT_GENERAL", [(2, 3), (3, 4)], (2, 4), None),
    ],
)
def test_multiply_accumulates_of_tflite_operators(kind, inputs, output, expected):
    assert tflite_operators.macs_of(kind, inputs, output) == expected


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "attributes", "expected"),
    [
        ("Conv", [(1, 4, 8, 8), (6, 2, 3, 3)], (1, 6, 8, 8), {"group": 2}, 64 * 6 * 18),
        ("QLinearConv", [(1, 4, 8, 8), (), (), (6, 4, 1, 1)], (1, 6, 8, 8), {}, 64 * 6 * 4),
        ("ConvTranspose", [(1, 4, 5, 5), (4, 3, 2, 2)], (1, 3, 10, 10), {}, 100 * 12),
        ("Gemm", [(16, 2), (16, 10)], (2, 10), {"transA": 1}, 2 * 10 * 16),
        ("MatMul", [(2, 3, 4), (4, 5)], (2, 3, 5), {}, 2 * 3 * 4 * 5),
        ("LSTM", [(7, 2, 8), (2, 64, 8), (2, 64, 16)], None, {}, None),
        ("LSTM", [(7, 2, 8), (2, 64, 8), (2, 64, 16)], (7, 2, 2, 16), {}, 14 * 2 * 64 * 24),
        ("Einsum", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), {"equation": b"bij,bjk->bik"}, 2 * 3 * 4 * 5),
        ("Attention", [(1, 2, 7, 4), (1, 2, 9, 4), (1, 2, 9, 5)], (1, 2, 7, 5), {}, 2 * 7 * 9 * 9),
        ("DFT", [(1, 16, 1)], (1, 16, 2), {}, None),
        ("Softmax", [(2, 3)], (2, 3), {}, 0),
    ],
)
def test_multiply_accumulates_of_onnx_operators(kind, inputs, output, attributes, expected):
    assert onnx_operators.macs_of(kind, inputs, output, attributes) == expected


def test_an_einsum_of_three_operands_is_not_known():
    assert formulas.einsum("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]) is None
    assert formulas.einsum("...ij,jk->...ik", [(2, 3), (3, 4)]) is None
    assert formulas.einsum("ij->ji", [(2, 3)]) == 0


def test_what_no_operator_takes_any_more_is_given_back():
    steps = [Step(("x",), ("a",)), Step(("a",), ("b",)), Step(("b",), ("y",))]
    sizes = {"x": 1, "a": 10, "b": 20, "y": 2}
    assert peak_bytes(steps, sizes, ["x"], ["y"]) == 1 + 10 + 20
    skipping = [*steps[:2], Step(("b", "a"), ("y",))]
    assert peak_bytes(skipping, sizes, ["x"], ["y"]) == 1 + 10 + 20 + 2


def test_memory_that_several_tensors_share_counts_once():
    assert covered([(0, 10), (5, 15), (20, 30), (22, 25)]) == 25


def test_unknown_operators_leave_no_sum():
    macs = Macs()
    macs.add("CONV_2D", 100)
    assert (macs.all, macs.reason()) == (100, {})
    macs.add("Odd", None)
    macs.add("Odd", None)
    assert (macs.all, macs.known, macs.unknown) == (None, 100, (("Odd", 2),))
    assert "Odd 2 are not known; all others make 100" in macs.reason()["macs"]


def test_counts_between_marks_are_read_in_their_order(tmp_path: Path):
    for number, total in {1: 10**9, 2: 30, 10: 50, 3: 40}.items():
        text = f"desc: Trigger: --dump-before=getppid\ntotals: {total}\n"
        (tmp_path / f"counts.{number}").write_text(text)
    (tmp_path / "counts").write_text("desc: Trigger: Program termination\ntotals: 7\n")
    assert counts_in(tmp_path, "counts") == [30, 40, 50]


def executing(path: Path, folder: Path) -> Executing:
    np.savez(folder / "inputs.npz", **{"zeros/image": np.zeros(SHAPES["tflite"], np.float32)})
    return Executing("litert", Subject(SourceFile(str(path), "", "", "", 0)), str(folder / "inputs.npz"), "zeros", ())


def test_without_valgrind_it_is_said_how_to_get_it(samples: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadError, match="valgrind is not installed") as caught:
        execute_counted(executing(samples / "digits.tflite", tmp_path))
    assert "apt install valgrind" in caught.value.fix


def test_a_valgrind_that_does_nothing_gives_no_count(samples: Path, tmp_path: Path, monkeypatch):
    fake = tmp_path / "valgrind"
    fake.write_text("#!/bin/sh\necho 'cannot emulate this' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LoadError, match="does not run under valgrind: cannot emulate this"):
        execute_counted(executing(samples / "digits.tflite", tmp_path))


@pytest.mark.slow
def test_two_counts_of_one_artifact_differ_by_less_than_half_a_percent(samples: Path, tmp_path: Path):
    with Workers(tmp_path / "stages", limits_of(900.0, 0)) as workers:
        job = executing(samples / "digits.tflite", tmp_path)
        one, two = (workers.run(f"count-{at}", execute_counted, job, INSTRUCTIONS).value for at in range(2))
    assert len(one.runs) == RUNS
    assert abs(one.median - two.median) <= 0.005 * one.median
    assert one.median > 10 * DIGITS / 16, "a fused multiply-add makes 8 of them at once"
