"""The ideal of a reduced ONNX file errs as the file does, and not as a file with one number changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_nets
import pytest
from onnx import numpy_helper

from convert.errors import LoadError
from convert.formats import FORMATS
from convert.precision import Reduction, perform
from convert.recipe import Calibration, Kept, Recipe, sample_path
from convert.spec import Artifact, LoadOptions, SourceFile, fingerprint
from validators.ideals import IDEALS, Building, build
from validators.runtimes import RUNTIMES, Subject

PRECISIONS = ("fp16", "int8-dynamic", "int8", "int16x8", "int8-weights", "int4-weights")

#: Right files of these networks measured 0.93 to 1.06.
RIGHT = (0.85, 1.15)

#: The engine for files of other tools, whose 8-bit weights overflow on x86 processors without VNNI; ours must not.
EXACT = "onnxruntime_exact"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every network at every precision, by family and precision; made when first asked for."""
    folder = tmp_path_factory.mktemp("made")
    done: dict[tuple, str] = {}

    def make(family: str, precision: str, **recipe) -> tuple[str, str]:
        key = (family, precision, str(recipe))
        base = folder / f"{family}.onnx"
        if not base.exists():
            onnx_nets.write(family, folder)
        if key not in done:
            cal = folder / f"calibration-{family}"
            cal.mkdir(exist_ok=True)
            drawn = onnx_nets.samples(family, 24, seed=1)
            for index, sample in enumerate(drawn):
                np.savez(sample_path(cal, index), **sample)
            facts = FORMATS["onnx"].read(base)
            digest, size = fingerprint(base)
            task = Reduction(
                Recipe("onnx", precision, "onnxruntime", **recipe),
                "convert.precision.onnxruntime_quantizer",
                Artifact(str(base), "onnx", facts.precision, facts.signature, digest, size),
                SourceFile("", "onnx", "", "", 0),
                LoadOptions(),
                str(folder / f"{len(done)}.onnx"),
                Calibration(str(cal), len(drawn), family, "drawn"),
            )
            done[key] = perform(task).path
        return str(base), done[key]

    return make


def answers(runtime: str, path: str, family: str) -> np.ndarray:
    session = RUNTIMES[runtime].open(Subject(SourceFile(path, "onnx", "", "", 0)))
    found = [next(iter(session.run(sample).values())) for sample in onnx_nets.samples(family, 48, seed=2)]
    return np.concatenate(found).astype(np.float64)


def ratio(
    base: str,
    reduced: str,
    family: str,
    precision: str,
    folder: Path,
    *,
    known: bool = True,
    engine: str = "onnxruntime",
) -> float:
    """Give the reduced file's error over its ideal's, both against the float network."""
    built = build(Building("onnx", precision, base if known else "", reduced, str(folder / "ideal.onnx")))
    onnx.checker.check_model(built.path, full_check=True)
    assert bool(built.notes) is not known
    wanted = answers("onnxruntime_plain", base, family)
    actual, ideal = answers(engine, reduced, family), answers(IDEALS["onnx"].runtime, built.path, family)
    return float(np.sqrt(np.square(actual - wanted).mean() / np.square(ideal - wanted).mean()))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", onnx_nets.TEXTS)
def test_a_right_file_errs_as_its_ideal(made, tmp_path, family, precision):
    base, reduced = made(family, precision)
    assert RIGHT[0] < ratio(base, reduced, family, precision, tmp_path) < RIGHT[1]
    assert RIGHT[0] < ratio(base, reduced, family, precision, tmp_path, known=False) < RIGHT[1]


def test_a_file_with_layers_left_in_float_errs_as_its_ideal(made, tmp_path):
    base, reduced = made("convolutional", "int8", kept=(Kept("third", "fp32"), Kept("joined", "fp32")))
    assert RIGHT[0] < ratio(base, reduced, "convolutional", "int8", tmp_path) < RIGHT[1]


class Reader:
    """Calibration data as ONNX Runtime's own tool takes it."""

    def __init__(self, family: str) -> None:
        self.drawn = iter(onnx_nets.samples(family, 16, seed=1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.drawn, None)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("family", ["convolutional", "encoder", "tokens"])
def test_a_file_of_onnx_runtimes_own_tool_errs_as_its_ideal(made, tmp_path, family, precision):
    from onnxruntime import quantization

    base, _ = made(family, "fp16")
    elsewhere = str(tmp_path / "elsewhere.onnx")
    if precision == "int8":
        quantization.quantize_static(base, elsewhere, Reader(family), per_channel=True)
    else:
        quantization.quantize_dynamic(base, elsewhere)
    assert FORMATS["onnx"].read(Path(elsewhere)).precision == precision
    assert RIGHT[0] < ratio(base, elsewhere, family, precision, tmp_path, engine=EXACT) < RIGHT[1]


@pytest.mark.parametrize("family", onnx_nets.TEXTS)
def test_a_file_of_operators_that_compute_in_integers_errs_as_its_ideal(made, tmp_path, family):
    base, elsewhere = in_one(made, tmp_path, family)
    kinds = {node.op_type for node in onnx.load(elsewhere).graph.node}
    assert kinds & {"QLinearConv", "QLinearMatMul", "QGemm"}
    assert RIGHT[0] < ratio(base, elsewhere, family, "int8", tmp_path) < RIGHT[1]
    assert RIGHT[0] < ratio(base, elsewhere, family, "int8", tmp_path, known=False) < RIGHT[1]


def in_one(made, folder: Path, family: str) -> tuple[str, str]:
    """Quantize with ONNX Runtime's own tool into operators that take and give integers."""
    from onnxruntime import quantization

    base, _ = made(family, "fp16")
    elsewhere = str(folder / "elsewhere.onnx")
    form = quantization.QuantFormat.QOperator
    quantization.quantize_static(base, elsewhere, Reader(family), quant_format=form, per_channel=True)
    return base, elsewhere


@pytest.mark.parametrize(("family", "operator"), [("convolutional", "QLinearConv"), ("encoder", "QLinearMatMul")])
def test_a_wrong_scale_among_operators_that_compute_in_integers_shows(made, tmp_path, family, operator):
    base, elsewhere = in_one(made, tmp_path, family)
    model = onnx.load(elsewhere)
    node = [node for node in model.graph.node if node.op_type == operator][-1]
    scaled(model, node.input[4])
    onnx.save(model, elsewhere)
    assert ratio(base, elsewhere, family, "int8", tmp_path) > 1.25


@pytest.mark.parametrize("biased", [True, False])
def test_a_product_that_quantizes_what_comes_errs_as_its_ideal(tmp_path, biased):
    """DynamicQuantizeMatMul is what ONNX Runtime joins operators of the standard to, and other tools write."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(16, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    scales = (np.abs(weight).max(0) / 127).astype(np.float32)
    numbers = {"w": weight, "b": bias, "wq": np.rint(weight / scales).astype(np.int8), "ws": scales}
    product = "p = MatMul (x, w) y = Add (p, b)" if biased else "y = MatMul (x, w)"
    joined = f"y = com.microsoft.DynamicQuantizeMatMul (x, wq, ws{', , b' if biased else ''})"
    for name, text in (("float", product), ("joined", joined)):
        model = onnx.parser.parse_model(f"""
            <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
            net (float[batch,16] x) => (float[batch,8] y) {{ {text} }}
        """)
        read = {given for node in model.graph.node for given in node.input}
        model.graph.initializer.extend(numpy_helper.from_array(numbers[n], n) for n in numbers if n in read)
        onnx.save(model, str(tmp_path / f"{name}.onnx"))

    base, reduced = (str(tmp_path / f"{name}.onnx") for name in ("float", "joined"))
    assert FORMATS["onnx"].read(Path(reduced)).precision == "int8-dynamic"
    built = build(Building("onnx", "int8-dynamic", base, reduced, str(tmp_path / "ideal.onnx")))
    x = rng.normal(size=(64, 16)).astype(np.float32)
    wanted = x @ weight + bias * biased
    actual, ideal = (
        RUNTIMES[runtime].open(Subject(SourceFile(path, "onnx", "", "", 0))).run({"x": x})["y"]
        for runtime, path in ((EXACT, reduced), (IDEALS["onnx"].runtime, built.path))
    )
    assert np.abs(ideal - wanted).max() > 1e-3
    assert np.square(actual - ideal).sum() < 1e-4 * np.square(ideal - wanted).sum()


def scaled(model: onnx.ModelProto, name: str) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * 1.2).astype(np.float32), name))


def shifted(model: onnx.ModelProto, output: str, dtype: str) -> None:
    """Give the node that makes `output` a zero point of its own, three steps off."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    node = next(node for node in model.graph.node if output in node.output)
    place = 3 if node.op_type == "MatMulInteger" else 2
    zero = numpy_helper.to_array(tensors[node.input[place]]).astype(np.int32) + 3
    model.graph.initializer.append(numpy_helper.from_array(zero.astype(dtype), "shifted"))
    node.input[place] = "shifted"


def with_epsilon(model: onnx.ModelProto, epsilon: float) -> None:
    node = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    next(entry for entry in node.attribute if entry.name == "epsilon").f = epsilon


BREAKAGES = {
    "int8, a weight's scale": ("convolutional", "int8", lambda m: scaled(m, "third_w_scale")),
    "int8, a weight's zero point": (
        "convolutional",
        "int8",
        lambda m: shifted(m, "third_w_dequantized", "int8"),
    ),
    "int8, an activation's zero point": (
        "convolutional",
        "int8",
        lambda m: shifted(m, "pooled_dequantized", "uint8"),
    ),
    "int8, a normalization": ("encoder", "int8", lambda m: with_epsilon(m, 0.1)),
    "int16x8, a weight's scale": ("encoder", "int16x8", lambda m: scaled(m, "wide_w_scale")),
    "int8-dynamic, a weight's scale": ("encoder", "int8-dynamic", lambda m: scaled(m, "wide_w_scale")),
    "int8-dynamic, a weight's zero point": ("encoder", "int8-dynamic", lambda m: shifted(m, "wide_sums", "int8")),
    "int8-dynamic, a normalization": ("encoder", "int8-dynamic", lambda m: with_epsilon(m, 0.1)),
    "int8-weights, a scale": ("recurrent", "int8-weights", lambda m: scaled(m, "r2_scale")),
    "int8-weights, a table's scale": ("tokens", "int8-weights", lambda m: scaled(m, "table_scale")),
    "int4-weights, a scale": ("encoder", "int4-weights", lambda m: scaled(m, "narrow_w_scale")),
    "fp16, a normalization": ("encoder", "fp16", lambda m: with_epsilon(m, 1e-3)),
}


@pytest.mark.parametrize(("family", "precision", "break_it"), BREAKAGES.values(), ids=BREAKAGES.keys())
def test_one_wrong_number_shows_in_the_ratio(made, tmp_path, family, precision, break_it):
    base, reduced = made(family, precision)
    model = onnx.load(reduced)
    break_it(model)
    broken = tmp_path / "broken.onnx"
    onnx.save(model, str(broken))
    assert ratio(base, str(broken), family, precision, tmp_path) > 1.25


def test_a_file_of_another_model_has_no_ideal(made, tmp_path):
    base, _ = made("convolutional", "int8")
    _, reduced = made("encoder", "int8")
    with pytest.raises(LoadError, match="the float model"):
        build(Building("onnx", "int8", base, reduced, str(tmp_path / "ideal.onnx")))


def test_operators_that_nobody_split_have_no_ideal(tmp_path):
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        net (uint8[4,4] x, float[1] s, uint8[1] z) => (uint8[4,1] y) {
            y = com.microsoft.QLinearReduceMean <axes = [1], keepdims = 1> (x, s, z, s, z)
        }
    """)
    onnx.save(model, str(tmp_path / "q.onnx"))
    with pytest.raises(LoadError, match="QLinearReduceMean"):
        build(Building("onnx", "int8", "", str(tmp_path / "q.onnx"), str(tmp_path / "ideal.onnx")))


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_the_ideal_of_integers_at_the_boundary_takes_and_gives_floats(made, tmp_path, io):
    base, reduced = made("convolutional", "int8", io=io)
    built = build(Building("onnx", "int8", base, reduced, str(tmp_path / "ideal.onnx")))
    assert FORMATS["onnx"].read(Path(built.path)).signature == FORMATS["onnx"].read(Path(base)).signature
    wanted, ideal = (answers("onnxruntime_plain", path, "convolutional") for path in (base, built.path))
    assert np.sqrt(np.square(wanted - ideal).mean()) < 0.1 * wanted.std()
