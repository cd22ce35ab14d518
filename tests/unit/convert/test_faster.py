"""The search for a faster assignment, on a made-up network in which float costs what it does on real engines."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest

from convert.errors import RouteError
from convert.faster import Bounds, Hastened, assignments, hasten
from convert.precision import Layer
from convert.recipe import Kept, Recipe
from convert.search import Score

START = Recipe("tflite", "int8", "made-up")


def layer(name: str, operator: str, weight: int = 0) -> Layer:
    return Layer(name, operator, 4 * weight)


#: Two light convolutions with an activation that the engine has no integer kernel for, and a heavy one.
LAYERS = (
    layer("stem", "CONV_2D", 10),
    layer("swish", "HARD_SWISH"),
    layer("depthwise", "DEPTHWISE_CONV_2D", 90),
    layer("sum", "ADD"),
    layer("head", "FULLY_CONNECTED", 900),
)
INTEGERS = {"stem": 4.0, "swish": 20.0, "depthwise": 2.0, "sum": 2.0, "head": 2.0}
FLOATS = {"stem": 2.0, "swish": 1.0, "depthwise": 1.5, "sum": 1.0, "head": 8.0}


@dataclass
class Engine:
    """Says what each assignment costs, and counts a second for each that it is asked for."""

    now: float = 0.0
    gain_db: float = 0.5
    broken: frozenset[str] = frozenset()
    asked: list[Recipe] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def score(self, recipe: Recipe) -> Score:
        kept = {item.layer for item in recipe.kept}
        if kept & self.broken:
            raise RouteError("it cannot be left in float")
        seconds = sum(FLOATS[one.name] if one.name in kept else INTEGERS[one.name] for one in LAYERS)
        size = sum(one.weight_bytes if one.name in kept else one.weight_bytes // 4 for one in LAYERS)
        return Score(True, 25.0 + self.gain_db * len(kept), None, size, seconds)

    def evaluate(self, recipe: Recipe) -> Score:
        assert recipe not in self.asked, "nothing is measured twice"
        self.asked.append(recipe)
        self.now += 1.0
        return self.score(recipe)

    def hasten(
        self,
        blamed: tuple[str, ...] = (),
        budget: float = 1e6,
        size: float = 1e9,
        db: float = 20.0,
        beat: float = 0.0,
    ) -> Hastened:
        return hasten(
            LAYERS,
            START,
            self.score(START),
            blamed,
            "fp32",
            Bounds(size, db, beat or self.score(START).latency_seconds or 0),
            self.evaluate,
            budget_seconds=budget,
            clock=lambda: self.now,
            progress=lambda *words: self.said.append(words[2]),
        )


def names(recipe: Recipe | None) -> set[str]:
    assert recipe is not None
    return {item.layer for item in recipe.kept}


def test_what_the_engine_leaves_out_is_left_in_float_first():
    first, *_ = assignments(LAYERS, START, frozenset({"swish"}), "fp32")
    assert names(first) == {"swish"}


def test_layers_without_weights_go_with_the_one_before_them():
    tried = assignments(LAYERS, START, frozenset(), "fp32")
    assert [names(recipe) for recipe in tried] == [{"stem", "swish"}, {"stem", "swish", "depthwise", "sum"}]


def test_one_layer_with_weights_stays_quantized():
    alone = (layer("head", "FULLY_CONNECTED", 9), layer("swish", "HARD_SWISH"))
    assert assignments(alone, START, frozenset(), "fp32") == ()


def test_what_was_kept_for_quality_stays_kept():
    kept = dataclasses.replace(START, kept=(Kept("head", "int16x8"),))
    for recipe in assignments(LAYERS, kept, frozenset({"head", "swish"}), "fp32"):
        assert recipe.kept[0] == Kept("head", "int16x8")
        assert len(recipe.kept) == len(names(recipe))


def test_the_fastest_within_the_size_is_found():
    assert names(Engine().hasten(("swish",)).recipe) == {"stem", "swish", "depthwise", "sum"}
    # Of 4,000 bytes as floats, 1,000 are left; the lighter assignment adds 30, the other 300.
    assert names(Engine().hasten(("swish",), size=1100).recipe) == {"stem", "swish"}
    assert names(Engine().hasten(("swish",), size=1000).recipe) == {"swish"}


def test_nothing_is_taken_that_loses_quality_or_does_not_pass(monkeypatch):
    engine = Engine(gain_db=-1.0)
    assert engine.hasten(("swish",), db=24.9).recipe is None
    failing = Engine()
    score = failing.score
    monkeypatch.setattr(failing, "score", lambda one: dataclasses.replace(score(one), passed=not one.kept))
    assert failing.hasten(("swish",)).recipe is None


def test_what_another_quantizer_made_is_the_latency_to_beat():
    # As integers it takes 30; the best assignment 7.5.
    assert Engine().hasten(("swish",), beat=8.0).recipe is not None
    assert Engine().hasten(("swish",), beat=7.6).recipe is None


def test_a_gain_that_timing_cannot_tell_is_none(monkeypatch):
    monkeypatch.setitem(INTEGERS, "swish", 1.1)
    monkeypatch.setitem(INTEGERS, "stem", 2.1)
    monkeypatch.setitem(INTEGERS, "depthwise", 1.5)
    monkeypatch.setitem(INTEGERS, "sum", 1.1)
    assert Engine().hasten(("swish",)).recipe is None


def test_what_cannot_be_made_is_a_point_with_its_reason():
    found = Engine(broken=frozenset({"stem"})).hasten(("swish",))
    assert names(found.recipe) == {"swish"}
    assert [score.reason for score in found.scores.values()].count("it cannot be left in float") == 2


@pytest.mark.parametrize(("budget", "tries"), [(1.0, 1), (2.0, 2), (99.0, 3)])
def test_no_try_begins_that_would_end_too_late(budget, tries):
    engine = Engine()
    found = engine.hasten(("swish",), budget=budget)
    assert len(engine.asked) == tries
    assert found.unfinished == (tries < 3)
    assert len(found.scores) == tries + 1
