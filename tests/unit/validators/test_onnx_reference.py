"""The float64 oracle of ONNX models is the graph in PyTorch, and only where it answers as ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convert.errors import LoadError
from convert.onnx_torch import supported
from convert.sources import identify
from validators.runtimes import Subject, reference_for
from validators.runtimes.onnx import disagreement

SAMPLE = Path(__file__).parents[3] / "samples" / "digits.onnx"


def opened(dtype: str = ""):
    return reference_for("onnx").open(Subject(identify(SAMPLE), dtype=dtype))


def test_the_oracle_answers_in_float64_as_onnx_runtime_does():
    image = np.random.default_rng(1).random((3, 1, 8, 8), np.float32)
    native, oracle = (opened(dtype).run({"image": image})["logits"] for dtype in ("", "float64"))
    assert (native.dtype, oracle.dtype) == ("float32", "float64")
    np.testing.assert_allclose(native, oracle, rtol=1e-4, atol=1e-4)


def test_a_graph_that_is_read_wrongly_is_no_oracle(monkeypatch):
    assert "Relu" in supported()
    from convert.onnx_torch.table import OPERATORS

    monkeypatch.setattr(OPERATORS["Relu"], "compute", lambda _, value: value.abs())
    with pytest.raises(LoadError, match="does not answer as ONNX Runtime does: output logits differs"):
        opened("float64")


EXACT = np.linspace(1, 2, 100)


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        (EXACT + 1e-7, ""),
        (EXACT + 1e-2, "differs by"),
        (EXACT[:50], "has the shape"),
        (np.where(EXACT > 1.5, np.nan, EXACT), "no number"),
    ],
    ids=["rounding", "another answer", "another shape", "not a number"],
)
def test_only_rounding_is_agreement(native, reason):
    said = disagreement(EXACT, EXACT.astype(np.float32), native)
    assert said == "" if not reason else reason in said


def test_an_output_that_stays_narrow_is_no_oracle():
    narrow = EXACT.astype(np.float32)
    assert "stayed float32" in disagreement(narrow, narrow, narrow)


def test_classes_must_be_the_same():
    classes = np.array([1, 2, 3])
    assert disagreement(classes, classes, classes) == ""
    assert disagreement(classes, classes, classes[::-1]) == "differs"
