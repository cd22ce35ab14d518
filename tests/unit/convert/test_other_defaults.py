"""What passed is tried with the ranges of other tools' defaults, and the one that loses less is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import refine
from convert.building import Tried
from convert.errors import RouteError
from convert.precision._ranges import Observer
from convert.recipe import AVERAGE, Recipe
from convert.search import Score
from convert.spec import Request
from validators.quality import OutputQuality, Quality
from validators.report import Attempt, Stage
from validators.verdict import Status, Verdict

FLOAT = Attempt("litert-torch", "litert-torch", Stage.DONE, "")


@dataclasses.dataclass
class FakeRun:
    request: Request
    said: list[str] = dataclasses.field(default_factory=list)

    def say(self, words: str) -> None:
        self.said.append(words)


@dataclasses.dataclass
class FakeBench:
    run: FakeRun


def bench(**request: Any) -> Any:
    return FakeBench(FakeRun(Request("m.pt", ("tflite",), **request)))


def passed(sqnr_db: float, **recipe: Any) -> Tried:
    output = OutputQuality("logits", Status.PASS, "", "float64", 640, sqnr_db)
    quality = Quality(Status.PASS, "", "rows", 64, sqnr_db, outputs=(output,))
    made: Any = dataclasses.replace(EMPTY, quality=quality)
    attempt = Attempt("", "", Stage.DONE, "", artifact=made.artifact, structure=OK, parity=OK, quality=quality)
    of = Recipe("tflite", "int8", "ai-edge-quantizer", **recipe)
    return Tried(dataclasses.replace(attempt, recipe=of), made)


OK = Verdict(Status.PASS, "")


@dataclasses.dataclass(frozen=True)
class Made:
    quality: Quality | None = None
    artifact: str = "a file"


EMPTY = Made()


@pytest.fixture
def trials(monkeypatch):
    """Let each way of finding ranges keep what `worth` says; gives what was scored and what was proven."""
    worth: dict[str, float] = {}
    scored: list[str] = []
    proven: list[str] = []

    def score(_bench: Any, _base: Attempt, _quantizer: Any, recipe: Recipe, _proof: Any) -> Score:
        scored.append(recipe.ranges)
        if recipe.ranges not in worth:
            raise RouteError("no such kernel")
        return Score(worth[recipe.ranges] >= 20, worth[recipe.ranges], None, 100)

    def prove(_bench: Any, _base: Attempt, _quantizer: Any, recipe: Recipe) -> Tried:
        proven.append(recipe.ranges)
        return passed(worth[recipe.ranges], ranges=recipe.ranges)

    monkeypatch.setattr(refine, "score_recipe", score)
    monkeypatch.setattr(refine, "try_recipe", prove)
    return worth, scored, proven


def test_the_average_of_ends_is_taken_where_it_keeps_more(trials):
    worth, _, _ = trials
    worth[AVERAGE] = 26.4
    (better,) = refine.other_defaults(bench(), FLOAT, [passed(25.4)])
    assert better.attempt.recipe is not None
    assert better.attempt.recipe.ranges == AVERAGE


@pytest.mark.parametrize("other", [25.4, 19.0, 25.42])
def test_what_gains_nothing_is_not_proven(trials, other):
    worth, scored, proven = trials
    worth[AVERAGE] = other
    assert refine.other_defaults(bench(), FLOAT, [passed(25.4)]) == []
    assert (scored, proven) == ([AVERAGE], [])


def test_what_cannot_be_made_so_is_said_and_left(trials):
    run = bench()
    assert refine.other_defaults(run, FLOAT, [passed(25.4)]) == []
    assert "no such kernel" in run.run.said[0]
    assert trials[1] == [AVERAGE]


@pytest.mark.parametrize("request_", [{"search_seconds": 0.0}, {"recipe": "mine.recipe.json"}])
def test_nothing_is_tried_where_nothing_may_be_searched(trials, request_):
    assert refine.other_defaults(bench(**request_), FLOAT, [passed(25.4)]) == []
    assert not trials[1]


def test_the_average_is_that_of_ai_edge_quantizer(tmp_path: Path):
    qsv = pytest.importorskip("ai_edge_quantizer.utils.qsv_utils")
    random, observer, expected = np.random.default_rng(0), Observer(), {}
    for _ in range(7):
        sample = random.standard_normal(50).astype(np.float32) * random.uniform(1, 4)
        observer.feed("t", sample)
        expected = qsv.moving_average_update(expected, {"min": sample.min(), "max": sample.max()})
    observer.save(tmp_path / "seen.npz")
    for one in (observer, Observer.load(tmp_path / "seen.npz")):
        assert one.range_of("t", AVERAGE) == pytest.approx((float(expected["min"]), float(expected["max"])), rel=1e-6)
        full = one.range_of("t", "min-max")
        assert full[0] < one.range_of("t", AVERAGE)[0]
