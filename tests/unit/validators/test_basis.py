"""Which extreme cases and odd sizes are left out for the source's own sake, and that this is said."""

from __future__ import annotations

import numpy as np
import pytest

from validators.basis import answered
from validators.inputs import CaseSet
from validators.runtimes import Outputs

CASES = CaseSet(
    "",
    tuple((name, ()) for name in ("normal-0", "saturation-0", "denormals-0", "time-17", "time-24")),
    evaluation=("normal-0",),
    flushed=(("denormals-0", "flushed-denormals-0"),),
    extremes=("saturation-0", "denormals-0"),
    optional=("time-17",),
)
ROW = np.array([[1.0, 2.0, 3.0]], "float32")
SOUND = dict.fromkeys((*CASES.for_source,), ROW)


@pytest.fixture
def source(tmp_path):
    def write(answers, failures=()):
        path = tmp_path / "answers.npz"
        np.savez(path, **{f"{case}/y": array for case, array in answers.items()})
        return Outputs(str(path), tuple(answers), ("y",), tuple(failures))

    return write


def left_out(cases):
    return set(CASES.names) - set(cases.names)


def test_what_a_source_answers_soundly_stays(source):
    assert answered(CASES, source(SOUND), "") == CASES


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_extreme_case_on_which_the_source_is_not_finite_is_left_out_and_said(source, value):
    found = answered(CASES, source({**SOUND, "saturation-0": ROW * np.float32(value)}), " in float64")

    assert left_out(found) == {"saturation-0"}
    assert found.notes == ("saturation-0 is left out: the source in float64 is not finite on it",)


def test_what_is_never_finite_leaves_no_case_out(source):
    masked = np.array([[1.0, -np.inf, 3.0]], "float32")

    assert left_out(answered(CASES, source(dict.fromkeys(SOUND, masked)), "")) == set()


def test_an_everyday_case_on_which_the_source_is_not_finite_stays(source):
    assert left_out(answered(CASES, source({**SOUND, "time-24": ROW * np.float32(np.nan)}), "")) == set()


def without(*names):
    return {case: array for case, array in SOUND.items() if case not in names}


@pytest.mark.parametrize("case", ["time-17", "saturation-0"])
def test_a_case_that_a_source_need_not_run_is_left_out_and_said(source, case):
    found = answered(CASES, source(without(case), [(case, "no multiple of 8")]), "")

    assert left_out(found) == {case}
    assert "no multiple of 8" in found.notes[0]


def test_a_size_that_every_source_must_run_stays(source):
    assert left_out(answered(CASES, source(without("time-24"), [("time-24", "no")]), "")) == set()


def test_denormals_that_are_no_zeros_to_the_source_are_left_out_and_said(source):
    found = answered(CASES, source({**SOUND, "denormals-0": ROW * 2}), "")

    assert left_out(found) == {"denormals-0"}
    assert "zeros, which engines may take denormal numbers for" in found.notes[0]


def test_denormal_answers_to_denormals_stay(source):
    tiny = {**SOUND, "denormals-0": ROW * np.float32(1e-40), "flushed-denormals-0": ROW * 0}

    assert left_out(answered(CASES, source(tiny), "")) == set()
