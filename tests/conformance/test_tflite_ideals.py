"""A right quantized TFLite file errs as much as its ideal, and a faulty one more, however coarse the precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantized_tflite import Bench, Network, save

from convert.errors import OtherFunction, RouteError
from convert.formats._tflite_precision import operator_kinds
from convert.routes import Task
from convert.routes import perform as convert
from convert.sources import KERAS, Loading, describe, identify
from convert.spec import LoadOptions
from convert.worker import Workers, limits_of
from validators.mutants.tflite import _replace as replaced

PRECISIONS = ("fp16", "int8-dynamic", "int8", "int16x8", "int8-weights", "int4-weights")

#: R of right files; measured 0.98 to 1.01 on the digits network and 0.92 to 1.01 on attention and recurrent ones.
RIGHT = (0.85, 1.1)

#: The least R of faulty files; measured 2.1 (one channel's scale in int8) to 40.
FAULTY = 1.5


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(tmp_path_factory.mktemp("stages"), limits_of(180.0, 0)) as made:
        yield made


@pytest.fixture(scope="module")
def digits(workers: Workers, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("digits")
    images = np.load(samples / "digits_nhwc_inputs.npz")["image"]
    base = folder / "digits.tflite"
    base.write_bytes((samples / "digits.tflite").read_bytes())
    return Bench(workers, folder, base, "image", images)


def operators(model: Any, kind: str) -> list[Any]:
    kinds = operator_kinds(model)
    return [op for op in model.subgraphs[0].operators if kinds[op.opcodeIndex] == kind]


def weights(model: Any, kind: str, number: int) -> Any:
    """Find the weights of an operator, behind its DEQUANTIZE where there is one."""
    tensors = model.subgraphs[0].tensors
    index = operators(model, kind)[number].inputs[1]
    unpacked = {int(op.outputs[0]): int(op.inputs[0]) for op in operators(model, "DEQUANTIZE")}
    return tensors[unpacked.get(int(index), int(index))]


def scaled(kind: str, number: int, factor: float, channel: int | None = None) -> Callable[[Any], None]:
    def fault(model: Any) -> None:
        stated = weights(model, kind, number).quantization
        stated.scale = [
            float(scale) * (factor if channel in (None, index) else 1) for index, scale in enumerate(stated.scale)
        ]

    return fault


def moved_zero_point(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[operators(model, "RESHAPE")[-1].outputs[0]]
    tensor.quantization.zeroPoint = [int(zero) + 3 for zero in tensor.quantization.zeroPoint]


FAULTS = {
    "every scale of a dense layer times 1.2": scaled("FULLY_CONNECTED", 0, 1.2),
    "every scale of a dense layer over 1.2": scaled("FULLY_CONNECTED", 0, 1 / 1.2),
    "one channel's scale times 1.2": scaled("CONV_2D", 0, 1.2, channel=3),
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_right_file_errs_as_its_ideal(precision, digits):
    assert RIGHT[0] < digits.ratio(digits.reduced(precision)) < RIGHT[1]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("precision", ["int8-dynamic", "int8", "int16x8", "int8-weights"])
def test_a_wrong_scale_is_a_fault(precision, fault, digits):
    assert digits.ratio(digits.broken(digits.reduced(precision), fault)) > FAULTY


def test_a_zero_point_off_by_three_is_a_fault(digits):
    assert digits.ratio(digits.broken(digits.reduced("int8"), moved_zero_point)) > FAULTY


def test_a_coarse_range_is_no_fault(digits):
    assert RIGHT[0] < digits.ratio(digits.reduced("int8", ranges="percentile")) < RIGHT[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_without_its_float_file_only_kernels_are_judged(precision, digits):
    path = digits.reduced(precision)
    assert RIGHT[0] < digits.ratio(path, alone=True) < RIGHT[1]


def test_a_wrong_scale_does_not_show_without_the_float_file(digits):
    assert (
        digits.ratio(digits.broken(digits.reduced("int8"), FAULTS["one channel's scale times 1.2"]), alone=True) < 1.1
    )


@pytest.fixture(scope="module")
def attention(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return keras_bench(workers, tmp_path_factory.mktemp("attention"), "attention", "tflite-converter", (12, 16))


def keras_bench(workers: Workers, folder: Path, network: str, route: str, shape: tuple[int, ...]) -> Bench:
    """Make a network and convert it with a route; noise is its data."""
    task = Network(network, str(folder / "net.keras"))
    source = identify(Path(workers.run(f"save-{network}", save, task, KERAS.environment).value.path))
    facts = workers.run(f"load-{network}", describe, Loading(source, LoadOptions()), KERAS.environment).value
    job = Task(route, "convert.routes", source, LoadOptions(), facts.signature, str(folder / "base.tflite"))
    base = workers.run(f"convert-{network}", convert, job, KERAS.environment).value
    noise = np.random.default_rng(1).normal(size=(48, *shape)).astype(np.float32)
    return Bench(workers, folder, Path(base.path), facts.signature.inputs[0].name, noise, Path(source.path))


@pytest.mark.parametrize("quantizer", ["ai-edge-quantizer", "tflite-converter"])
def test_attention_in_int8_errs_as_its_ideal_and_a_changed_epsilon_is_a_fault(quantizer, attention):
    right = attention.reduced("int8", quantizer=quantizer)
    assert RIGHT[0] < attention.ratio(right) < RIGHT[1]
    assert attention.ratio(attention.broken(right, larger_epsilon)) > FAULTY


def test_another_function_in_an_operators_place_has_no_ideal_that_would_share_it(attention):
    def gated(model: Any) -> None:
        replaced(model, operators(model, "SOFTMAX")[0], "LOGISTIC")

    broken = attention.broken(attention.reduced("int8-dynamic"), gated)
    with pytest.raises(OtherFunction, match="is computed by LOGISTIC, in the float file by SOFTMAX"):
        attention.ideal(broken)
    assert attention.ideal(broken, alone=True).notes, "without the float file nobody can know"


def larger_epsilon(model: Any) -> None:
    """Make what the first normalisation adds to the variance 300 times larger, 0.3 for 0.001."""
    graph = model.subgraphs[0]
    rooted = {int(op.inputs[0]) for op in operators(model, "RSQRT")}
    epsilon = next(graph.tensors[op.inputs[1]] for op in operators(model, "ADD") if int(op.outputs[0]) in rooted)
    epsilon.quantization.scale = [300 * float(scale) for scale in epsilon.quantization.scale]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_attention_errs_as_its_ideal_at_every_precision(precision, attention):
    assert RIGHT[0] < attention.ratio(attention.reduced(precision)) < RIGHT[1]


@pytest.mark.slow
def test_convolutions_of_every_kind_err_as_their_ideal(workers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mobile")
    bench = keras_bench(workers, folder, "mobile", "tflite-converter", (16, 16, 3))
    for precision in PRECISIONS:
        assert RIGHT[0] < bench.ratio(bench.reduced(precision)) < RIGHT[1], precision
    assert bench.ratio(bench.reduced("int8-dynamic")) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_loops_err_as_their_ideal_at_every_precision(workers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recurrent")
    bench = keras_bench(workers, folder, "recurrent", "tflite-converter-batch1", (10, 8))
    for precision in PRECISIONS:
        assert RIGHT[0] < bench.ratio(bench.reduced(precision)) < RIGHT[1], precision
    with pytest.raises(RouteError, match="crashes on loops"):
        bench.reduced("int8", quantizer="tflite-converter")
