"""Other kernel paths: each decides as the engine does that proves an artifact, and what did not run is said."""

from __future__ import annotations

import dataclasses

import pytest

from convert.errors import WorkerCrashed
from convert.worker import Environment
from validators import tolerance
from validators.decision import bounds
from validators.inputs import CaseSet
from validators.paths import judge_paths, varied
from validators.policy import Policy
from validators.runtimes import RUNTIMES, Outputs, Runtime, paths_of
from validators.verdict import Finding, Status, Verdict

PASSED = Verdict(Status.PASS, "3 cases", (Finding("determinism", Status.PASS, "the same"),))
FAILED = Verdict(Status.FAIL, "errs 900 times")


@pytest.fixture
def paths():
    """Two other paths of a format of its own, and one that only acquits."""
    names = ("slow", "slower", "elsewhere")
    for name in names:
        runtime = Runtime(
            name, f"the {name} kernels", Environment("none"), open=lambda subject: None, path_of="made_up"
        )
        RUNTIMES.register(dataclasses.replace(runtime, acquits="right on a better processor" * (name == "elsewhere")))
    yield
    for name in names:
        RUNTIMES.unregister(name)


def outputs(runtime: Runtime, failures=()) -> Outputs:
    return Outputs(runtime.name, ("normal-0", "ones-0"), ("y",), failures)


def by_name(**verdicts):
    return lambda ran: verdicts.get(ran.path, PASSED)


def test_a_path_that_fails_decides_and_is_named(paths):
    found = judge_paths("made_up", PASSED, outputs, by_name(slower=FAILED))

    assert found.status is Status.FAIL
    assert found.reason == "on the slower kernels: errs 900 times"
    assert [(path.name, path.status) for path in found.paths] == [("slow", Status.PASS), ("slower", Status.FAIL)]
    assert PASSED.findings[0] in found.findings


def test_paths_that_pass_leave_the_verdict_and_are_listed(paths):
    found = judge_paths("made_up", PASSED, outputs, by_name())

    assert (found.status, found.reason) == (Status.PASS, PASSED.reason)
    assert [(path.title, path.cases) for path in found.paths] == [("the slow kernels", 2), ("the slower kernels", 2)]


def test_a_path_on_which_nothing_runs_is_not_run_and_never_passed(paths):
    def run(runtime):
        if runtime.name == "slow":
            raise WorkerCrashed("killed by SIGSEGV", fix="")
        return outputs(runtime, (("normal-0", "no such kernel"),))

    found = judge_paths("made_up", PASSED, run, by_name())

    assert found.status is Status.PASS
    assert [path.status for path in found.paths] == [Status.NOT_RUN, Status.NOT_RUN]
    assert "killed by SIGSEGV" in found.paths[0].reason
    assert "no such kernel" in found.paths[1].reason


def test_a_path_that_fails_on_a_later_case_only_is_judged(paths):
    found = judge_paths(
        "made_up", PASSED, lambda runtime: outputs(runtime, (("ones-0", "no such kernel"),)), lambda ran: FAILED
    )

    assert found.status is Status.FAIL


def test_what_failed_is_told_where_it_is_right(paths):
    asked = []

    def run(runtime):
        asked.append(runtime.name)
        return outputs(runtime)

    found = judge_paths("made_up", FAILED, run, by_name())

    assert asked == ["elsewhere"]
    assert found.status is Status.FAIL
    assert found.reason == "errs 900 times; right on a better processor"


def test_what_fails_elsewhere_too_is_not_excused(paths):
    assert judge_paths("made_up", FAILED, outputs, by_name(elsewhere=FAILED)).reason == FAILED.reason


def test_what_could_not_be_judged_is_not_run_on_other_paths(paths):
    unknown = Verdict.not_run("vacuous")

    assert judge_paths("made_up", unknown, outputs, by_name()) == unknown


def test_a_run_that_is_cut_short_sees_every_kind_first():
    names = ("normal-0", "normal-1", "ones-0", "batch-2", "probe-x", "user-0", "user-1")
    cases = CaseSet("", tuple((name, ()) for name in names))

    order = varied(cases, names)

    assert order[:5] == ("normal-0", "ones-0", "batch-2", "probe-x", "user-0")
    assert sorted(order) == sorted(names)


def test_every_format_of_the_issue_has_its_paths():
    assert [path.name for path in paths_of("tflite")] == ["litert_builtin", "litert_reference"]
    assert [path.name for path in paths_of("onnx") if not path.acquits] == ["onnxruntime_plain"]
    assert [path.name for path in paths_of("torchscript")] == [
        f"torchscript_{call}" for call in ("first", "second", "third")
    ]


def test_reduced_artifacts_have_more_room_on_other_kernels_and_others_do_not():
    usual, wider = bounds("int8"), bounds("int8", elsewhere=True)

    assert wider.ratio == tolerance.PATH_FACTOR * usual.ratio
    assert dataclasses.replace(wider, ratio=usual.ratio) == usual
    assert bounds("fp32", elsewhere=True) == bounds("fp32")


def test_a_stated_ratio_is_widened_on_other_kernels_too():
    policy = Policy(parity={"ratio": 1.1})

    assert policy.bounds("int8", "y", None).ratio == pytest.approx(1.1)
    assert policy.bounds("int8", "y", None, elsewhere=True).ratio == pytest.approx(1.1 * tolerance.PATH_FACTOR)
    assert policy.bounds("fp32", "y", None, elsewhere=True).ratio == pytest.approx(1.1)
