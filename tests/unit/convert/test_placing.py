"""Where an artifact goes: beside the report where it may take the place of another, else to a folder of its own."""

from __future__ import annotations

import pytest

from convert.pipeline import place
from convert.spec import Artifact, Request, Signature
from validators.budget import Budgeted
from validators.report import Attempt, Stage, TargetReport
from validators.verdict import Finding, Status, Verdict

PASSED = Verdict.of([Finding("contract", Status.PASS, "")])


def target(path, **held):
    artifact = Artifact(str(path), "onnx", "fp32", Signature((), ()), "", 3)
    attempt = Attempt("plan", "", Stage.DONE, "", artifact=artifact, structure=PASSED, parity=PASSED)
    return TargetReport("onnx", "fp32", Status.PASS, "", artifact, (attempt,), 0, **held)


@pytest.fixture
def made(tmp_path):
    """Make an artifact in the folder of stages, and one of an earlier run where it would go."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "m.onnx").write_text("new")
    (tmp_path / "m.onnx").write_text("old")
    return tmp_path


def test_what_is_within_budget_takes_the_place_of_the_artifact_before(made):
    budgets = (Budgeted("file_bytes", Status.PASS, "", 4, "[budget]", 3, 3),)
    placed = place(Request("m.pt", ("onnx",), str(made)), target(made / "stages" / "m.onnx", budgets=budgets))
    assert placed.artifact.path == str(made / "m.onnx")
    assert (made / "m.onnx").read_text() == "new"


@pytest.mark.parametrize(
    "held",
    [
        {"budgets": (Budgeted("file_bytes", Status.FAIL, "", 2, "[budget]", 3, 3),)},
        {"budgets": (Budgeted("latency_ms", Status.NOT_RUN, "", 2, "[budget]"),)},
        {"policy": Verdict.failed("ratio", "too much")},
    ],
    ids=["over budget", "not to be told", "against the policy"],
)
def test_what_a_policy_does_not_pass_replaces_nothing(made, held):
    placed = place(Request("m.pt", ("onnx",), str(made)), target(made / "stages" / "m.onnx", **held))
    assert placed.artifact.path == str(made / "unproven" / "m.onnx")
    assert (made / "m.onnx").read_text() == "old"
