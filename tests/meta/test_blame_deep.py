"""A deep int8 network, in which rounding adds up along 53 convolutions: one broken layer is still the one blamed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from convert import convert
from convert.formats._tflite_precision import operator_kinds
from convert.formats.tflite import read_model, write_model
from convert.sources import identify
from convert.spec import LoadOptions, SourceFile
from convert.worker import Workers, limits_of
from validators.divergence import Alone, Blame, Series, blame_alone
from validators.ideals import Building
from validators.runtimes import Subject
from validators.taps import Stepping, Tapping, series, step, tap, tap_for, tap_of

HERE = Path(__file__).parent
CASES = ("user-0", "user-1")

pytestmark = pytest.mark.slow


@dataclass
class Deep:
    """The network's int8 file, the float file it was made from, and its source's tensors."""

    folder: Path
    workers: Workers
    right: Path
    base: Path
    inputs: str
    source: Series
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def blame(self, path: Path) -> tuple[Blame, Series]:
        """Blame a file, each operator by itself."""
        item, number = tap_for("tflite"), next(self._numbers)
        subject = Subject(SourceFile(str(path), "tflite", "", "", 0))
        job = Tapping(item.name, subject, self.inputs, str(self.folder / f"{number}.npz"), CASES)
        tapped = self.workers.run(f"tap-{number}", tap, job, item.environment).value
        assert tapped.changed == ""
        ideal = Building("tflite", "int8", str(self.base), str(path), str(self.folder / f"ideal-{number}.tflite"))
        names = tuple(value.name for value in tapped.values)
        asked = Stepping(
            item.name, ideal, names, tapped.path, self.inputs, str(self.folder / f"step-{number}.npz"), CASES
        )
        stepped = self.workers.run(f"step-{number}", step, asked, item.environment).value
        assert stepped.notes == ()
        with np.load(stepped.path) as arrays:
            answers = {at: [arrays[f"{case}/{at}"] for case in CASES] for at in stepped.positions}
        alone = Alone(answers, dict(zip(stepped.positions, stepped.steps, strict=True)))
        mine = series(tapped, CASES)
        return blame_alone(mine, self.source, alone, "int8"), mine


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deep]:
    folder = tmp_path_factory.mktemp("deep")
    subprocess.run([sys.executable, "-W", "ignore", HERE / "deep_nets.py", folder], check=True, timeout=600)
    report = convert(
        folder / "deep.keras",
        to="tflite",
        precision="fp32,int8",
        calibration=folder / "images.npz",
        search_seconds=0,
        out=folder / "out",
        threads=(),
        timeout_seconds=1200,
    )
    base, right = (Path(target.artifact.path) for target in report.targets)
    source = identify(folder / "deep.keras")
    inputs = str(folder / "cases.npz")
    with np.load(folder / "images.npz") as images:
        np.savez(inputs, **{f"user-{at}/input_layer": images["input_layer"][at : at + 1] for at in range(2)})
    with Workers(folder / "workers", limits_of(1200, 0)) as workers:
        item = tap_of("keras")
        job = Tapping(item.name, Subject(source, LoadOptions(), "float64"), inputs, str(folder / "s.npz"), CASES)
        found = workers.run("tap-source", tap, job, item.environment).value
        yield Deep(folder, workers, right, base, inputs, series(found, CASES))


def operator_of(model, layer):
    """Find the product of a Keras layer."""
    graph, kinds = model.subgraphs[0], operator_kinds(model)
    for operator in graph.operators:
        if kinds[operator.opcodeIndex] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            name = graph.tensors[operator.outputs[0]].name.decode()
            if any(f"/{layer}{part}_1/" in name for part in ("", "_BN", "_relu")):
                return graph, operator
    raise AssertionError(f"nothing computes {layer}")


def rewritten(model, index, change):
    tensor = model.subgraphs[0].tensors[index]
    held = model.buffers[tensor.buffer]
    dtype = {9: np.int8, 2: np.int32}[tensor.type]
    array = np.frombuffer(bytes(held.data), dtype).reshape(tensor.shape)
    held.data = np.frombuffer(np.ascontiguousarray(change(array)).astype(dtype).tobytes(), np.uint8)


def scale(factor: float) -> Callable:
    def edit(model, layer):
        graph, operator = operator_of(model, layer)
        stated = graph.tensors[operator.inputs[1]].quantization
        stated.scale = [float(one) * factor for one in stated.scale]

    return edit


def dropped_bias(model, layer):
    _, operator = operator_of(model, layer)
    rewritten(model, operator.inputs[2], np.zeros_like)


def swapped_channels(model, layer):
    _, operator = operator_of(model, layer)
    axis = 3 if "depthwise" in layer else 0
    rewritten(model, operator.inputs[1], lambda array: np.flip(array, axis))


def moved_zero_point(model, layer):
    """What the layer takes is stored with another zero point than it is read with: a bias, to the layer."""
    graph, operator = operator_of(model, layer)
    weight = graph.tensors[operator.inputs[1]]
    array = np.frombuffer(bytes(model.buffers[weight.buffer].data), np.int8).reshape(weight.shape).astype(np.int32)
    sums = array.sum(axis=(0, 1, 2)) if "depthwise" in layer else array.reshape(len(array), -1).sum(axis=1)
    rewritten(model, operator.inputs[2], lambda bias: bias + 3 * sums)


FAULTS = {
    "scale": scale(1.3),
    "a little scale": scale(1.1),
    "dropped bias": dropped_bias,
    "swapped channels": swapped_channels,
    "moved zero point": moved_zero_point,
}
LAYERS = ("Conv1", "block_3_depthwise", "block_6_project", "block_10_expand", "block_16_project")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_broken_layer_of_a_deep_int8_network_is_blamed(deep, tmp_path, fault, layer):
    model = read_model(deep.right)
    FAULTS[fault](model, layer)
    write_model(tmp_path / "broken.tflite", model)
    found, mine = deep.blame(tmp_path / "broken.tflite")
    graph, operator = operator_of(model, layer)
    assert mine.values[found.guilty.position].name == graph.tensors[operator.outputs[0]].name.decode()
    assert layer in {next(iter(deep.source.values[at].layers), "") for at in found.between}
    assert found.guilty.alone > found.guilty.usual * found.bound


def test_a_right_deep_int8_network_has_nothing_to_blame_however_much_it_lost(deep):
    found, mine = deep.blame(deep.right)
    assert found.guilty is None
    (end,) = (point for point in found.points if point.position == mine.outputs[0][1])
    assert end.error > 0.2  # of the answers' rms: what rounding alone lost
    assert end.ratio < 1
    judged = [point for point in found.points if point.alone is not None]
    assert len(judged) > 50
