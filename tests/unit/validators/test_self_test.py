"""Which places a self-test breaks, and what it says of the outcome."""

from __future__ import annotations

import numpy as np

from validators.mutants import ACTIVATION, AXES, EPSILON, KINDS, SCALED, Spot, pair_to_swap, swapped
from validators.self_test import PER_KIND, Mutant, SelfTest, choose, words_of

SPOTS = [Spot(kind, f"{kind} {number}") for kind in (SCALED, ACTIVATION) for number in range(8)] + [Spot(AXES, "out")]


def test_one_of_every_kind_comes_first_and_no_kind_has_more_than_its_share():
    chosen = [SPOTS[number].kind for number in choose(SPOTS, 0)]
    assert sorted(chosen[:3]) == sorted({SCALED, ACTIVATION, AXES})
    assert [chosen.count(kind) for kind in (SCALED, ACTIVATION, AXES)] == [PER_KIND, PER_KIND, 1]
    assert len(set(choose(SPOTS, 0))) == len(chosen)


def test_the_seed_decides():
    assert choose(SPOTS, 3) == choose(SPOTS, 3)
    assert len({tuple(choose(SPOTS, seed)) for seed in range(8)}) > 1


def test_the_channels_that_are_swapped_differ():
    array = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0]])
    pair = pair_to_swap(array, 0)
    assert pair is not None
    assert (swapped(array, pair, 0) != array).any()
    assert pair_to_swap(np.ones((3, 4)), 0) is None
    assert (swapped(array, (0, 1), 1) == array[:, ::-1]).all()


def test_survivors_are_named_and_what_changed_nothing_is_not_counted():
    tested = SelfTest(
        (
            Mutant(SCALED, "dense", caught=True, reason="errs 300 times"),
            Mutant(ACTIVATION, "relu", caught=False, reason="errs 1.1 times"),
            Mutant(EPSILON, "norm", caught=False, reason="no answer changed on any case", idle=True),
            Mutant(SCALED, "packed", caught=False, reason="read-only", planted=False),
        ),
        absent=(AXES,),
    )
    assert words_of(tested) == [
        "1 of 2 planted faults caught, 1 more changed no answer",
        "SURVIVED: activation replaced, relu: errs 1.1 times",
        "could not be planted: weights scaled, packed: read-only",
        "no place for: output axes swapped",
    ]


def test_a_self_test_that_could_not_be_done_says_why():
    assert words_of(SelfTest(reason="faults are planted in onnx only")) == ["faults are planted in onnx only"]


def test_every_kind_has_a_name_of_its_own():
    assert len(set(KINDS)) == 6
