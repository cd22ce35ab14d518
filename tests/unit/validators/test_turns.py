"""Turns cancel what a busy machine does to all alike, and a difference within their spread is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from validators.turns import LEAST_ROUNDS, Share, compared, rounds


@dataclass
class Machine:
    """A clock that work moves on, and that other work slows down more and more."""

    now: float = 0.0
    burden: float = 1.0

    def work(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.burden *= 1.0005
            self.now += seconds * self.burden

        return run

    def shares(self, *seconds: float) -> tuple[Share, ...]:
        return compared(rounds([self.work(one) for one in seconds], lambda: self.now))


def test_a_burden_that_grows_meanwhile_changes_no_ratio():
    first, twice, same = Machine().shares(0.002, 0.004, 0.002)
    assert first.median == pytest.approx(1.0)
    assert twice.median == pytest.approx(2.0, rel=0.02)
    assert twice.slower
    assert same.median == pytest.approx(1.0, rel=0.02)
    assert not same.slower


def test_slow_artifacts_have_a_few_rounds_and_fast_ones_many_calls():
    machine = Machine()
    assert len(rounds([machine.work(10.0), machine.work(1e-5)], lambda: machine.now)[0]) == LEAST_ROUNDS


@pytest.mark.parametrize(
    ("ratios", "slower"),
    [
        ([1.2] * 8, True),
        ([1.04] * 8, False),
        ([0.5] * 8, False),
        ([0.8, 1.3] * 4, False),
        ([0.9, 1.2, 1.2, 1.2] * 2, False),
    ],
)
def test_slower_is_what_most_rounds_say(ratios, slower):
    _, share = compared([[1.0] * len(ratios), ratios])
    assert share.slower is slower
