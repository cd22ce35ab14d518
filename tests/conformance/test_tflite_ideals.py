"""A right quantized TFLite file errs as much as its ideal, and a faulty one more, however coarse the precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.formats import tflite
from convert.formats._tflite_precision import operator_kinds
from convert.precision import Reduction, perform
from convert.precision.tflite_quantizer import AI_EDGE_QUANTIZER
from convert.recipe import Calibration, Recipe, sample_path
from convert.sources import identify
from convert.spec import Artifact, LoadOptions, fingerprint
from convert.worker import Workers, limits_of
from validators.ideals import Building, Built, build
from validators.runtimes import Execution, Subject, execute
from validators.runtimes.litert import LITERT

PRECISIONS = ("fp16", "int8-dynamic", "int8", "int16x8", "int8-weights", "int4-weights")

#: R of right files; measured 0.98 to 1.01 on the digits network and 0.92 to 1.01 on attention and recurrent ones.
RIGHT = (0.85, 1.1)

#: The least R of faulty files; measured 2.1 (one channel's scale in int8) to 40.
FAULTY = 1.5


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(tmp_path_factory.mktemp("stages"), limits_of(180.0, 0)) as made:
        yield made


class Bench:
    """One float file with data, to be reduced, broken and run in workers."""

    def __init__(self, workers: Workers, folder: Path, base: Path, name: str, samples: np.ndarray) -> None:
        self.workers, self.folder, self.base, self.name = workers, folder, base, name
        self.samples = samples
        for index in range(24):
            np.savez(sample_path(folder, index), **{name: samples[index : index + 1]})
        self.calls = 0
        artifact = Artifact(str(base), "tflite", "fp32", tflite.read(base).signature, *fingerprint(base))
        self.batch = artifact.signature.inputs[0].shape[0]
        self.task = Reduction(
            Recipe("tflite", "int8", "ai-edge-quantizer"),
            "convert.precision.tflite_quantizer",
            artifact,
            identify(base),
            LoadOptions(),
            "",
            Calibration(str(folder), 24, name, "a test"),
        )

    def _stage(self) -> str:
        self.calls += 1
        return f"{self.folder.name}-{self.calls}"

    def reduced(self, precision: str, **recipe: object) -> Path:
        out = self.folder / f"{precision}.tflite"
        task = replace(self.task, recipe=replace(self.task.recipe, precision=precision, **recipe), out=str(out))
        self.workers.run(self._stage(), perform, task, AI_EDGE_QUANTIZER)
        return out

    def answers(self, path: Path) -> np.ndarray:
        """Run on rows 24 on, as batches of 1 and of all the rest where the batch is free."""
        rows = self.samples[24:]
        batches = [rows[:1], rows[1:]] if self.batch == "batch" else [rows[i : i + 1] for i in range(len(rows))]
        stage = self._stage()
        given, found = self.folder / f"{stage}.in.npz", self.folder / f"{stage}.out.npz"
        np.savez(given, **{f"{i}/{self.name}": batch for i, batch in enumerate(batches)})
        job = Execution("litert", Subject(identify(path)), str(given), str(found))
        ran = self.workers.run(stage, execute, job, LITERT).value
        assert not ran.failures, ran.failures
        with np.load(found) as file:
            return np.concatenate([file[f"{i}/{ran.names[0]}"] for i in range(len(batches))])

    def ideal(self, path: Path, *, alone: bool = False) -> Built:
        out = self.folder / "ideal.tflite"
        task = Building("tflite", tflite.read(path).precision, "" if alone else str(self.base), str(path), str(out))
        return self.workers.run(self._stage(), build, task, LITERT).value

    def ratio(self, path: Path, *, alone: bool = False) -> float:
        right = self.answers(self.base)
        built = self.ideal(path, alone=alone)
        assert bool(built.notes) == alone
        actual, least = (np.sqrt(np.mean((self.answers(p) - right) ** 2)) for p in (path, Path(built.path)))
        return float(actual / least)

    def broken(self, path: Path, fault: Callable[[Any], None]) -> Path:
        model = tflite.read_model(path)
        fault(model)
        out = path.with_name(f"broken-{path.name}")
        tflite.write_model(out, model)
        return out


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
