"""Faults that show only step after step, or at a size that no stride divides: each is caught, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from convert.formats import recognise
from convert.sources import identify
from convert.spec import Artifact, LoadOptions, Signature, sha256_of, signature_file
from convert.worker import Workers, limits_of
from validators.prove import Baseline, Proof, first_cases, load_source, prove, run_source
from validators.verdict import Status

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

Gate = tuple[Baseline, Callable[[Path], Proof]]


def saved(module: torch.nn.Module, path: Path, spec: str) -> Path:
    """Compile a module and save it with its signature."""
    torch.jit.save(torch.jit.script(module.eval()), str(path), _extra_files=signature_file(spec, outputs=["y"]))
    return path


def gate(source: Path, folder: Path) -> Iterator[Gate]:
    """Run a source once, and prove files against it."""
    with Workers(folder, limits_of(300, 0)) as workers:
        file, options = identify(source), LoadOptions()
        facts, _ = load_source(workers, file, options)
        cases = first_cases(workers, facts.signature, seed=0, user=None)
        baseline = run_source(workers, file, options, facts.signature, cases)

        def judge(path: Path) -> Proof:
            form = recognise(path).name
            artifact = Artifact(str(path), form, "fp32", Signature((), ()), sha256_of(path), path.stat().st_size)
            return prove(workers, baseline, artifact, f"{form}-{path.stem}")

        yield baseline, judge


# A running sum


class Sum(torch.nn.Module):
    """Adds what it is given to a buffer, a part of which leaks away at every step."""

    def __init__(self, *, start: float = 0.0, kept: float = 0.5, steps: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 4)
        self.kept, self.steps = kept, steps
        self.register_buffer("total", torch.full((1, 4), start))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        kept = torch.where(self.count > self.steps, 0.0, self.kept)
        self.total.copy_(self.total * kept + self.layer(x))
        return self.total * 1.0


STEP = "x:float32[1,4]"


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("summing")
    yield from gate(saved(Sum(), folder / "source.pt", STEP), folder / "work")


def test_a_source_with_a_state_is_judged_step_by_step(summing, tmp_path):
    _, judge = summing

    proof = judge(saved(Sum(), tmp_path / "same.pt", STEP))

    assert proof.parity.status is Status.PASS
    assert "steps from a fresh start, judged by R against float64" in proof.parity.reason
    assert any(finding.check == "state" for finding in proof.parity.findings)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Sum(kept=0.0), "loses the state of its source"),
        (Sum(kept=0.4999), "times what its source does"),
        (Sum(start=1e-3), "times what its source does"),
        (Sum(steps=9), "loses the state of its source"),
    ],
    ids=["state lost", "another leak", "another start", "lost after nine steps"],
)
def test_an_artifact_with_another_state_fails(summing, tmp_path, broken, words):
    proof = summing[1](saved(broken, tmp_path / "broken.pt", STEP))

    assert proof.parity.status is Status.FAIL
    assert words in proof.parity.reason


def test_an_onnx_file_without_a_state_fails_by_that_name(summing, tmp_path):
    layer = Sum().layer
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "forgetful",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(getattr(layer, name).detach().numpy(), name[0]) for name in ("weight", "bias")],
    )
    path = tmp_path / "forgetful.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

    proof = summing[1](path)

    assert proof.parity.status is Status.FAIL
    assert proof.parity.reason.startswith("the artifact loses the state of its source")


class Noisy(torch.nn.Module):
    """Answers at random."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(1, 4)


def test_a_random_source_has_no_state_and_proves_nothing(tmp_path):
    source = saved(Noisy(), tmp_path / "noisy.pt", STEP)

    for baseline, judge in gate(source, tmp_path / "work"):
        assert not baseline.cases.steps
        assert judge(source).parity.status is Status.NOT_RUN


# A length that no stride divides


class Halved(torch.nn.Module):
    """Takes the larger of every two, and the last one where it is alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.max_pool1d(torch.sin(x), 2, ceil_mode=True)


class Folded(torch.nn.Module):
    """Runs at even lengths alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x).reshape(x.shape[0], 3, -1, 2).sum(-1)


LENGTH = "x:float32[1,3,time]"


def pooled(path: Path, ceil_mode: int) -> Path:
    """Write the ONNX file of `Halved`, which keeps the last one or not."""
    graph = helper.make_graph(
        [
            helper.make_node("Sin", ["x"], ["sines"]),
            helper.make_node("MaxPool", ["sines"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=ceil_mode),
        ],
        "pooled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "time"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "half"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_fault_at_lengths_that_two_does_not_divide_is_caught(tmp_path):
    for _, judge in gate(saved(Halved(), tmp_path / "halved.pt", LENGTH), tmp_path / "work"):
        right, wrong = (judge(pooled(tmp_path / f"ceil-{mode}.onnx", mode)) for mode in (1, 0))

        assert right.parity.status is Status.PASS
        assert wrong.parity.status is Status.FAIL
        assert "time-17" in wrong.parity.reason


def test_a_length_at_which_the_source_itself_does_not_run_is_left_out_and_said(tmp_path):
    source = saved(Folded(), tmp_path / "folded.pt", LENGTH)

    for baseline, judge in gate(source, tmp_path / "work"):
        proof = judge(source)

        assert proof.parity.status is Status.PASS
        assert "time-24" in baseline.cases.names
        assert "time-17" not in baseline.cases.names
        assert any("time-17 is left out: the source does not run on it" in note for note in baseline.cases.notes)
