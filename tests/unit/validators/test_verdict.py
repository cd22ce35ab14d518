"""The status of a judgement: never better than its worst part, and never green without one."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from validators.verdict import Finding, OutputParity, Status, Verdict

SEVERITY = {Status.PASS: 0, Status.NOT_RUN: 1, Status.FAIL: 2}


def finding(status: Status, message: str = "") -> Finding:
    return Finding("check", status, message or f"said {status.value}")


def output(status: Status, name: str = "logits") -> OutputParity:
    return OutputParity(name, status, f"measured {status.value}", "float64", 10)


@pytest.mark.parametrize("statuses", list(itertools.product(Status, repeat=3)))
def test_the_worst_status_wins_in_any_order(statuses):
    assert Status.worst(statuses) is max(statuses, key=SEVERITY.__getitem__)


def test_no_status_at_all_is_not_run():
    assert Status.worst([]) is Status.NOT_RUN


def test_a_verdict_without_findings_is_not_run_and_says_so():
    verdict = Verdict.of([])

    assert verdict.status is Status.NOT_RUN
    assert verdict.reason == "nothing was judged"


def test_a_verdict_without_findings_is_not_run_even_with_words_for_passing():
    assert Verdict.of([], [], passed="all is well").status is Status.NOT_RUN


def test_a_passing_verdict_says_what_it_rests_on():
    verdict = Verdict.of([finding(Status.PASS)], [output(Status.PASS)], passed="36 cases")

    assert (verdict.status, verdict.reason) == (Status.PASS, "36 cases")


@pytest.mark.parametrize("worst", [Status.NOT_RUN, Status.FAIL])
def test_one_bad_finding_among_good_ones_decides_and_gives_the_reason(worst):
    verdict = Verdict.of([finding(Status.PASS), finding(worst, "the dog ate it"), finding(Status.PASS)], passed="fine")

    assert (verdict.status, verdict.reason) == (worst, "the dog ate it")


@pytest.mark.parametrize("worst", [Status.NOT_RUN, Status.FAIL])
def test_one_bad_output_among_good_ones_decides_and_is_named(worst):
    verdict = Verdict.of([finding(Status.PASS)], [output(Status.PASS), output(worst, "boxes")], passed="fine")

    assert verdict.status is worst
    assert verdict.reason == f"boxes: measured {worst.value}"


def test_the_reason_of_a_failure_is_not_that_of_something_that_was_not_run():
    verdict = Verdict.of([finding(Status.NOT_RUN, "skipped")], [output(Status.FAIL)])

    assert verdict.reason == "logits: measured FAIL"


def test_every_finding_and_output_is_kept():
    findings, outputs = [finding(Status.PASS), finding(Status.FAIL)], [output(Status.PASS), output(Status.FAIL)]

    verdict = Verdict.of(iter(findings), iter(outputs))

    assert (verdict.findings, verdict.outputs) == (tuple(findings), tuple(outputs))


def test_a_stage_that_was_not_run_holds_its_reason_as_a_finding():
    verdict = Verdict.not_run("no engine")

    assert (verdict.status, verdict.reason) == (Status.NOT_RUN, "no engine")
    assert Verdict.of(verdict.findings).status is Status.NOT_RUN


def test_a_stage_that_failed_as_a_whole_holds_its_reason_as_a_finding():
    verdict = Verdict.failed("runs", "it crashed")

    assert (verdict.status, verdict.reason) == (Status.FAIL, "it crashed")
    assert Verdict.of(verdict.findings).status is Status.FAIL


def test_a_verdict_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Verdict.not_run("no engine").status = Status.PASS
