"""What a reduced artifact gains over the float one, in words."""

from __future__ import annotations

import dataclasses

import pytest

from convert.spec import Artifact, Signature
from validators.beside import set_beside
from validators.latency import Measurement
from validators.report import TargetReport
from validators.verdict import Status


def target(size, median, spread=0.02, withheld=""):
    made = Artifact("m.tflite", "tflite", "fp32", Signature((), ()), "", size)
    timing = Measurement(1, 0.1, 0.1, 64, median, median, spread, 0, withheld=withheld)
    return TargetReport("tflite", "fp32", Status.PASS, "", made, (), 0, (timing,))


@pytest.mark.parametrize(
    ("median", "said"),
    [(0.5, "2 times as fast"), (2.6, "2.6 times SLOWER"), (1.001, "as fast within the measured spread")],
)
def test_faster_and_slower_are_said_where_the_timings_can_tell(median, said):
    found = set_beside(target(270, median), target(1000, 1.0))

    assert said in found.remarks[-1]
    assert found.remarks[-1].startswith("27% of the float artifact's size")
    assert found.beside is not None
    assert found.beside.file_bytes == 1000


def test_a_withheld_latency_claims_nothing():
    assert "is not known" in set_beside(target(270, None, None, "not stable"), target(1000, 1.0)).remarks[-1]


def test_what_was_not_made_has_nothing_beside_it():
    missing = dataclasses.replace(target(1, 1.0), artifact=None)

    assert set_beside(missing, target(1000, 1.0)) == missing


def test_what_makes_it_slow_is_asked_for_only_where_it_is_slow():
    why = lambda: "3 operators off the delegate"  # noqa: E731

    assert set_beside(target(270, 2.6), target(1000, 1.0), why).remarks[-1].endswith("3 operators off the delegate")
    assert "delegate" not in set_beside(target(270, 0.5), target(1000, 1.0), why).remarks[-1]
