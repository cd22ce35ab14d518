"""Resident memory of this process, its high-water mark and starting that over."""

from __future__ import annotations

import mmap
import sys

import numpy as np
import pytest

from validators.memory import Marks, held, highest, peak_bytes, reset_peak, resident_bytes

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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory apart")
def test_memory_of_no_file_is_told_from_a_mapped_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"\1" * BLOCK)

    reset_peak()
    before = held()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == BLOCK // mmap.PAGESIZE
        of_file = highest().over(before)
    reset_peak()
    before = held()
    touch()
    of_none = highest().over(before)

    assert of_file.resident > 0.9 * BLOCK
    assert of_file.anonymous < 0.1 * BLOCK
    assert of_none.resident > 0.9 * BLOCK
    assert of_none.anonymous > 0.9 * BLOCK


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the high-water mark over")
def test_what_an_allocation_adds_is_the_same_every_time_within_one_per_cent():
    def added():
        reset_peak()
        before = held()
        touch()
        return highest().over(before)

    found = [added() for _ in range(5)]

    assert max(mark.resident for mark in found) - min(mark.resident for mark in found) < 0.01 * BLOCK
    assert max(mark.anonymous for mark in found) - min(mark.anonymous for mark in found) < 0.01 * BLOCK


def test_what_is_less_than_before_is_nothing_and_what_is_unknown_stays_so():
    assert Marks(5, 3).over(Marks(9, 1)) == Marks(0, 2)
    assert Marks(5, None).over(Marks(1, None)) == Marks(4, None)
