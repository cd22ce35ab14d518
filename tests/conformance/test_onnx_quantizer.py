"""ONNX artifacts at reduced precision: they run, keep the contract, lose what they must and use integer kernels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_nets
import onnxruntime
import pytest

from convert.errors import RouteError
from convert.formats import FORMATS
from convert.precision import Listing, Reduction, list_layers, perform
from convert.recipe import Calibration, Kept, Recipe, sample_path
from convert.spec import Artifact, LoadOptions, SourceFile, fingerprint
from validators.runtimes import RUNTIMES, Subject

MODULE = "convert.precision.onnxruntime_quantizer"
FAMILIES = tuple(onnx_nets.TEXTS)

#: What right artifacts of these networks were measured to keep at least, less 3 dB; see `test_each_precision...`.
LEAST_DB = {"fp16": 50, "int8-dynamic": 30, "int8": 24, "int16x8": 30, "int8-weights": 30, "int4-weights": 12}


def read(path: Path) -> Artifact:
    facts = FORMATS["onnx"].read(path)
    digest, size = fingerprint(path)
    return Artifact(str(path), "onnx", facts.precision, facts.signature, digest, size)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {family: read(onnx_nets.write(family, folder)) for family in FAMILIES}


@pytest.fixture(scope="module")
def calibrations(tmp_path_factory):
    found = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(f"calibration-{family}")
        drawn = onnx_nets.samples(family, 24, seed=1)
        for index, sample in enumerate(drawn):
            np.savez(sample_path(folder, index), **sample)
        found[family] = Calibration(str(folder), len(drawn), family, "drawn")
    return found


@pytest.fixture
def reduced(bases, calibrations, tmp_path):
    """Reduce a network by a recipe."""

    def reduce(family: str, precision: str, name: str = "reduced", **recipe) -> Artifact:
        task = Reduction(
            Recipe("onnx", precision, "onnxruntime", **recipe),
            MODULE,
            bases[family],
            SourceFile("", "onnx", "", "", 0),
            LoadOptions(),
            str(tmp_path / f"{name}.onnx"),
            calibrations[family],
        )
        return perform(task)

    return reduce


def answers(path: str, family: str, count: int = 24) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    return [session.run(None, sample)[0] for sample in onnx_nets.samples(family, count, seed=2)]


def sqnr_db(expected, actual) -> float:
    a, b = np.concatenate(expected).astype(np.float64), np.concatenate(actual).astype(np.float64)
    return float(10 * np.log10(np.square(a).sum() / np.square(a - b).sum()))


def executed(path: str, folder: Path) -> Counter[str]:
    """Count the operators ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(path, options)
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.mark.parametrize("precision", LEAST_DB)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_precision_runs_keeps_the_contract_and_says_what_it_is(bases, reduced, family, precision):
    made = reduced(family, precision)
    onnx.checker.check_model(made.path, full_check=True)
    facts = FORMATS["onnx"].read(Path(made.path))
    assert facts.signature == bases[family].signature
    assert facts.precision == precision
    assert not facts.foreign
    assert sqnr_db(answers(bases[family].path, family), answers(made.path, family)) > LEAST_DB[precision]


@pytest.mark.parametrize("precision", LEAST_DB)
def test_equal_recipes_make_equal_bytes(reduced, precision):
    assert reduced("convolutional", precision, "a").sha256 == reduced("convolutional", precision, "b").sha256


def test_every_convolution_of_an_int8_file_runs_on_an_integer_kernel(reduced, tmp_path):
    ran = executed(reduced("convolutional", "int8").path, tmp_path)
    assert ran["QLinearConv"] == 4
    assert ran["QGemm"] == 1
    assert ran["QLinearAdd"] == 1
    assert ran["NhwcMaxPool"] == 1
    assert not ran["Conv"] + ran["FusedConv"] + ran["Gemm"] + ran["Relu"] + ran["Clip"]


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_every_weight_of_an_encoder_is_multiplied_as_integers(reduced, tmp_path, precision):
    ran = executed(reduced("encoder", precision).path, tmp_path)
    assert ran["MatMulIntegerToFloat"] + ran["QLinearMatMul"] + ran["DynamicQuantizeMatMul"] == 7
    assert ran["MatMul"] + ran["FusedMatMul"] + ran["Gemm"] == 2, "attention's own products stay in float"


@pytest.mark.parametrize("precision", ["int8-weights", "int4-weights"])
def test_weights_alone_go_through_the_kernel_for_narrow_weights(reduced, tmp_path, precision):
    ran = executed(reduced("encoder", precision).path, tmp_path)
    assert ran["MatMulNBits"] >= 6
    assert not ran["Gemm"]


def test_weights_of_four_bits_take_half_a_byte_each(reduced):
    (tensor,) = [
        t for t in onnx.load(reduced("encoder", "int4-weights").path).graph.initializer if t.name == "wide_w_quantized"
    ]
    assert len(tensor.raw_data) == 32 * 64 // 2


def test_a_kept_layer_stays_as_it_was(bases, reduced):
    layer = "third"
    made = reduced("convolutional", "int8", kept=(Kept(layer, "fp32"),))
    weights = {tensor.name for tensor in onnx.load(made.path).graph.initializer if tensor.data_type == 1}
    assert "third_w" in weights
    assert "point_w" not in weights


def test_layers_are_named_as_a_recipe_keeps_them(bases, reduced):
    found = list_layers(Listing("onnxruntime", MODULE, bases["encoder"].path)).found
    assert {layer.name for layer in found} >= {"lifted", "query", "wide", "scores"}
    assert next(layer for layer in found if layer.name == "wide").weight_bytes == 32 * 64 * 4
    everything = tuple(Kept(layer.name, "fp32") for layer in found)
    made = reduced("encoder", "int8-dynamic", kept=everything)
    assert FORMATS["onnx"].read(Path(made.path)).precision == "fp32"


def test_a_layer_that_is_not_there_is_an_error(reduced):
    with pytest.raises(RouteError, match="absent"):
        reduced("encoder", "int8", kept=(Kept("absent", "fp32"),))


@pytest.mark.parametrize("io", ["int8", "uint8"])
@pytest.mark.parametrize("family", ["convolutional", "encoder"])
def test_integers_at_the_boundary_stand_for_the_floats(bases, reduced, family, io):
    made = reduced(family, "int8", io=io)
    facts = FORMATS["onnx"].read(Path(made.path))
    assert facts.signature == made.signature
    (taken,), (given,) = facts.signature.inputs, facts.signature.outputs
    assert taken.dtype == given.dtype == io
    floats = reduced(family, "int8", "floats")
    limits = np.iinfo(io)
    session = onnxruntime.InferenceSession(made.path)
    actual = []
    for sample in onnx_nets.samples(family, 24, seed=2):
        scaled = sample[taken.name] / taken.quantized.scale + taken.quantized.zero_point
        (integers,) = session.run(None, {taken.name: np.clip(np.rint(scaled), limits.min, limits.max).astype(io)})
        actual.append((integers.astype(np.float32) - given.quantized.zero_point) * np.float32(given.quantized.scale))
    assert sqnr_db(answers(floats.path, family), actual) > 30


def test_a_precision_without_ranges_refuses_integers_at_the_boundary(reduced):
    with pytest.raises(RouteError, match="floats"):
        reduced("encoder", "int8-dynamic", io="int8")


def test_a_precision_no_kernel_has_for_a_model_is_refused_by_name(bases, calibrations, tmp_path):
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 20]>
        net (float[7,batch,12] signal) => (float[7,1,batch,24] sequence)
        { sequence = LSTM <hidden_size=24> (signal, w, r) }
    """)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (1, 96, 12)), ("r", (1, 96, 24))):
        array = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, str(tmp_path / "lstm.onnx"))
    task = Reduction(
        Recipe("onnx", "int8", "onnxruntime"),
        MODULE,
        read(tmp_path / "lstm.onnx"),
        SourceFile("", "onnx", "", "", 0),
        LoadOptions(),
        str(tmp_path / "reduced.onnx"),
        calibrations["recurrent"],
    )
    with pytest.raises(RouteError, match="int8-weights") as caught:
        perform(task)
    assert "--precision int8-weights" in caught.value.fix


def test_a_quantized_file_is_not_quantized_again(bases, calibrations, reduced, tmp_path):
    made = reduced("encoder", "int8-dynamic")
    task = Reduction(
        Recipe("onnx", "int8", "onnxruntime"),
        MODULE,
        made,
        SourceFile("", "onnx", "", "", 0),
        LoadOptions(),
        str(tmp_path / "again.onnx"),
        calibrations["encoder"],
    )
    with pytest.raises(RouteError, match="quantized already"):
        perform(task)


def test_full_int8_without_calibration_data_is_an_error(bases, tmp_path):
    task = Reduction(
        Recipe("onnx", "int8", "onnxruntime"),
        MODULE,
        bases["encoder"],
        SourceFile("", "onnx", "", "", 0),
        LoadOptions(),
        str(tmp_path / "none.onnx"),
    )
    with pytest.raises(RouteError, match="calibration"):
        perform(task)


def test_constants_beyond_half_precision_stay_in_float(bases, tmp_path):
    model = onnx.load(bases["encoder"].path)
    wide = next(tensor for tensor in model.graph.initializer if tensor.name == "head_w")
    array = onnx.numpy_helper.to_array(wide) * 1e6
    wide.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), "head_w"))
    path = tmp_path / "wide.onnx"
    onnx.save(model, str(path))
    base = read(path)
    task = Reduction(
        Recipe("onnx", "fp16", "onnxruntime"),
        MODULE,
        base,
        SourceFile("", "onnx", "", "", 0),
        LoadOptions(),
        str(tmp_path / "half.onnx"),
    )
    made = perform(task)
    assert any("head_w" in note for note in made.notes)
    assert sqnr_db(answers(base.path, "encoder"), answers(made.path, "encoder")) > 50


def test_large_constants_stay_beside_the_graph(bases, tmp_path, monkeypatch):
    import convert.formats.onnx as room

    monkeypatch.setattr(room, "INSIDE_BYTES", 10_000)
    base = dataclasses.replace(bases["encoder"])
    task = Reduction(
        Recipe("onnx", "fp16", "onnxruntime"),
        MODULE,
        base,
        SourceFile("", "onnx", "", "", 0),
        LoadOptions(),
        str(tmp_path / "half.onnx"),
    )
    made = perform(task)
    assert [Path(name).name for name in made.companions] == ["half.onnx.data"]
    assert sqnr_db(answers(base.path, "encoder"), answers(made.path, "encoder")) > 50


def neighbours(weight: np.ndarray, node) -> np.ndarray:
    """Give what kernels may sum: neighbours along the depth, a convolution's with channels last too; of one sign."""
    wide = weight.astype(int)
    if node.op_type == "Conv":
        rows = [wide.reshape(len(wide), -1), np.moveaxis(wide, 1, -1).reshape(len(wide), -1)]
    elif node.op_type == "Gemm" and any(entry.name == "transB" and entry.i for entry in node.attribute):
        rows = [wide]
    else:
        rows = [np.moveaxis(wide, -2, -1).reshape(-1, wide.shape[-2])]
    sides = [side for row in rows for side in (np.maximum(row, 0), np.maximum(-row, 0))]
    return np.concatenate([(side[:, 1:] + side[:, :-1]).ravel() for side in sides])


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_sum_of_two_products_overflows_on_processors_without_vnni(reduced, family, precision):
    """There ONNX Runtime adds two products of a uint8 and an int8 in 16 bits; only some processors show it."""
    model = onnx.load(reduced(family, precision).path)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    unpacked = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    sums = []
    for node in model.graph.node:
        integers = node.op_type == "MatMulInteger" or (
            node.op_type in ("Conv", "Gemm", "MatMul") and node.input[0] in unpacked
        )
        weight = stored.get(unpacked.get(node.input[1], node.input[1])) if integers else None
        if weight is not None and weight.dtype == np.int8:
            sums.append(int(neighbours(weight, node).max(initial=0)))

    assert sums
    assert 255 * max(sums) <= np.iinfo(np.int16).max


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("operator", "x", "w", "extra"),
    [
        ("Conv", (1, 6, 9, 9), (8, 6, 3, 3), ""),
        ("Conv", (1, 3, 9, 9), (8, 3, 3, 3), "<strides=[2,2]>"),
        ("Conv", (1, 8, 9, 9), (8, 1, 3, 3), "<group=8>"),
        ("Conv", (1, 8, 9, 9), (8, 4, 1, 1), "<group=2>"),
        ("Gemm", (5, 37), (8, 37), "<transB=1>"),
        ("Gemm", (1, 64), (64, 8), ""),
        ("MatMul", (2, 5, 33), (33, 8), ""),
    ],
)
def test_kernels_of_this_processor_overflow_on_no_weight(tmp_path, operator, x, w, extra, seed):
    """With inputs at the end of their range, which every product then is; on processors with VNNI nothing overflows."""
    rng = np.random.default_rng(seed)
    # A few large weights beside each other, of one sign, are what overflows.
    weight = (rng.standard_t(2, size=w) + 3 * (rng.random(w) < 0.2)).astype(np.float32)
    text = f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[{",".join(map(str, x))}] x) => (float y) {{ y = {operator} {extra} (x, w) }}
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(onnx.shape_inference.infer_shapes(model), str(tmp_path / "float.onnx"))
    given = (rng.random(x) < 0.9).astype(np.float32)
    folder = tmp_path / "calibration"
    folder.mkdir()
    np.savez(sample_path(folder, 0), x=given)
    task = Reduction(
        Recipe("onnx", "int8", "onnxruntime"),
        MODULE,
        read(tmp_path / "float.onnx"),
        SourceFile("", "onnx", "", "", 0),
        LoadOptions(),
        str(tmp_path / "int8.onnx"),
        Calibration(str(folder), 1, "ends", "drawn"),
    )
    made = SourceFile(perform(task).path, "onnx", "", "", 0)

    usual, exact = (
        RUNTIMES[name].open(Subject(made)).run({"x": given}) for name in ("onnxruntime", "onnxruntime_exact")
    )
    assert np.array_equal(usual["y"], exact["y"])
