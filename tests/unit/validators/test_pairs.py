"""What pairs of timings say: an interval that is honest about blocks, and a verdict that says no more than it."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import Counter

import pytest

from validators.contest import LEAST_PAIRS, MOST_PAIRS, ORDER, VISIT_PAIRS, Bout, Took, rounds, timer
from validators.pairs import (
    CANNOT_TELL,
    FASTER,
    LEAST_EFFECT,
    SAME,
    SAME_WITHIN,
    SLOWER,
    Interval,
    detectable,
    expanded,
    interval,
    regression,
    verdict,
)
from validators.runtimes import Inference
from validators.verdict import Status


def blocks(effect, seed, *, count=6, pairs=12, of_blocks=0.01, of_pairs=0.03):
    """Make up log-ratios of blocks that differ, of pairs that do, one in twenty of them disturbed by other work."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        lies = rng.gauss(0, of_blocks)
        found.append(
            [
                math.log1p(effect) + lies + rng.gauss(0, of_pairs) + (rng.random() < 0.05) * rng.choice((-1, 1)) * 0.5
                for _ in range(pairs)
            ]
        )
    return found


def judged(effect, seed, **noise):
    """Judge an artifact that takes so much longer, on a machine whose control is as noisy."""
    control = interval(blocks(0, seed + 1000, **noise))
    return verdict(interval(blocks(effect, seed, **noise)), detectable(control))


# The interval


def test_pairs_that_agree_give_their_ratio_and_no_spread():
    found = interval([[math.log(1.1)] * 5] * 6)

    assert (found.ratio, found.low, found.high) == (pytest.approx(1.1),) * 3


def test_equal_pairs_give_equal_intervals():
    assert interval(blocks(0.05, 1)) == interval(blocks(0.05, 1))


def test_an_interval_has_the_truth_in_it_as_often_as_it_says():
    found = [interval(blocks(0.05, seed, pairs=6)) for seed in range(60)]

    assert sum(one.low <= 1.05 <= one.high for one in found) >= 56


def test_blocks_that_differ_make_the_interval_wide_however_many_pairs_they_have():
    alike, apart = (interval(blocks(0, 3, pairs=40, of_blocks=spread)) for spread in (0.0, 0.05))

    assert apart.high - apart.low > 3 * (alike.high - alike.low)


def test_one_disturbed_pair_of_a_block_moves_nothing():
    calm = blocks(0, 5, of_pairs=0.005)
    disturbed = [[*block[:-1], block[-1] + 2.0] for block in calm]

    assert interval(disturbed).ratio == pytest.approx(interval(calm).ratio, abs=0.005)


def test_fewer_blocks_are_cut_off_farther_out():
    assert expanded(5) < expanded(8) < expanded(24) < 0.025


def test_one_block_is_no_interval():
    with pytest.raises(ValueError, match="two blocks"):
        interval([[0.0, 0.1]])


# The verdict


@pytest.mark.parametrize(
    ("low", "ratio", "high", "least", "said"),
    [
        (1.03, 1.05, 1.07, 0.02, SLOWER),
        (0.93, 0.95, 0.97, 0.02, FASTER),
        (0.99, 1.00, 1.01, 0.01, SAME),
        (0.99, 1.05, 1.12, 0.02, CANNOT_TELL),
        (0.90, 1.00, 1.10, 0.02, CANNOT_TELL),
        (1.03, 1.05, 1.07, 0.06, CANNOT_TELL),  # the first artifact differs from itself by more
        (0.93, 0.95, 0.97, 0.06, CANNOT_TELL),
        (0.99, 1.00, 1.01, 0.05, CANNOT_TELL),  # a control that differs by 5 % shows no sameness within 3 %
        (1.004, 1.005, 1.006, 0.001, SAME),  # sure, and of no account
    ],
)
def test_a_verdict_says_no_more_than_interval_and_control_do(low, ratio, high, least, said):
    assert verdict(Interval(ratio, low, high), least) == said


def test_what_can_be_detected_is_what_an_artifact_shows_against_itself():
    assert detectable(Interval(1.0, 0.97, 1.01)) == pytest.approx(0.03)
    assert detectable(Interval(1.0, 0.99, 1.04)) == pytest.approx(0.04)
    assert LEAST_EFFECT < SAME_WITHIN


@pytest.mark.parametrize("noise", [{}, {"of_blocks": 0.03}, {"of_pairs": 0.1}, {"count": 5, "pairs": 3}])
def test_an_artifact_is_never_slower_than_itself(noise):
    said = [judged(0.0, seed, **noise) for seed in range(20)]

    assert SLOWER not in said
    assert said.count(FASTER) <= 1, "one in twenty is what an interval of 95 % allows"


def test_ten_per_cent_of_extra_work_is_slower_and_less_is_faster():
    assert [judged(0.10, seed) for seed in range(20)].count(SLOWER) >= 18
    assert [judged(-0.10, seed) for seed in range(20)].count(FASTER) >= 18


# What is allowed


@pytest.mark.parametrize(
    ("low", "ratio", "high", "least", "status"),
    [
        (0.99, 1.02, 1.04, 0.01, Status.PASS),
        (1.06, 1.08, 1.10, 0.01, Status.FAIL),
        (1.02, 1.04, 1.06, 0.01, Status.NOT_RUN),
        (0.99, 1.00, 1.01, 0.08, Status.NOT_RUN),  # the control was worse than the limit
        (1.06, 1.08, 1.10, 0.09, Status.NOT_RUN),
        (0.50, 0.55, 0.60, 0.01, Status.PASS),
        (0.50, 0.55, 0.60, 0.80, Status.PASS),  # so far from the limit that the control's difference does not matter
        (0.50, 0.65, 0.70, 0.80, Status.NOT_RUN),
    ],
)
def test_a_regression_passes_or_fails_only_where_the_whole_interval_does(low, ratio, high, least, status):
    assert regression(Interval(ratio, low, high), least, 0.05) is status


# Turns


class Machine:
    """A machine on a clock of its own, which other work slows down more and more."""

    def __init__(self, *seconds, burden=1.001):
        self.now = 0.0
        self.turns = []
        self._seconds = seconds
        self._burden = burden

    def turn(self, number, count, start):
        self.turns.append((number, count, start))
        began = self.now
        for _ in range(count):
            self.now += self._seconds[number] * self._burden ** len(self.turns)
        took = (self.now - began) / count
        return Took(took, took)

    def clock(self):
        return self.now


def test_a_burden_that_grows_meanwhile_changes_no_ratio():
    machine = Machine(0.005, 0.010, burden=1.01)
    ((*pairs,),) = rounds((Bout(0, 1, (1, 1)),), machine.turn, machine.clock)

    assert statistics.median(pair.second.wall / pair.first.wall for pair in pairs) == pytest.approx(2.0, rel=0.001)


def test_turns_go_forwards_and_backwards_on_the_same_inputs_after_one_of_each_that_does_not_count():
    machine = Machine(0.005, 0.005)
    rounds((Bout(0, 1, (3, 4)),), machine.turn, machine.clock)

    def turns(sides, number):
        return [(side, (3, 4)[side], number) for side in sides]

    assert machine.turns[:18] == turns([0, 1], 0) + turns(ORDER, 0) + turns(ORDER, 1)


def test_what_does_not_count_is_in_no_pair():
    machine = Machine(0.1, 0.1, burden=1.0)
    turns = []

    def turn(number, count, start):
        machine.turn(number, count, start)
        turns.append(number)
        return Took(float(len(turns) > 2), 0.0)

    ((first, *_),) = rounds((Bout(0, 1, (1, 1)),), turn, machine.clock)

    assert (first.first.wall, first.second.wall) == (1.0, 1.0)


def test_bouts_go_in_rotation_some_pairs_at_a_time():
    machine = Machine(0.001, 0.001, 0.001)
    first, second = rounds((Bout(0, 1, (1, 1)), Bout(0, 2, (1, 1))), machine.turn, machine.clock)

    visit = 2 + VISIT_PAIRS * len(ORDER)
    assert len(first) == len(second)
    assert [{number for number, _, _ in machine.turns[n * visit : (n + 1) * visit]} for n in range(4)] == [
        *({0, 1}, {0, 2}, {0, 1}, {0, 2})
    ]


def test_neither_side_of_a_pair_finds_the_caches_its_own_more_often():
    """In a row of pairs: how many turns ago each turn's artifact ran before."""
    row = ORDER * 3
    ago = {0: Counter(), 1: Counter()}
    for place in range(len(ORDER), 2 * len(ORDER)):
        ago[row[place]][next(n for n in range(1, 9) if row[place - n] == row[place])] += 1

    assert ago[0] == ago[1]


@pytest.mark.parametrize("power", [1, 2])
def test_a_drift_of_the_machine_is_in_both_sides_of_a_pair_alike(power):
    sums = [sum(place**power for place, side in enumerate(ORDER) if side == one) for one in (0, 1)]
    assert sums[0] == sums[1]


@pytest.mark.parametrize(("seconds", "calls"), [(0.0, 2 * (1 + 3)), (0.02, 1 + 3 + 3)])
def test_a_turn_of_a_fast_artifact_begins_with_an_inference_that_does_not_count(seconds, calls):
    seen, placed = [], []

    def inference(name):
        def infer():
            seen.append(name)
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass

        return Inference(infer, lambda: placed.append(name))

    turn = timer([inference("first"), inference("second")])
    turn(3, 1)
    took = turn(3, 2)

    assert len(seen) == calls
    assert seen[:5] == [*["second"] * 4, "first"]
    assert placed == ["second", "first"]  # once a turn, before it is timed
    assert took.cpu >= seconds


def test_slow_artifacts_make_a_few_pairs_and_fast_ones_no_more_than_enough():
    slow, fast = Machine(10.0, 10.0), Machine(1e-6, 1e-6)

    assert len(rounds((Bout(0, 1, (1, 1)),), slow.turn, slow.clock)[0]) == LEAST_PAIRS
    assert len(rounds((Bout(0, 1, (1, 1)),), fast.turn, fast.clock)[0]) == MOST_PAIRS
