"""The numbers that decide a parity verdict fit each other and the arithmetic they are about."""

from __future__ import annotations

import numpy as np

from convert.spec import FP32, PRECISIONS
from validators import tolerance


def test_every_precision_has_a_bound_and_fp32_one_without_a_float64_oracle():
    assert set(tolerance.RATIO_BOUNDS) == set(PRECISIONS)
    # A reduced precision is held against its ideal, which exists whether or not the source runs in float64.
    assert set(tolerance.SCALED_MAX) == {FP32}


def test_an_artifact_that_rounds_as_its_source_does_is_within_every_bound():
    assert all(bound > 1 for bound in tolerance.RATIO_BOUNDS.values())
    assert tolerance.CASE_FACTOR > 1


def test_the_floor_is_some_roundings_of_float32_and_far_below_any_fault_worth_finding():
    assert np.finfo(np.float32).eps < tolerance.FLOOR < 1e-5


def test_the_tolerance_without_an_oracle_is_wider_than_the_floor():
    assert all(bound > tolerance.FLOOR for bound in tolerance.SCALED_MAX.values())
