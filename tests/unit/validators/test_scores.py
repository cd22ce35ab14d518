"""The metrics known by name: what they are worth by hand, and what does not fit them."""

from __future__ import annotations

import numpy as np
import pytest

from convert.errors import UnknownName, UsageError
from validators.scores import BOXES, MIOU, PERPLEXITY, TOP1, TOP5, named

RNG = np.random.default_rng(0)


def score(metric, source, labels, artifact=None):
    """Score the source's answers, or an artifact's."""
    _, judge, right = named(metric, source, labels)
    return judge(source if artifact is None else artifact, right)


def test_top_five_counts_what_is_among_the_five_best():
    scores = np.tile(np.arange(10, dtype="float32"), (10, 1))  # the best are 9, 8, 7, 6, 5
    labels = {"labels": np.arange(10)}
    assert score(TOP5, {"out": scores}, labels).tolist() == [0] * 5 + [1] * 5
    assert score(TOP1, {"out": scores}, labels).tolist() == [0] * 9 + [1]


@pytest.mark.parametrize("axis", [-1, 1], ids=["classes last", "classes second"])
def test_mean_iou_is_that_of_every_class(axis):
    want = np.array([[[0, 0, 0], [1, 1, 1]], [[0, 0, 0], [0, 0, 2]]])
    given = np.array([[[0, 0, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 1]]])
    scores = np.moveaxis(np.eye(3, dtype="float32")[given], -1, axis)
    # Class 0: 7 of 8; class 1: 3 of 5; class 2: 0 of 1.
    assert score(MIOU, {"map": scores}, {"labels": want}) == pytest.approx((7 / 8 + 3 / 5 + 0) / 3)


def test_perplexity_takes_logits_and_probabilities():
    logits = RNG.standard_normal((20, 5)).astype("float32")
    odds = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = {"labels": RNG.integers(0, 5, 20)}
    right = odds[np.arange(20), labels["labels"]]
    assert score(PERPLEXITY, {"out": logits}, labels) == pytest.approx(np.exp(np.log(right).mean()), rel=1e-5)
    assert score(PERPLEXITY, {"out": odds}, labels) == pytest.approx(np.exp(np.log(right).mean()), rel=1e-5)
    words = logits.reshape(4, 5, 5)
    assert score(PERPLEXITY, {"out": words}, {"labels": labels["labels"].reshape(4, 5)}) == pytest.approx(
        np.exp(np.log(right).mean()), rel=1e-5
    )


CORNERS = np.array([[[0, 0, 10, 10], [20, 20, 30, 40], [50, 50, 60, 60]]], dtype="float32")
SCORES = np.array([[0.9, 0.8, 0.1]], dtype="float32")  # the third is no detection
KINDS = np.array([[1, 2, 0]])
FOUND = {"boxes": CORNERS, "scores": SCORES, "classes": KINDS}


def test_the_same_boxes_agree_and_shifted_ones_by_their_overlap():
    assert score(BOXES, FOUND, {}).tolist() == [1]
    assert score(BOXES, FOUND, {}, {**FOUND, "boxes": CORNERS + 1}).tolist() == [1]
    assert score(BOXES, FOUND, {}, {**FOUND, "boxes": CORNERS + np.array([6, 0, 6, 0])}).tolist() == [0]
    only_first = CORNERS + np.array([0, 100, 0])[None, :, None]
    assert score(BOXES, FOUND, {}, {**FOUND, "boxes": only_first}).tolist() == [0.5]


def test_another_class_or_a_lost_detection_does_not_agree():
    assert score(BOXES, FOUND, {}, {**FOUND, "classes": np.array([[1, 1, 0]])}).tolist() == [0.5]
    lost = {**FOUND, "scores": np.array([[0.9, 0.2, 0.1]], dtype="float32")}
    assert score(BOXES, FOUND, {}, lost).tolist() == [pytest.approx(2 / 3)]
    nothing = {**FOUND, "scores": SCORES * 0}
    assert score(BOXES, FOUND, {}, nothing).tolist() == [0]
    assert score(BOXES, nothing, {}).tolist() == [1]


def test_the_order_of_boxes_does_not_matter_and_classes_may_stand_in_the_scores():
    turned = {name: array[:, ::-1] for name, array in FOUND.items()}
    assert score(BOXES, FOUND, {}, turned).tolist() == [1]
    per_class = {"boxes": CORNERS, "scores": SCORES[..., None] * np.eye(3, dtype="float32")[KINDS]}
    assert score(BOXES, per_class, {}).tolist() == [1]
    other = {**per_class, "scores": np.roll(per_class["scores"], 1, axis=-1)}
    assert score(BOXES, per_class, {}, other).tolist() == [0]
    whole = {**FOUND, "classes": KINDS.astype("float32")}  # as TFLite's own operator gives them
    assert score(BOXES, whole, {}).tolist() == [1]


@pytest.mark.parametrize(
    ("metric", "answers", "labels", "said"),
    [
        (TOP5, {"out": np.zeros((4, 9), "float32")}, {}, "needs right answers"),
        (TOP5, {"out": np.zeros(4, "int64")}, {"labels": np.zeros(4, int)}, "is one class"),
        (PERPLEXITY, {"out": np.zeros(4, "int64")}, {"labels": np.zeros(4, int)}, "needs scores"),
        (MIOU, {"out": np.zeros((4, 3, 8, 8), "float32")}, {"labels": np.zeros((4, 9, 9), int)}, "fit no output"),
        (MIOU, {"out": np.zeros((4, 3, 8, 8), "float32")}, {"labels": np.full((4, 8, 8), 3)}, "has the classes 0..2"),
        (BOXES, {"out": np.zeros((4, 9), "float32")}, {}, "finds no boxes"),
        (BOXES, {"out": np.zeros((4, 9, 4), "float32")}, {}, "finds no scores"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(metric, answers, labels, said):
    with pytest.raises(UsageError, match=said) as error:
        named(metric, answers, labels)
    assert error.value.fix


def test_a_metric_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="top55"):
        named("top55", {}, {})
