"""What several candidates share is made once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from convert.once import Once


def test_what_many_want_at_once_is_done_once():
    begun, made = Once(), []
    gate = threading.Barrier(4)

    def want(_):
        gate.wait()
        return begun.once("onnx", lambda: made.append(1) or len(made))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(want, range(4))) == [1, 1, 1, 1]
    assert made == [1]


def test_a_failure_is_everybodys():
    begun = Once()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            begun.once("onnx", lambda: 1 // 0)


def test_other_work_is_its_own():
    begun = Once()
    assert (begun.once("a", lambda: 1), begun.once("b", lambda: 2)) == (1, 2)
