"""A source that does not survive float64: what is taken for that, and what is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from convert.errors import RunStopped, StageFailed, WorkerCrashed, WorkerLost
from convert.spec import LoadOptions, Signature, SourceFile
from validators import prove
from validators.inputs import CaseSet
from validators.runtimes import Outputs


class Machine:
    """Workers in whose place the run as it is answers, and that in float64 raises."""

    def __init__(self, folder, error, *, stopped=False):
        self.folder, self.error, self.stopped = folder, error, stopped

    def run(self, stage, call, job, environment):
        if stage == "oracle":
            raise self.error
        return SimpleNamespace(value=Outputs("", job.only, ("y",)), seconds=0.0, command="")

    def require_open(self):
        if self.stopped:
            raise RunStopped("the run was stopped")


@pytest.fixture
def source_run(tmp_path, monkeypatch):
    """Run a source of which nothing but the float64 fails, with `error`."""
    monkeypatch.setattr(prove.parity, "answers_again", lambda _: True)
    monkeypatch.setattr(prove, "answered", lambda cases, *_: cases)
    monkeypatch.setattr(prove, "rehearse", lambda *_: None)
    cases = CaseSet(str(tmp_path / "inputs.npz"), (("zeros", ()),))
    source = SourceFile("m.pt2", "exported_program", "", "", 0)

    def run(error, **how):
        machine = Machine(tmp_path, error, **how)
        return prove.run_source(machine, source, LoadOptions(), Signature((), ()), cases)

    return run


def test_a_process_that_dies_in_float64_is_told_in_a_line_and_can_be_repeated(source_run):
    found = source_run(WorkerCrashed("the process of stage oracle was killed by SIGKILL:\n  | a line of its log"))
    assert found.report.oracle == "in float64 the process of stage oracle was killed by SIGKILL"
    assert found.outputs.oracle is None
    assert "oracle.json" in next(run.command for run in found.report.stages if run.stage == "oracle")


def test_an_interrupted_run_is_no_lack_of_an_oracle(source_run):
    with pytest.raises(RunStopped):
        source_run(WorkerCrashed("was killed"), stopped=True)


@pytest.mark.parametrize("error", [StageFailed("TypeError: a fault of ours"), WorkerLost("ended before it began")])
def test_what_is_not_of_float64_ends_the_run_as_ever(source_run, error):
    with pytest.raises(type(error)):
        source_run(error)
