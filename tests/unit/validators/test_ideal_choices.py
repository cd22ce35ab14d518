"""An ideal has the integers its artifact chose where those are roundings of the float weights, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from validators.ideals._choices import chosen

RNG = np.random.default_rng(0)
LEVELS = RNG.normal(0, 40, (4, 64))
NONE = np.zeros(())


def test_the_nearest_integers_are_taken_as_they_are():
    assert (chosen(LEVELS, np.rint(LEVELS), NONE, 0) == np.rint(LEVELS)).all()


def test_roundings_to_either_side_are_the_quantizers_choice():
    either = np.floor(LEVELS) + RNG.integers(0, 2, LEVELS.shape)
    assert (chosen(LEVELS, either, NONE, 0) == either).all()


@pytest.mark.parametrize("fault", [lambda held: held * 1.2, lambda held: held + 3], ids=["scale", "zero point"])
def test_a_channel_that_is_off_is_not_taken_and_the_others_are(fault):
    wrong = np.rint(LEVELS)
    wrong[2] = np.rint(fault(wrong[2]))
    either = np.floor(LEVELS) + RNG.integers(0, 2, LEVELS.shape)
    either[2] = wrong[2]

    found = chosen(LEVELS, either, NONE, 0)
    assert (found[2] == np.rint(LEVELS[2])).all()
    assert (found[[0, 1, 3]] == either[[0, 1, 3]]).all()


def test_few_levels_that_are_all_larger_are_no_choice_though_each_is_within_a_step():
    levels = RNG.normal(0, 3, (1, 4096)).clip(-7, 7)
    larger = np.rint(levels * 1.1)

    assert (np.abs(larger - levels) < 1.3).all()
    assert (chosen(levels, larger, NONE, None) == np.rint(levels)).all()


def test_zero_points_are_no_part_of_a_levels_size():
    zero = np.full((4, 1), 128.0)
    either = np.floor(LEVELS + zero) + RNG.integers(0, 2, LEVELS.shape)
    assert (chosen(LEVELS + zero, either, zero, 0) == either).all()


def test_another_shape_is_no_choice():
    assert (chosen(LEVELS, np.rint(LEVELS).T, NONE, 0) == np.rint(LEVELS)).all()
