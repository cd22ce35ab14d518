"""Resident memory of this process, its high-water mark and starting that over."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from validators.memory import peak_bytes, reset_peak, resident_bytes

BLOCK = 64 << 20


def touch() -> np.ndarray:
    return np.ones(BLOCK, np.uint8)


def test_memory_that_is_held_is_resident():
    before = resident_bytes()

    block = touch()

    assert resident_bytes() - before > 0.9 * block.nbytes


def test_the_peak_remembers_memory_that_was_given_back():
    before = resident_bytes()

    touch()

    assert peak_bytes() - before > 0.9 * BLOCK


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the high-water mark over")
def test_a_peak_that_is_started_over_forgets_what_was_given_back():
    touch()
    high = peak_bytes()

    assert reset_peak()

    assert peak_bytes() < high - 0.5 * BLOCK


def test_the_peak_is_at_least_what_is_resident():
    reset_peak()

    assert peak_bytes() >= resident_bytes() * 0.99
