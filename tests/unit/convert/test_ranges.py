"""Ranges of activations from calibration data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convert.errors import UsageError
from convert.precision import _ranges
from convert.precision._ranges import Observer, remembered
from convert.precision.tflite_quantizer import Operator, _masks
from convert.recipe import AVERAGE, RANGES, Calibration
from convert.spec import Artifact, Signature


def seen(*arrays: np.ndarray) -> Observer:
    observer = Observer()
    for array in arrays:
        observer.feed("t", array)
    return observer


@pytest.fixture(scope="module")
def outlier() -> Observer:
    """Four million Gaussian values, one of them a thousand deviations out, fed in parts."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((16, 250_000)).astype(np.float32)
    values[3, 7] = 1000.0
    return seen(*values)


def error(values: np.ndarray, ends: tuple[float, float], bits: int, symmetric: bool) -> float:
    """The mean squared error of quantizing values for real."""
    low, high = ends
    step = (high - low) / ((1 << bits) - (2 if symmetric else 1))
    return float(np.mean((np.clip(np.round(values / step) * step, low, high) - values) ** 2))


@pytest.mark.parametrize("symmetric", [False, True])
def test_min_max_holds_an_outlier_and_the_others_clip_it(outlier, symmetric):
    assert outlier.range_of("t", "min-max", symmetric=symmetric)[1] == 1000.0
    for method, most in {"percentile": 4, "mse": 160, "entropy": 20}.items():
        low, high = outlier.range_of("t", method, symmetric=symmetric)
        assert 2 < high < most, method
        assert -most < low < -2, method


@pytest.mark.parametrize("method", RANGES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_even_values_are_not_clipped(method, symmetric):
    values = np.random.default_rng(1).uniform(-2, 3, 100_000)
    low, high = seen(values).range_of("t", method, symmetric=symmetric)
    assert high == pytest.approx(3, rel=0.01)
    assert low == pytest.approx(-3 if symmetric else -2, rel=0.01)


@pytest.mark.parametrize("method", RANGES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_ranges_contain_zero_and_lie_within_what_was_seen(method, symmetric):
    rng = np.random.default_rng(2)
    shapes = {
        "positive": rng.uniform(5, 6, 1000),
        "negative": -rng.uniform(5, 6, 1000),
        "skewed": rng.gamma(0.3, 2.0, 1000) - 0.1,
        "constant": np.full(10, 3.25),
        "minus": np.full(10, -3.25),
        "integers": rng.integers(-4, 9, 1000),
        "tiny": rng.standard_normal(1000) * 1e-30,
        "huge": rng.standard_normal(1000) * 1e37,
        "half": rng.standard_normal(1000).astype(np.float16),
    }
    for name, values in shapes.items():
        low, high = seen(values).range_of("t", method, symmetric=symmetric)
        most = float(np.abs(values.astype(np.float32)).max())
        assert low <= 0 <= high, name
        assert low < high, name
        assert -most <= low, name
        assert high <= most, name
        if symmetric:
            assert low == -high, name


@pytest.mark.parametrize("method", RANGES)
def test_zeros_have_no_range_and_a_constant_has_its_own(method):
    assert seen(np.zeros((3, 4))).range_of("t", method) == (0.0, 0.0)
    assert seen(np.full(9, 3.25)).range_of("t", method) == pytest.approx((0.0, 3.25), rel=0.01)
    assert seen(np.full(9, -3.25)).range_of("t", method) == pytest.approx((-3.25, 0.0), rel=0.01)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", ["gaussian", "laplace", "relu", "outliers"])
def test_mse_ranges_err_least_of_all_thresholds_when_values_are_really_quantized(bits, symmetric, shape):
    rng = np.random.default_rng(3)
    values = {
        "gaussian": rng.standard_normal(50_000) + 0.2,
        "laplace": rng.laplace(size=50_000),
        "relu": np.maximum(rng.standard_normal(50_000), 0),
        "outliers": np.concatenate((rng.standard_normal(50_000), [40.0, -20.0])),
    }[shape]
    observer = seen(values)
    found = error(values, observer.range_of("t", "mse", bits, symmetric=symmetric), bits, symmetric)
    low, high = observer.range_of("t", "min-max", symmetric=symmetric)
    by_hand = [
        error(values, (max(low, -t), min(high, t)), bits, symmetric)
        for t in np.linspace(0.02, 1, 400) * max(-low, high)
    ]
    assert found <= 1.02 * min(by_hand)


def test_a_percentile_is_what_numpy_says_it_is():
    values = np.random.default_rng(4).laplace(size=400_000)
    cut = (1 - _ranges.PERCENTILE) / 2
    assert seen(values).range_of("t", "percentile") == pytest.approx(np.quantile(values, [cut, 1 - cut]), rel=0.01)
    most = np.quantile(np.abs(values), _ranges.PERCENTILE)
    assert seen(values).range_of("t", "percentile", symmetric=True) == pytest.approx((-most, most), rel=0.01)


def test_entropy_clips_a_long_tail_but_neither_its_body_nor_a_short_tail():
    rng = np.random.default_rng(5)
    long, short = rng.standard_t(3, 400_000), rng.standard_normal(400_000)
    _, high = seen(long).range_of("t", "entropy", symmetric=True)
    assert 10 < high < 0.5 * np.abs(long).max()
    _, high = seen(short).range_of("t", "entropy", symmetric=True)
    assert high > 0.9 * np.abs(short).max()


def test_the_order_and_the_parts_in_which_data_comes_do_not_matter():
    rng = np.random.default_rng(6)
    values = rng.standard_normal(3000) * 10.0 ** rng.integers(-12, 5, 3000)
    at_once, in_parts = seen(values), seen(*values[::-1].reshape(30, 100))
    for method in set(RANGES) - {AVERAGE}:  # which is one of samples
        assert at_once.range_of("t", method) == in_parts.range_of("t", method)


def test_what_is_no_number_is_counted_and_left_out():
    observer = seen(np.array([1.0, np.nan, -np.inf, 2.0]))
    assert observer.range_of("t", "min-max") == (0.0, 2.0)
    assert observer.tensors["t"].odd == 2


def test_unknown_methods_and_tensors_without_values_are_refused():
    with pytest.raises(UsageError, match="median"):
        seen(np.ones(3)).range_of("t", "median")
    with pytest.raises(UsageError, match="'u'"):
        seen(np.ones(3)).range_of("u", "mse")
    with pytest.raises(UsageError, match="no finite value"):
        seen(np.array([np.nan])).range_of("t", "mse")


def test_memory_does_not_grow_with_the_data():
    observer = seen(np.ones(5))
    counts = observer.tensors["t"].counts
    size = counts.nbytes
    for power in range(-30, 30):
        observer.feed("t", np.array([10.0**power]))
    assert observer.tensors["t"].counts.nbytes == size


def test_a_range_is_found_anew_when_more_was_seen():
    observer = seen(np.linspace(-1, 1, 1000))
    before = observer.range_of("t", "mse")
    assert observer.range_of("t", "mse") == before
    observer.feed("t", np.linspace(-5, 5, 1000))
    assert observer.range_of("t", "mse")[1] > 4


def test_one_pass_over_the_data_serves_every_recipe(tmp_path: Path):
    base = Artifact(str(tmp_path / "m.onnx"), "onnx", "fp32", Signature((), ()), "a" * 64, 1)
    data = Calibration(str(tmp_path), 1, "b" * 64, "made up")
    passes = []

    def observe(observer: Observer) -> None:
        passes.append(1)
        observer.feed("x/y:0", np.random.default_rng(7).standard_normal(999))
        observer.feed("zeros", np.zeros(5))

    first = remembered(base, data, observe)
    assert remembered(base, data, observe) is first
    _ranges._recent.clear()
    again = remembered(base, data, observe)
    assert passes == [1]
    assert again.names == ("x/y:0", "zeros")
    for method in RANGES:
        assert first.range_of("x/y:0", method) == again.range_of("x/y:0", method)
    remembered(base, Calibration(str(tmp_path), 1, "c" * 64, "made up"), observe)
    assert passes == [1, 1]


@pytest.mark.parametrize(
    ("values", "reach"), [([-3, 2], 3), ([0.0], 0), ([1, -np.inf], np.inf), ([-np.inf], np.inf), ([np.nan], np.inf)]
)
def test_the_reach_of_a_tensor_is_its_largest_magnitude(values, reach):
    assert seen(np.array(values, np.float32)).reach("t") == reach


@pytest.mark.parametrize(("value", "masked"), [(-np.inf, True), (-3.4e38, True), (-1e4, False)])
def test_an_operator_that_adds_a_mask_is_told_from_one_that_does_not(value, masked):
    operator = Operator("t", "t;", "ADD", 0, (), ("t", "never seen"))

    assert _masks(operator, seen(np.array([0.5, value], np.float32))) is masked
