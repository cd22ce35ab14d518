"""The search for a recipe that passes, on made-up networks whose noise is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest

from convert.errors import RouteError
from convert.precision import Layer
from convert.recipe import Kept, Recipe
from convert.search import Abilities, Found, Score, front, search

START = Recipe("onnx", "int8", "made-up")


@dataclass
class Network:
    """Layers whose noise adds up; each takes as many bytes, four times as many in float, twice in int16x8."""

    noises: list[float]
    target_db: float = 20.0
    ranges: dict[str, float] = field(default_factory=lambda: {"min-max": 1.0})  # factors of the noise
    equalising: float | None = None
    keeps: tuple[str, ...] = ("fp32",)
    together: tuple[int, ...] = ()  # layers that share one bad tensor: spoilt while any of them is quantized
    shared_noise: float = 0.0
    sizes: list[int] | None = None
    seconds: float = 1.0
    timed: bool = False
    now: float = 0.0
    tried: list[Recipe] = field(default_factory=list)
    said: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def layers(self) -> tuple[Layer, ...]:
        sizes = self.sizes or [100] * len(self.noises)
        return tuple(Layer(f"layer{i}", "CONV_2D", 4 * size) for i, size in enumerate(sizes))

    def evaluate(self, recipe: Recipe) -> Score:
        assert recipe not in self.tried, "nothing is measured twice"
        self.tried.append(recipe)
        self.now += self.seconds
        kept = {item.layer: item.precision for item in recipe.kept}
        factor = self.ranges[recipe.ranges] * (self.equalising if recipe.equalised and self.equalising else 1.0)
        weight = {"fp32": 0.0, "int16x8": 0.01}
        parts = [n * factor * weight.get(kept.get(f"layer{i}", ""), 1.0) for i, n in enumerate(self.noises)]
        shared = self.shared_noise if any(f"layer{i}" not in kept for i in self.together) else 0.0
        noise = sum(parts) + shared + 1e-12
        times = {"fp32": 4, "int16x8": 1}
        size = sum(layer.weight_bytes // 4 * times.get(kept.get(layer.name, ""), 1) for layer in self.layers)
        db = -10 * math.log10(noise)
        latency = sum(times.get(kept.get(layer.name, ""), 1) for layer in self.layers) if self.timed else None
        return Score(db >= self.target_db, db, min(1.0, db / 50), size, latency, f"{db:.1f} dB")

    def search(self, budget: float = 1e6, known: Score | None = None) -> Found:
        return search(
            Abilities(tuple(self.ranges), self.equalising is not None, self.layers, self.keeps),
            START,
            self.evaluate,
            budget_seconds=budget,
            clock=lambda: self.now,
            progress=lambda *words: self.said.append(words),
            known=known,
        )


def names(found: Found) -> list[str]:
    return [kept.layer for kept in found.point.recipe.kept]


@pytest.mark.parametrize("bad", [0, 7, 199])
@pytest.mark.parametrize("count", [2, 12, 40, 200])
def test_one_bad_layer_ends_with_exactly_that_layer_kept(count, bad):
    bad = min(bad, count - 1)
    network = Network([1e-5] * count)
    network.noises[bad] = 3.0
    found = network.search()
    assert found.point.passed
    assert found.point.kept
    assert names(found) == [f"layer{bad}"]
    assert [(item.layer, item.precision) for item in found.given_up] == [(f"layer{bad}", "fp32")]
    assert found.given_up[0].alone_sqnr_db == pytest.approx(-10 * math.log10(3.0), abs=0.01)
    assert found.unfinished == ""


def test_one_bad_layer_of_200_needs_few_evaluations():
    network = Network([1e-5] * 200)
    network.noises[77] = 3.0
    network.search()
    assert len(network.tried) < 35


def test_both_neighbours_of_a_bad_tensor_are_found_though_keeping_one_gains_nothing():
    network = Network([1e-5] * 60, together=(30, 31), shared_noise=3.0)
    assert names(network.search()) == ["layer30", "layer31"]


def test_better_ranges_are_taken_before_any_layer_is_given_up():
    network = Network([0.01] * 10, ranges={"min-max": 1.0, "percentile": 0.2, "mse": 0.05, "entropy": 0.3})
    found = network.search()
    assert found.point.recipe == Recipe("onnx", "int8", "made-up", ranges="mse")
    assert not any(recipe.kept for recipe in network.tried)


def test_equalised_weights_are_tried_after_ranges_and_before_layers():
    network = Network([0.01] * 10, ranges={"min-max": 1.0, "mse": 0.5}, equalising=0.1)
    found = network.search()
    assert found.point.recipe == Recipe("onnx", "int8", "made-up", ranges="mse", equalised=True)
    assert not any(recipe.kept for recipe in network.tried)


def test_ranges_are_looked_at_again_once_the_worst_layer_is_out_of_the_way():
    network = Network([1e-5] * 10, target_db=23)
    network.noises[3] = 3.0
    honest = network.evaluate

    def masked(recipe: Recipe) -> Score:  # beside the bad layer min-max looks best, without it it is not enough
        network.ranges = {"min-max": 1.0, "mse": 1.1 if not recipe.kept else 0.01}
        network.noises = [1e-3 if i != 3 else 3.0 for i in range(10)]
        return honest(recipe)

    network.ranges = {"min-max": 1.0, "mse": 1.1}
    network.evaluate = masked
    found = network.search()
    assert found.point.recipe.ranges == "mse"
    assert names(found) == ["layer3"]


def test_of_evenly_bad_layers_only_as_many_are_kept_as_needed():
    network = Network([0.004] * 10)  # 14 dB; 20 dB allow two and a half of them
    found = network.search()
    assert found.point.passed
    assert len(names(found)) == 8


def test_layers_kept_for_nothing_are_given_back():
    network = Network([1e-3] * 48, target_db=20)
    network.noises[5] = network.noises[6] = 0.5
    network.sizes = [100] * 48
    found = network.search()
    cheaper = [point for point in found.points if point.passed and point.file_bytes < found.point.file_bytes]
    assert not cheaper
    assert {"layer5", "layer6"} <= set(names(found))
    assert len(names(found)) == 2 + 37  # 46 layers make 0.046, of which less than 0.01 is allowed


def test_the_heavy_layer_is_given_back_before_the_light_ones():
    network = Network([0.02, 0.019, 0.0003], target_db=16.9, sizes=[10_000, 10, 10])
    found = network.search()
    assert names(found) == ["layer1"]


def test_sixteen_bit_activations_are_preferred_to_float_where_they_suffice():
    network = Network([1e-5] * 20, keeps=("fp32", "int16x8"))
    network.noises[4] = 0.5
    found = network.search()
    assert found.point.recipe.kept == (Kept("layer4", "int16x8"),)


def test_latency_counts_where_it_is_measured():
    network = Network([1e-5] * 20, timed=True)
    network.noises[4] = 3.0
    found = network.search()
    assert names(found) == ["layer4"]
    assert found.point.latency_seconds == 23
    assert found.point in found.front


@pytest.mark.parametrize("budget", [0, 0.5, 1, 2, 5, 10, 17, 30, 60, 100])
def test_the_budget_is_never_exceeded_and_the_best_so_far_is_the_answer(budget):
    network = Network([0.01] * 200, ranges={"min-max": 1.0, "mse": 0.9})
    network.noises[50] = 0.5
    known = Score(False, 3.0, 0.1, 20_000)
    found = network.search(budget, known)
    assert network.now <= max(budget, network.seconds)  # nothing is known of the first evaluation's length
    assert found.unfinished
    assert found.point.kept
    best = max(point.sqnr_db for point in found.points if not point.passed and len(point.recipe.kept) < 100)
    assert found.point.passed or found.point.sqnr_db >= best


def test_slow_evaluations_measure_fewer_groups_and_leave_time_to_try_what_they_showed():
    """A MobileNetV2 of 53 layers at 7 s per evaluation, with the noise it was measured to have."""
    measured = [74, 70, 36, 25, 11.5, 11, 11.8, 2.6, 2, 3, 1.3, 1, 1, 1, 1, 1]
    noises = [measured[i * 16 // 53] / 4000 for i in range(53)]
    ranges = {"min-max": 1.2, "percentile": 1.1, "mse": 1.0, "entropy": 1.05}
    network = Network(noises, ranges=ranges, equalising=1.3, seconds=7)
    found = network.search(120)
    assert found.point.passed
    assert len(found.point.recipe.kept) < 45


def test_more_time_never_ends_with_a_costlier_result():
    sizes = []
    for budget in range(20, 400, 60):
        network = Network([1e-4 * (i % 7 + 1) for i in range(100)], target_db=19)
        found = network.search(budget)
        sizes.append(found.point.file_bytes if found.point.passed else math.inf)
    assert sizes[-1] < math.inf
    assert sizes[-1] <= 1.05 * min(sizes)


def test_a_network_beyond_rescue_ends_with_the_best_and_says_why_it_failed():
    network = Network([0.1] * 4, target_db=500, ranges={"min-max": 1.0, "mse": 0.5})
    found = network.search()
    assert not found.point.passed
    assert found.point.reason.endswith("dB")
    assert found.unfinished == ""


def test_something_is_always_quantized():
    for count in (1, 3, 30):
        found = Network([0.1] * count, target_db=60).search()
        assert not found.point.passed
        assert all(len(point.recipe.kept) < count for point in found.points)


def test_latencies_that_hardly_differ_do_not_decide():
    network = Network([1e-5] * 20)
    network.noises[4] = 3.0
    honest, jitter = network.evaluate, [1.0, 0.8, 1.2, 0.9, 1.1]

    def timed(recipe: Recipe) -> Score:
        return replace(honest(recipe), latency_seconds=jitter[len(network.tried) % len(jitter)])

    network.evaluate = timed
    assert names(network.search()) == ["layer4"]


def test_what_only_measures_a_layer_is_no_answer_though_it_be_faster():
    network = Network([1e-5] * 20)
    network.noises[4] = 3.0
    honest = network.evaluate

    def timed(recipe: Recipe) -> Score:  # conversions between floats and integers cost more than they save
        return replace(honest(recipe), latency_seconds=20.0 if len(recipe.kept) < 10 else 1.0)

    network.evaluate = timed
    assert names(network.search()) == ["layer4"]


def test_a_network_whose_layers_cannot_be_kept_ends_with_the_best_ranges():
    network = Network([0.1] * 4, ranges={"min-max": 1.0, "mse": 0.5}, keeps=())
    found = network.search()
    assert found.point.recipe.ranges == "mse"
    assert len(found.points) == 2


def test_a_recipe_that_cannot_be_carried_out_is_a_point_with_its_reason_and_ends_nothing():
    network = Network([1e-5] * 6, ranges={"min-max": 1.0, "entropy": 1.0})
    network.noises[2] = 3.0
    honest = network.evaluate

    def sometimes(recipe: Recipe) -> Score:
        if recipe.ranges == "entropy" or recipe.kept == (Kept("layer2", "fp32"),):
            raise RouteError("the tool refused")
        return honest(recipe)

    network.evaluate = sometimes
    found = network.search()
    assert found.point.passed
    assert "layer2" in names(found)
    assert "the tool refused" in {point.reason for point in found.points}


def test_equal_scores_give_equal_results_and_nothing_is_measured_twice():
    def once() -> Found:
        return Network([0.003] * 40, ranges={"min-max": 1.0, "mse": 1.0}, timed=True).search()

    assert once() == once()


def test_what_is_known_of_the_start_is_not_measured_again():
    network = Network([0.001] * 4)
    found = network.search(known=Score(True, 24.0, 0.9, 400))
    assert network.tried == []
    assert found.point.recipe == START


def test_progress_counts_up_to_a_total_that_is_never_passed():
    network = Network([0.003] * 40, ranges={"min-max": 1.0, "mse": 1.0})
    network.search()
    assert [done for done, _, _ in network.said] == list(range(len(network.tried)))
    assert all(done < total for done, total, _ in network.said)
    assert all(words for _, _, words in network.said)


def test_the_front_holds_what_nothing_beats():
    found = Network([1e-3 * (i + 1) for i in range(8)], target_db=22).search()
    for point in found.front:
        assert not any(o.file_bytes < point.file_bytes and o.sqnr_db > point.sqnr_db for o in found.points)
    assert {point.recipe for point in front(found.front)} == {point.recipe for point in found.front}
