"""Which of several proven artifacts a race keeps."""

from __future__ import annotations

from convert import race
from convert.spec import Artifact, Signature
from validators.latency import Measurement
from validators.report import Attempt, Stage
from validators.verdict import Finding, Status, Verdict

PASSED = Verdict.of([Finding("parity", Status.PASS, "fine")])


def attempt(name, *, fixed=(), micros=None, spread=0.02, size=100, passed=True):
    made = Artifact("x", "tflite", "fp32", Signature((), ()), "", size)
    latency = None
    if micros is not None:
        latency = Measurement(1, 0.0, 0.0, 64, micros * 1e-6, micros * 1e-6, spread, 0)
    verdict = PASSED if passed else Verdict.failed("parity", "wrong")
    return Attempt(
        name, name, Stage.DONE, "", artifact=made, structure=PASSED, parity=verdict, fixed=fixed, latency=latency
    )


def kept(*attempts):
    return attempts[race.winner(attempts)].plan


def test_the_fastest_wins():
    assert kept(attempt("slow", micros=20), attempt("fast", micros=10), attempt("middle", micros=15)) == "fast"


def test_within_the_measured_spread_the_smaller_file_wins():
    assert kept(attempt("fast", micros=100, spread=0.1, size=9), attempt("small", micros=104, size=5)) == "small"


def test_outside_the_measured_spread_a_smaller_file_does_not_win():
    assert kept(attempt("fast", micros=100, spread=0.1, size=9), attempt("small", micros=120, size=5)) == "fast"


def test_equal_files_give_way_to_the_earlier_candidate():
    assert kept(attempt("first", micros=100), attempt("second", micros=100)) == "first"


def test_one_that_was_not_timed_does_not_win_and_none_timed_has_no_winner():
    assert kept(attempt("untimed"), attempt("timed", micros=9000)) == "timed"
    assert race.winner([attempt("untimed")]) is None


def test_only_those_that_passed_are_raced():
    assert race.contenders([attempt("wrong", passed=False), attempt("right")]) == [1]


def test_of_equally_fast_files_the_one_that_keeps_the_free_dimensions_wins_whatever_its_size():
    assert (
        kept(attempt("fixed", micros=100, fixed=(("batch", 1),), size=5), attempt("free", micros=101, size=9)) == "free"
    )


def test_a_faster_file_wins_though_it_fixes_a_dimension():
    assert kept(attempt("fixed", micros=50, fixed=(("batch", 1),)), attempt("free", micros=100)) == "fixed"
