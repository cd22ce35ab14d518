"""Between which ends a median is: by the values alone, and wider where processes disagree or there is only one."""

from __future__ import annotations

import random

import pytest

from validators.interval import CONFIDENCE, MEMORY_DIFFERS, ONE_PROCESS_DIFFERS, Interval, of_median, of_memory
from validators.interval import of_processes as between


def test_fewer_than_five_values_make_no_interval():
    assert of_median([1, 2, 3, 4]) is None
    assert of_median([]) is None
    assert of_median([3, 1, 2, 5, 4]) == Interval(1, 5, 0.9375)


@pytest.mark.parametrize(("count", "place"), [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (100, 40)])
def test_the_places_are_those_of_the_tables(count, place):
    # Conover, Practical Nonparametric Statistics: the ends of 95 % intervals of a median.
    found = of_median(range(1, count + 1))
    assert (found.low, found.high) == (place, count + 1 - place)
    assert found.confidence >= CONFIDENCE


@pytest.mark.parametrize("draw", [lambda rng: rng.expovariate(0.693147), lambda rng: 2 ** rng.gauss(0, 3)])
@pytest.mark.parametrize("count", [12, 101, 1200])
def test_the_median_is_in_the_interval_as_often_as_it_says_whatever_the_distribution(draw, count):
    rng = random.Random(0)
    found = [of_median([draw(rng) for _ in range(count)]) for _ in range(400)]
    inside = sum(one.low <= 1.0 <= one.high for one in found)
    assert inside / 400 >= CONFIDENCE - 0.03
    assert inside < 400, "an interval that is never wrong says nothing"


def test_one_process_alone_is_not_taken_for_what_others_would_measure():
    found = between([[2.0] * 100])
    assert (found.low, found.high) == (
        pytest.approx(2 * (1 - ONE_PROCESS_DIFFERS)),
        pytest.approx(2 * (1 + ONE_PROCESS_DIFFERS)),
    )


def test_processes_that_disagree_widen_the_interval_to_their_medians():
    found = between([[2.0] * 100, [2.1] * 100, [1.9] * 5])
    assert (found.low, found.high) == (1.9, 2.1)
    assert between([[2.0] * 100] * 5) == Interval(2.0, 2.0, pytest.approx(0.9537, abs=0.02))


def test_memory_is_between_the_processes_or_below_the_mark_of_a_whole_life():
    found = of_memory([100, 120], marked=True)
    assert (found.low, found.high) == (100 * (1 - MEMORY_DIFFERS), 120 * (1 + MEMORY_DIFFERS))
    assert of_memory([100], marked=False).low == 0
