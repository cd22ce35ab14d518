"""Artifacts with one broken layer: `blame` names that layer, of MobileNets, transformer encoders and LSTMs."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from blamed_nets import INPUTS, SCALED
from onnx import helper, numpy_helper

from convert import convert
from convert.formats._tflite_precision import operator_kinds
from convert.formats.tflite import read_model, write_model
from convert.sources import identify
from convert.spec import NHWC, LoadOptions, SourceFile, TensorSpec
from convert.worker import Workers, limits_of
from validators.blame import _aligned
from validators.divergence import Alone, Blame, Series, blame, blame_alone
from validators.ideals import Building
from validators.kinds import draw
from validators.prove import load_source
from validators.runtimes import RUNTIMES, Feed, Subject
from validators.taps import Isolation, Stepping, Tapping, isolate, series, step, tap, tap_for, tap_of
from validators.taps.litert import LiteRTProbe
from validators.taps.onnxruntime import CutProbe, OnnxProbe

HERE = Path(__file__).parent
SUFFIXES = {"onnx": "onnx", "tflite": "tflite", "torchscript": "pt"}


@dataclass
class Bench:
    """A network, its artifacts, and its source's tensors, which every broken artifact of it is held against."""

    name: str
    folder: Path
    workers: Workers
    inputs: str
    cases: tuple[str, ...]
    exact: Series
    native: Series
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def artifact(self, form: str) -> Path:
        """Find a right artifact."""
        return self.folder / "out" / f"{self.name}.{SUFFIXES[form]}"

    def tapped(self, form: str, path: Path, feeds: tuple[Feed, ...] = ()) -> tuple[Series, Subject]:
        """Tap an artifact; its outputs are those of the untouched run."""
        item = tap_for(form)
        subject = Subject(SourceFile(str(path), form, "", "", 0))
        out = str(self.folder / f"{next(self._numbers)}.npz")
        job = Tapping(item.name, subject, self.inputs, out, self.cases, feeds)
        found = self.workers.run(f"tap-{next(self._numbers)}", tap, job, item.environment).value
        assert found.changed == ""
        return series(found, self.cases), subject

    def blame(
        self, form: str, path: Path, precision: str = "fp32", feeds: tuple[Feed, ...] = ()
    ) -> tuple[Blame, str, str, set[str]]:
        """Blame an artifact: what was found, the guilty operator, its layer, and all that it may be."""
        mine, _ = self.tapped(form, path, feeds)
        found = blame(mine, self.exact, self.native, precision)
        if found.guilty is None:
            return found, "", "", set()
        layer = next(iter(self.exact.values[found.guilty.reference].layers), "")
        covered = {next(iter(self.exact.values[at].layers), "") for at in found.between}
        return found, mine.values[found.guilty.position].operator, layer, covered

    def blame_alone(self, form: str, path: Path, base: Path, precision: str = "int8") -> tuple[Blame, str]:
        """Blame a reduced artifact, each operator against its ideal by itself; gives the guilty one's layer, too."""
        item, number = tap_for(form), next(self._numbers)
        subject = Subject(SourceFile(str(path), form, "", "", 0))
        job = Tapping(item.name, subject, self.inputs, str(self.folder / f"{number}.npz"), self.cases)
        tapped = self.workers.run(f"tap-{number}", tap, job, item.environment).value
        ideal = Building(form, precision, str(base), str(path), str(self.folder / f"ideal-{number}.{SUFFIXES[form]}"))
        names, out = tuple(value.name for value in tapped.values), str(self.folder / f"step-{number}.npz")
        asked = Stepping(item.name, ideal, names, tapped.path, self.inputs, out, self.cases)
        stepped = self.workers.run(f"step-{number}", step, asked, item.environment).value
        with np.load(stepped.path) as arrays:
            answers = {at: [arrays[f"{case}/{at}"] for case in self.cases] for at in stepped.positions}
        alone = Alone(answers, dict(zip(stepped.positions, stepped.steps, strict=True)))
        found = blame_alone(series(tapped, self.cases), self.exact, alone, precision)
        at = found.guilty.reference if found.guilty else -1
        return found, next(iter(self.exact.values[at].layers), "") if found.guilty else ""

    def isolated(self, form: str, path: Path, position: int) -> tuple[Path, np.ndarray]:
        """Cut an operator out of an artifact, and give its file and what it answers."""
        item = tap_for(form)
        out = self.folder / f"cut-{next(self._numbers)}"
        out.mkdir()
        subject = Subject(SourceFile(str(path), form, "", "", 0))
        job = Isolation(item.name, subject, position, self.inputs, self.cases[0], str(out))
        found = self.workers.run(f"cut-{next(self._numbers)}", isolate, job, item.environment).value
        return Path(found.path), np.load(found.answer)


def made(name: str, home: Path) -> Iterator[Bench]:
    """Make a network, convert it, and tap it."""
    subprocess.run([sys.executable, "-W", "ignore", HERE / "blamed_nets.py", name, home], check=True, timeout=200)
    weights, architecture = home / f"{name}.pt", f"{HERE / 'blamed_nets.py'}:{name}"
    report = convert(
        weights,
        to="onnx,tflite,torchscript",
        out=home / "out",
        architecture=architecture,
        input=INPUTS[name],
        threads=(),
        timeout_seconds=400,
    )
    assert report.exit_code == 0, [target.reason for target in report.targets]
    source = identify(weights)
    options = LoadOptions(architecture=architecture, inputs=(TensorSpec.parse(INPUTS[name]),))
    with Workers(home / "workers", limits_of(400, 0)) as workers:
        facts, _ = load_source(workers, source, options)
        drawn = [draw(f"normal-{at}", "normal", facts.signature, {"batch": 1}, 0) for at in range(3)]
        inputs, cases = str(home / "cases.npz"), tuple(case.name for case in drawn)
        np.savez(inputs, **{f"{case.name}/{key}": array for case in drawn for key, array in case.arrays.items()})
        item = tap_of("torch")
        sides = []
        for dtype in ("float64", ""):
            job = Tapping(item.name, Subject(source, options, dtype), inputs, str(home / f"{dtype}.npz"), cases)
            sides.append(series(workers.run(f"tap-{dtype}", tap, job, item.environment).value, cases))
        yield Bench(name, home, workers, inputs, cases, sides[0], _aligned(sides[1], sides[0]))


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    yield from made("mobile", tmp_path_factory.mktemp("mobile"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    yield from made("encoder", tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory):
    yield from made("recurrent", tmp_path_factory.mktemp("recurrent"))


# Faults in ONNX files


def constant(layer, kind, change) -> Callable:
    """Change the constant that the node of a layer takes: of kind `Conv` its weight, of `Add` a bias."""

    def edit(graph):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        (node,) = (n for n in graph.node if n.op_type == kind and layer in scopes(n) and set(n.input) & set(constants))
        name = next(name for name in node.input if name in constants)
        array = numpy_helper.to_array(constants[name])
        constants[name].CopyFrom(numpy_helper.from_array(change(array.copy()).astype(array.dtype), name))

    return edit


def scopes(node):
    said = {entry.key: entry.value for entry in node.metadata_props}
    return said.get("pkg.torch.onnx.name_scopes", "").replace("'", " ").replace(",", " ").split()


def attribute(layer, kind, **values) -> Callable:
    def edit(graph):
        (node,) = (n for n in graph.node if n.op_type == kind and layer in scopes(n))
        for entry in [entry for entry in node.attribute if entry.name in values]:
            node.attribute.remove(entry)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in values.items())

    return edit


def replaced(layer, kind, other) -> Callable:
    def edit(graph):
        node = [n for n in graph.node if n.op_type == kind and layer in scopes(n)][-1]
        node.op_type = other
        del node.input[1:], node.attribute[:]

    return edit


def broken_onnx(bench: Bench, edit: Callable, out: Path) -> Path:
    model = onnx.load(bench.artifact("onnx"))
    edit(model.graph)
    onnx.save(model, out)
    return out


def scaled(array):
    return array * 1.02


def dropped(array):
    return array * 0


def swapped(array):
    array[[1, 3]] = array[[3, 1]]
    return array


MOBILE_ONNX = {
    "scaled depthwise weights": (constant("model.blocks.2.bn2", "Conv", scaled), "Conv", "blocks.2.act"),
    "swapped channels": (constant("model.blocks.1.bn3", "Conv", swapped), "Conv", "blocks.1.bn3"),
    "scaled weights before a sum": (constant("model.blocks.0.bn3", "Conv", scaled), "Conv", "blocks.0"),
    "another activation": (replaced("model.blocks.3.act", "Clip", "Sigmoid"), "Conv", "blocks.3.act"),
    "dropped bias of the last layer": (constant("model.head", "Gemm", dropped), "Gemm", "head"),
}


@pytest.mark.parametrize("fault", MOBILE_ONNX)
def test_the_broken_layer_of_a_mobilenet_in_onnx_is_blamed(mobile, tmp_path, fault):
    edit, kind, layer = MOBILE_ONNX[fault]
    found, operator, blamed, covered = mobile.blame("onnx", broken_onnx(mobile, edit, tmp_path / "broken.onnx"))
    assert (operator, blamed) == (kind, layer)
    assert layer in covered
    assert found.before < 1e-5 < found.guilty.error


def test_a_missing_activation_is_covered_by_what_comes_after_it(mobile, tmp_path):
    edit = replaced("model.blocks.1.act", "Clip", "Identity")
    _, operator, blamed, covered = mobile.blame("onnx", broken_onnx(mobile, edit, tmp_path / "broken.onnx"))
    assert (operator, blamed) == ("Conv", "blocks.1.bn3")
    assert covered == {"blocks.1.act", "blocks.1.project", "blocks.1.bn3"}


ENCODER_ONNX = {
    "scaled query": (constant("model.layers.0.q", "MatMul", scaled), "layers.0.q"),
    "dropped bias": (constant("model.layers.0.v", "Add", dropped), "layers.0.v"),
    "swapped channels": (constant("model.layers.1.down", "MatMul", swapped), "layers.1.down"),
    "another epsilon": (attribute("model.layers.1.norm1", "LayerNormalization", epsilon=1e-3), "layers.1.norm1"),
    "an approximate activation": (attribute("model.layers.0.act", "Gelu", approximate="tanh"), "layers.0.act"),
    "another activation": (replaced("model.layers.1.act", "Gelu", "Relu"), "layers.1.act"),
    "softmax over another axis": (attribute("model.layers.0", "Softmax", axis=-2), "layers.0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENCODER_ONNX)
def test_the_broken_layer_of_an_encoder_in_onnx_is_blamed(encoder, tmp_path, fault):
    edit, layer = ENCODER_ONNX[fault]
    found, _, blamed, _ = encoder.blame("onnx", broken_onnx(encoder, edit, tmp_path / "broken.onnx"))
    assert blamed == layer
    assert found.before < 1e-5 < found.guilty.error


# Faults in TFLite files


def weights(layer, kind, change, which=1) -> Callable:
    """Change a constant of the operator whose output is named after a layer."""

    def edit(model):
        graph, operator = named(model, layer, kind)
        tensor = graph.tensors[operator.inputs[which]]
        buffer = model.buffers[tensor.buffer]
        array = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape)
        buffer.data = np.frombuffer(change(array.copy()).astype(np.float32).tobytes(), np.uint8)

    return edit


def named(model, layer, kind):
    graph, kinds = model.subgraphs[0], operator_kinds(model)
    for operator in graph.operators:
        name = graph.tensors[operator.outputs[0]].name.decode()
        if kinds[operator.opcodeIndex] == kind and layer in name.split(";"):
            return graph, operator
    raise AssertionError(f"no {kind} of {layer}")


def without_activation(layer, kind) -> Callable:
    def edit(model):
        named(model, layer, kind)[1].builtinOptions.fusedActivationFunction = 0

    return edit


def broken_tflite(bench: Bench, edit: Callable, out: Path) -> Path:
    model = read_model(bench.artifact("tflite"))
    edit(model)
    write_model(out, model)
    return out


def reversed_channels(array):
    return array[..., ::-1]


MOBILE_TFLITE = {
    "scaled depthwise weights": (
        weights("model/blocks/2/depth", "DEPTHWISE_CONV_2D", scaled),
        "DEPTHWISE_CONV_2D",
        "blocks.2.act",
    ),
    "swapped channels": (weights("model/blocks/1/project", "CONV_2D", swapped), "CONV_2D", "blocks.1.bn3"),
    "reversed channels": (
        weights("model/blocks/3/depth", "DEPTHWISE_CONV_2D", reversed_channels),
        "DEPTHWISE_CONV_2D",
        "blocks.3.act",
    ),
    "dropped bias": (weights("model/stem/0", "CONV_2D", dropped, 2), "CONV_2D", "stem.2"),
    "a missing activation": (without_activation("model/blocks/1/expand", "CONV_2D"), "CONV_2D", "blocks.1.act"),
}


@pytest.mark.parametrize("fault", MOBILE_TFLITE)
def test_the_broken_layer_of_a_mobilenet_in_tflite_is_blamed(mobile, tmp_path, fault):
    edit, kind, layer = MOBILE_TFLITE[fault]
    found, operator, blamed, _ = mobile.blame("tflite", broken_tflite(mobile, edit, tmp_path / "broken.tflite"))
    assert (operator, blamed) == (kind, layer)
    assert found.before < 1e-5 < found.guilty.error


ENCODER_TFLITE = {
    "scaled key": ("model/0/k", scaled, "layers.0.k"),
    "scaled value": ("model/1/v", scaled, "layers.1.v"),
    "swapped channels": ("model/0/up", swapped, "layers.0.up"),
    "scaled output": ("model/1/o", scaled, "layers.1.o"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENCODER_TFLITE)
def test_the_broken_layer_of_an_encoder_in_tflite_is_blamed(encoder, tmp_path, fault):
    layer, change, sought = ENCODER_TFLITE[fault]
    edit = weights(layer, "FULLY_CONNECTED", change)
    found, _, blamed, _ = encoder.blame("tflite", broken_tflite(encoder, edit, tmp_path / "broken.tflite"))
    assert blamed == sought
    assert found.before < 1e-5 < found.guilty.error


# Files that onnx2tf made: channels last, and tensors named after the nodes of an ONNX graph that nobody has


def by_onnx2tf(bench: Bench, **options: str) -> Path:
    report = convert(
        bench.folder / f"{bench.name}.pt",
        to="tflite",
        via="onnx2tf",
        out=bench.folder / "onnx2tf",
        architecture=f"{HERE / 'blamed_nets.py'}:{bench.name}",
        input=INPUTS[bench.name],
        threads=(),
        timeout_seconds=400,
        **options,
    )
    (target,) = report.targets
    assert report.exit_code == 0, target.reason
    names = [tensor.name.decode() for tensor in read_model(Path(target.artifact.path)).subgraphs[0].tensors]
    assert not any(name.startswith("model/") for name in names)  # none tells a layer, as litert-torch's do
    return Path(target.artifact.path)


@pytest.fixture(scope="module")
def native_mobile(toolchain, mobile):
    return by_onnx2tf(mobile, layout=NHWC), (Feed("image", "image", "float32", (0, 2, 3, 1)),)


@pytest.fixture(scope="module")
def plain_encoder(toolchain, encoder):
    return by_onnx2tf(encoder)


def nth_weights(kind, which, change, taken=1) -> Callable:
    """Change a constant of the operator that comes so many of its kind after the first."""

    def edit(model):
        kinds = operator_kinds(model)
        operator = [one for one in model.subgraphs[0].operators if kinds[one.opcodeIndex] == kind][which]
        tensor = model.subgraphs[0].tensors[operator.inputs[taken]]
        buffer = model.buffers[tensor.buffer]
        array = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape)
        buffer.data = np.frombuffer(change(array.copy()).astype(np.float32).tobytes(), np.uint8)

    return edit


def edited(path: Path, edit: Callable, out: Path) -> Path:
    model = read_model(path)
    edit(model)
    write_model(out, model)
    return out


#: The convolutions are the stem, and of each block what expands and what projects it.
MOBILE_ONNX2TF = {
    "dropped bias": (nth_weights("CONV_2D", 0, dropped, 2), "CONV_2D", "stem.2"),
    "scaled depthwise weights": (nth_weights("DEPTHWISE_CONV_2D", 1, scaled), "DEPTHWISE_CONV_2D", "blocks.1.act"),
    "scaled weights before a sum": (nth_weights("CONV_2D", 2, scaled), "CONV_2D", "blocks.0.bn3"),
    "swapped channels": (nth_weights("CONV_2D", 6, swapped), "CONV_2D", "blocks.2.bn3"),
    "reversed depthwise channels": (
        nth_weights("DEPTHWISE_CONV_2D", 3, reversed_channels),
        "DEPTHWISE_CONV_2D",
        "blocks.3.act",
    ),
    "reversed channels": (nth_weights("CONV_2D", 7, reversed_channels), "CONV_2D", "blocks.3.act"),
    "scaled weights of the last layer": (nth_weights("FULLY_CONNECTED", 0, scaled), "FULLY_CONNECTED", "head"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", MOBILE_ONNX2TF)
def test_the_broken_layer_of_a_mobilenet_by_onnx2tf_is_blamed(mobile, native_mobile, tmp_path, fault):
    edit, kind, layer = MOBILE_ONNX2TF[fault]
    path, feeds = native_mobile
    found, operator, blamed, covered = mobile.blame(
        "tflite", edited(path, edit, tmp_path / "broken.tflite"), feeds=feeds
    )
    assert (operator, blamed) == (kind, layer)
    assert found.before < 1e-5 < found.guilty.error
    assert {layer.split(".")[0] for layer in covered} == {layer.split(".")[0]}


@pytest.mark.slow
def test_a_right_mobilenet_by_onnx2tf_has_nothing_to_blame(mobile, native_mobile):
    path, feeds = native_mobile
    found, operator, _, _ = mobile.blame("tflite", path, feeds=feeds)
    assert operator == ""
    mine, _ = mobile.tapped("tflite", path, feeds)
    computed = [at for at, value in enumerate(mine.values) if value.operator and not value.moves]
    assert set(computed) <= {point.position for point in found.points}
    images = {point.axes for point in found.points if point.position in computed and len(point.axes) == 3}
    assert images == {(2, 0, 1)}  # channels first again, of a batch of one


#: The products are what embeds, each layer's queries, keys, values, output and both steps of its net, and the head.
ENCODER_ONNX2TF = {
    "reversed inputs": (nth_weights("FULLY_CONNECTED", 0, reversed_channels), "embed"),
    "swapped channels of a key": (nth_weights("FULLY_CONNECTED", 2, swapped), "layers.0.k"),
    "reversed inputs of a query": (nth_weights("FULLY_CONNECTED", 7, reversed_channels), "layers.1.q"),
    "scaled values": (nth_weights("FULLY_CONNECTED", 9, scaled), "layers.1.v"),
    "reversed inputs of an output": (nth_weights("FULLY_CONNECTED", 10, reversed_channels), "layers.1.o"),
    "reversed inputs of a net": (nth_weights("FULLY_CONNECTED", 12, reversed_channels), "layers.1.down"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENCODER_ONNX2TF)
def test_the_broken_layer_of_an_encoder_by_onnx2tf_is_blamed(encoder, plain_encoder, tmp_path, fault):
    edit, layer = ENCODER_ONNX2TF[fault]
    path = edited(plain_encoder, edit, tmp_path / "broken.tflite")
    found, operator, blamed, _ = encoder.blame("tflite", path)
    assert (operator, blamed) == ("FULLY_CONNECTED", layer)
    assert found.before < 1e-5 < found.guilty.error


@pytest.mark.slow
def test_a_right_encoder_by_onnx2tf_has_nothing_to_blame(encoder, plain_encoder):
    found, operator, _, _ = encoder.blame("tflite", plain_encoder)
    assert operator == ""
    assert len(found.points) > 40


# TorchScript


@pytest.mark.parametrize("parameter", SCALED["mobile"])
def test_the_broken_layer_of_a_mobilenet_in_torchscript_is_blamed(mobile, parameter):
    _, operator, _, covered = mobile.blame("torchscript", mobile.folder / f"mobile-{parameter}.pt")
    assert operator == "aten::_convolution"
    assert parameter.rpartition(".")[0] in covered


@pytest.mark.slow
@pytest.mark.parametrize("parameter", SCALED["encoder"])
def test_the_broken_layer_of_an_encoder_in_torchscript_is_blamed(encoder, parameter):
    _, _, blamed, _ = encoder.blame("torchscript", encoder.folder / f"encoder-{parameter}.pt")
    assert blamed == parameter.rpartition(".")[0]


# A recurrent network


@pytest.mark.slow
def test_the_broken_lstm_is_blamed_in_every_format(recurrent, tmp_path):
    for parameter in SCALED["recurrent"]:
        _, _, blamed, _ = recurrent.blame("torchscript", recurrent.folder / f"recurrent-{parameter}.pt")
        assert blamed == parameter.rpartition(".")[0]
    edit = constant("model.lstm", "LSTM", lambda array: array * 1.1)
    _, operator, blamed, _ = recurrent.blame("onnx", broken_onnx(recurrent, edit, tmp_path / "broken.onnx"))
    assert (operator, blamed) == ("LSTM", "lstm")
    edit = weights("model/lstm", "FULLY_CONNECTED", lambda array: array * 1.1)
    _, operator, blamed, _ = recurrent.blame("tflite", broken_tflite(recurrent, edit, tmp_path / "broken.tflite"))
    assert (operator, blamed) == ("FULLY_CONNECTED", "lstm")


# What must not be blamed, and traps


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_right_artifact_has_nothing_to_blame(mobile, form):
    found, operator, _, _ = mobile.blame(form, mobile.artifact(form))
    assert operator == ""
    assert len(found.points) > 15


@pytest.mark.slow
@pytest.mark.parametrize("form", SUFFIXES)
def test_a_right_encoder_has_nothing_to_blame(encoder, form):
    assert encoder.blame(form, encoder.artifact(form))[1] == ""


def test_taps_do_not_undo_what_onnx_runtime_fuses(mobile):
    mine, _ = mobile.tapped("onnx", mobile.artifact("onnx"))
    operators = [value.operator for value in mine.values]
    assert "Clip" not in operators  # the file has seven; they are in the convolutions before them
    assert operators.count("Conv") == 13
    by_name = {value.name: at for at, value in enumerate(mine.values)}
    assert mine.arrays[by_name["hardtanh_1"]][0].shape == (1, 32, 16, 16)  # not in blocks of channels


def test_delegated_tensors_are_read_as_computed(mobile):
    mine, _ = mobile.tapped("tflite", mobile.artifact("tflite"))
    assert all(array is not None and np.abs(array[0]).max() > 0 for array in mine.arrays)


@pytest.mark.parametrize("form", SUFFIXES)
def test_an_operator_cut_out_computes_what_it_did_in_its_model(mobile, form):
    mine, _ = mobile.tapped(form, mobile.artifact(form))
    position = next(at for at, value in reversed(list(enumerate(mine.values))) if "conv" in value.operator.lower())
    path, answer = mobile.isolated(form, mobile.artifact(form), position)
    assert path.is_file()
    np.testing.assert_allclose(answer, mine.arrays[position][0], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors")
def test_a_file_cut_at_each_tensor_computes_what_the_whole_one_does(mobile):
    from ai_edge_litert.interpreter import Interpreter

    path = mobile.artifact("tflite")
    subject = Subject(SourceFile(str(path), "tflite", "", "", 0))
    with np.load(mobile.inputs) as arrays:
        image = {"image": arrays["normal-0/image"]}
    whole, cut = LiteRTProbe(subject).run(image), LiteRTProbe(subject, cut=True).run(image)
    assert cut.values == whole.values
    for one, other in zip(whole.arrays, cut.arrays, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    # What the probe is for: without it, a tensor inside the delegate cannot be read.
    interpreter = Interpreter(str(path))
    interpreter.get_signature_runner()(**image)
    with pytest.raises(ValueError, match=r"[Tt]ensor"):
        [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_tensor_details()]


def test_an_onnx_file_cut_at_each_tensor_computes_what_the_whole_one_does(mobile):
    subject = Subject(SourceFile(str(mobile.artifact("onnx")), "onnx", "", "", 0))
    with np.load(mobile.inputs) as arrays:
        image = {"image": arrays["normal-0/image"]}
    whole, cut = OnnxProbe(subject).run(image), CutProbe(subject).run(image)
    untouched = RUNTIMES["onnxruntime"].open(subject).run(image)

    assert cut.values == whole.values
    assert all(np.array_equal(untouched[name], cut.arrays[at]) for name, at in cut.outputs)
    both = [(one, other) for one, other in zip(whole.arrays, cut.arrays, strict=True) if other is not None]
    assert len(both) > 0.8 * len(whole.arrays)
    for one, other in both:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# Quantized


def quantized_of(bench: Bench, precision: str) -> dict[tuple[str, str], Path]:
    """Quantize a network as it is, without looking for what loses less."""
    spec = TensorSpec.parse(INPUTS[bench.name])
    calibration = bench.folder / "calibration.npz"
    rows = np.random.default_rng(0).standard_normal(spec.sized({"batch": 64})).astype(np.float32)
    np.savez(calibration, **{spec.name: rows})
    report = convert(
        bench.folder / f"{bench.name}.pt",
        to="onnx,tflite",
        precision=precision,
        calibration=calibration,
        search_seconds=0,
        out=bench.folder / "quantized",
        architecture=f"{HERE / 'blamed_nets.py'}:{bench.name}",
        input=INPUTS[bench.name],
        threads=(),
        timeout_seconds=400,
    )
    return {(target.target, target.precision): Path(target.artifact.path) for target in report.targets}


@pytest.fixture(scope="module")
def quantized(mobile):
    return quantized_of(mobile, "int8,fp16")


@pytest.fixture(scope="module")
def quantized_encoder(encoder):
    return quantized_of(encoder, "int8")


@pytest.fixture(scope="module")
def quantized_recurrent(recurrent):
    return quantized_of(recurrent, "int8")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_right_quantized_mobilenet_has_nothing_to_blame(mobile, quantized, form, precision):
    found, operator, _, _ = mobile.blame(form, quantized[form, precision], precision)
    assert operator == ""
    assert len(found.points) > 12


@pytest.mark.slow
def test_weights_unpacked_at_the_start_are_not_read_as_zeros(mobile, quantized):
    mine, _ = mobile.tapped("tflite", quantized["tflite", "fp16"])
    kinds = operator_kinds(read_model(quantized["tflite", "fp16"]))
    assert "DEQUANTIZE" in kinds
    assert "DEQUANTIZE" not in {value.operator for value in mine.values}
    assert all(array is not None and np.abs(array[0]).max() > 0 for array in mine.arrays)


def other_scales(layer, kind) -> Callable:
    def edit(model):
        graph, operator = named(model, layer, kind)
        stated = graph.tensors[operator.inputs[1]].quantization
        stated.scale = [float(scale) * 1.3 for scale in stated.scale]

    return edit


def reversed_integers(layer, kind) -> Callable:
    def edit(model):
        graph, operator = named(model, layer, kind)
        tensor = graph.tensors[operator.inputs[1]]
        array = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).reshape(tensor.shape)
        turned = array[..., ::-1] if kind.startswith("DEPTHWISE") else array[::-1]
        model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(turned).tobytes(), np.uint8)

    return edit


INT8_TFLITE = {
    "scale before a padding": (other_scales("model/blocks/1/expand", "CONV_2D"), "blocks.1.act"),
    "scale of a depthwise layer": (other_scales("model/blocks/2/depth", "DEPTHWISE_CONV_2D"), "blocks.2.act"),
    "reversed channels": (reversed_integers("model/blocks/0/project", "CONV_2D"), "blocks.0.bn3"),
    "reversed depthwise channels": (reversed_integers("model/blocks/3/depth", "DEPTHWISE_CONV_2D"), "blocks.3.act"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", INT8_TFLITE)
def test_the_broken_layer_of_an_int8_mobilenet_in_tflite_is_blamed(mobile, quantized, tmp_path, fault):
    edit, layer = INT8_TFLITE[fault]
    model = read_model(quantized["tflite", "int8"])
    edit(model)
    write_model(tmp_path / "broken.tflite", model)
    assert mobile.blame("tflite", tmp_path / "broken.tflite", "int8")[2] == layer


def rescaled(bench: Bench, path: Path, layer: str, out: Path) -> None:
    """Write an int8 ONNX file in which a layer's weights are read with other scales."""
    whole, model = onnx.load(bench.artifact("onnx")), onnx.load(path)
    weights = {tensor.name for tensor in whole.graph.initializer if len(tensor.dims) > 1}
    # Quantizing drops where a node comes from; the name of its weight stays.
    names = {name for node in whole.graph.node if f"model.{layer}" in scopes(node) for name in node.input}
    (name,) = names & weights
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == f"{name}_scale")
    scale.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(scale) * 1.4).astype(np.float32), scale.name))
    onnx.save(model, out)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["blocks.0.depth", "blocks.2.project", "head"])
def test_the_broken_layer_of_an_int8_mobilenet_in_onnx_is_blamed(mobile, quantized, tmp_path, layer):
    rescaled(mobile, quantized["onnx", "int8"], layer, tmp_path / "broken.onnx")
    assert layer in mobile.blame("onnx", tmp_path / "broken.onnx", "int8")[3]


ENCODER_INT8_TFLITE = {
    "scale of the keys": (other_scales("model/0/k", "FULLY_CONNECTED"), "layers.0.k"),
    "scale of the values": (other_scales("model/1/v", "FULLY_CONNECTED"), "layers.1.v"),
    "reversed features": (reversed_integers("model/0/up", "FULLY_CONNECTED"), "layers.0.up"),
    "scale of the output": (other_scales("model/1/o", "FULLY_CONNECTED"), "layers.1.o"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENCODER_INT8_TFLITE)
def test_the_broken_layer_of_an_int8_encoder_in_tflite_is_blamed(encoder, quantized_encoder, tmp_path, fault):
    edit, layer = ENCODER_INT8_TFLITE[fault]
    model = read_model(quantized_encoder["tflite", "int8"])
    edit(model)
    write_model(tmp_path / "broken.tflite", model)
    assert encoder.blame_alone("tflite", tmp_path / "broken.tflite", encoder.artifact("tflite"))[1] == layer


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layers.0.q", "layers.1.v", "layers.1.down"])
def test_the_broken_layer_of_an_int8_encoder_in_onnx_is_blamed(encoder, quantized_encoder, tmp_path, layer):
    rescaled(encoder, quantized_encoder["onnx", "int8"], layer, tmp_path / "broken.onnx")
    assert encoder.blame_alone("onnx", tmp_path / "broken.onnx", encoder.artifact("onnx"))[1] == layer


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_a_right_quantized_encoder_has_nothing_to_blame(encoder, quantized_encoder, form):
    found, _ = encoder.blame_alone(form, quantized_encoder[form, "int8"], encoder.artifact(form))
    assert found.guilty is None
    assert len([point for point in found.points if point.alone is not None]) > 12


@pytest.mark.slow
def test_the_broken_head_of_an_int8_lstm_in_onnx_is_blamed(recurrent, quantized_recurrent, tmp_path):
    rescaled(recurrent, quantized_recurrent["onnx", "int8"], "head", tmp_path / "broken.onnx")
    assert recurrent.blame_alone("onnx", tmp_path / "broken.onnx", recurrent.artifact("onnx"))[1] == "head"


@pytest.mark.slow
@pytest.mark.parametrize(("product", "layer"), [(-1, "head"), (1, "lstm")])
def test_the_broken_layer_of_an_int8_lstm_in_tflite_is_blamed(recurrent, quantized_recurrent, tmp_path, product, layer):
    """The products are those of what comes in, of the state at each step, and of the head."""
    model = read_model(quantized_recurrent["tflite", "int8"])
    graph, kinds = model.subgraphs[0], operator_kinds(model)
    products = [one for one in graph.operators if kinds[one.opcodeIndex] == "FULLY_CONNECTED"]
    stated = graph.tensors[products[product].inputs[1]].quantization
    stated.scale = [float(scale) * 1.3 for scale in stated.scale]
    write_model(tmp_path / "broken.tflite", model)
    assert recurrent.blame_alone("tflite", tmp_path / "broken.tflite", recurrent.artifact("tflite"))[1] == layer


# The command


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_the_command_names_the_layer_and_writes_the_operator(mobile, tmp_path, form):
    if form == "onnx":
        path = broken_onnx(mobile, MOBILE_ONNX["scaled depthwise weights"][0], tmp_path / "broken.onnx")
    else:
        path = broken_tflite(mobile, MOBILE_TFLITE["scaled depthwise weights"][0], tmp_path / "broken.tflite")
    words = [sys.executable, "-m", "validators", "blame", path, "--reference", mobile.folder / "mobile.pt"]
    words += ["--architecture", f"{HERE / 'blamed_nets.py'}:mobile", "--input", INPUTS["mobile"]]
    out = tmp_path / "guilty"
    ran = subprocess.run([*words, "--out", out, "--json", "--quiet"], capture_output=True, text=True, timeout=500)
    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    assert report["guilty"]["layer"] == "blocks.2.act"
    assert report["guilty"]["line"].startswith("blamed_nets.py:")
    assert report["reproduction"]["error"] == pytest.approx(report["guilty"]["error_after"], rel=0.5)
    assert {file.name for file in out.iterdir()} == {f"operator.{form}", "inputs.npz", "answer.npy", "expected.npy"}
    right = [*words[:4], mobile.artifact(form), *words[5:], "--quiet"]
    ran = subprocess.run(right, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    assert "nothing is to blame" in ran.stdout
