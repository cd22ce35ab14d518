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


def ratio(base: str, reduced: str, family: str, precision: str, folder: Path, *, known: bool = True) -> float:
    """Give the reduced file's error over its ideal's, both against the float network."""
    built = build(Building("onnx", precision, base if known else "", reduced, str(folder / "ideal.onnx")))
    onnx.checker.check_model(built.path, full_check=True)
    assert bool(built.notes) is not known
    wanted = answers("onnxruntime_plain", base, family)
    actual, ideal = answers("onnxruntime", reduced, family), answers(IDEALS["onnx"].runtime, built.path, family)
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
    assert RIGHT[0] < ratio(base, elsewhere, family, precision, tmp_path) < RIGHT[1]


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


def test_operators_that_round_and_compute_in_one_have_no_ideal(tmp_path):
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]>
        net (uint8[4,4] x) => (uint8[4,4] y) { y = QLinearMatMul (x, s, z, w, s, z, s, z) }
    """)
    onnx.save(model, str(tmp_path / "q.onnx"))
    with pytest.raises(LoadError, match="QLinearMatMul"):
        build(Building("onnx", "int8", "", str(tmp_path / "q.onnx"), str(tmp_path / "ideal.onnx")))


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_the_ideal_of_integers_at_the_boundary_takes_and_gives_floats(made, tmp_path, io):
    base, reduced = made("convolutional", "int8", io=io)
    built = build(Building("onnx", "int8", base, reduced, str(tmp_path / "ideal.onnx")))
    assert FORMATS["onnx"].read(Path(built.path)).signature == FORMATS["onnx"].read(Path(base)).signature
    wanted, ideal = (answers("onnxruntime_plain", path, "convolutional") for path in (base, built.path))
    assert np.sqrt(np.square(wanted - ideal).mean()) < 0.1 * wanted.std()
