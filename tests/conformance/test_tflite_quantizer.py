"""A float TFLite file becomes one of every reduced precision, its contract kept; or it is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convert.errors import RouteError, UsageError
from convert.formats import tflite
from convert.precision import Reduction, perform
from convert.precision.tflite_quantizer import AI_EDGE_QUANTIZER, layers
from convert.recipe import Calibration, Kept, Recipe, sample_path
from convert.routes import Task
from convert.routes import perform as convert
from convert.sources import TFLITE, identify
from convert.spec import Artifact, LoadOptions, Scale, fingerprint
from convert.worker import Workers, limits_of
from validators.runtimes import Execution, Subject, execute
from validators.runtimes.litert import LITERT

#: The least signal over noise, in dB, that the digits network keeps on its own images; measured 3 dB more.
LEAST_SQNR_DB = {"fp16": 68, "int8-dynamic": 38, "int8": 36, "int16x8": 38, "int8-weights": 38, "int4-weights": 16}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(tmp_path_factory.mktemp("stages"), limits_of(120.0, 0)) as made:
        yield made


@pytest.fixture(scope="module")
def images(samples: Path) -> np.ndarray:
    return np.load(samples / "digits_nhwc_inputs.npz")["image"]


@pytest.fixture(scope="module")
def reduction(samples: Path, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Reduction:
    """The digits file, to be made int8 with ranges from 40 of its images."""
    folder = tmp_path_factory.mktemp("calibration")
    for index in range(40):
        np.savez(sample_path(folder, index), image=images[index : index + 1])
    base = tmp_path_factory.mktemp("base") / "digits.tflite"
    base.write_bytes((samples / "digits.tflite").read_bytes())
    artifact = Artifact(str(base), "tflite", "fp32", tflite.read(base).signature, *fingerprint(base))
    return Reduction(
        Recipe("tflite", "int8", "ai-edge-quantizer"),
        "convert.precision.tflite_quantizer",
        artifact,
        identify(base),
        LoadOptions(),
        str(base.with_name("reduced.tflite")),
        Calibration(str(folder), 40, "the first 40 images", "a test"),
    )


@pytest.fixture(scope="module")
def made(workers: Workers, reduction: Reduction) -> Callable[..., Artifact]:
    def make(out: str, task: Reduction = reduction, **recipe: object) -> Artifact:
        task = replace(task, recipe=replace(task.recipe, **recipe), out=str(Path(task.out).with_name(out)))
        return workers.run(out, perform, task, AI_EDGE_QUANTIZER).value

    return make


@pytest.fixture(scope="module")
def answers(
    workers: Workers, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., np.ndarray]:
    """Run a file on the last 24 images, as one batch, in floats."""

    def run(artifact: Artifact) -> np.ndarray:
        folder = tmp_path_factory.mktemp("run")
        taken, (given,) = artifact.signature.inputs[0], artifact.signature.outputs
        x = images[40:] if taken.quantized is None else quantize(images[40:], taken.quantized, taken.dtype)
        np.savez(folder / "in.npz", **{"case/image": x})
        subject = Subject(identify(Path(artifact.path)))
        job = Execution("litert", subject, str(folder / "in.npz"), str(folder / "out.npz"))
        workers.run(folder.name, execute, job, LITERT)
        y = np.load(folder / "out.npz")["case/logits"]
        return y if given.quantized is None else dequantize(y, given.quantized)

    return run


def quantize(x: np.ndarray, scale: Scale, dtype: str) -> np.ndarray:
    ends = np.iinfo(dtype)
    return np.clip(np.rint(x / scale.scale) + scale.zero_point, ends.min, ends.max).astype(dtype)


def dequantize(x: np.ndarray, scale: Scale) -> np.ndarray:
    return (x.astype(np.float32) - scale.zero_point) * scale.scale


def sqnr_db(expected: np.ndarray, actual: np.ndarray) -> float:
    return float(10 * np.log10((expected**2).sum() / ((expected - actual) ** 2).sum()))


@pytest.mark.parametrize("precision", LEAST_SQNR_DB)
def test_every_precision_keeps_the_contract_and_most_of_the_signal(precision, made, answers, reduction):
    artifact = made(f"{precision}.tflite", precision=precision)
    facts = tflite.read(Path(artifact.path))
    assert facts.precision == artifact.precision == precision
    assert facts.signature == artifact.signature == reduction.base.signature
    assert artifact.file_bytes < (0.62 if precision == "fp16" else 0.5) * reduction.base.file_bytes
    assert sqnr_db(answers(reduction.base), answers(artifact)) > LEAST_SQNR_DB[precision]
    assert (
        Path(made(f"again-{precision}.tflite", precision=precision).path).read_bytes()
        == Path(artifact.path).read_bytes()
    )


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_inputs_and_outputs_can_be_integers_whose_scale_is_said(io, made, answers, reduction):
    artifact = made(f"io-{io}.tflite", io=io)
    found = tflite.read(Path(artifact.path)).signature
    (taken,), (given,) = found.inputs, found.outputs
    assert (taken.dtype, given.dtype) == (io, io)
    assert artifact.signature == found
    assert taken.shape == reduction.base.signature.inputs[0].shape
    assert taken.quantized == Scale(pytest.approx(1 / 255), -128 if io == "int8" else 0)
    assert sqnr_db(answers(reduction.base), answers(artifact)) > LEAST_SQNR_DB["int8"]


def test_layers_are_listed_and_kept_by_name(workers, made, reduction, answers):
    listed = layers(Path(reduction.base.path))
    weighty = [layer for layer in listed if layer.weight_bytes]
    assert [layer.operator for layer in weighty] == ["CONV_2D", "CONV_2D", "FULLY_CONNECTED"]
    assert weighty[0].weight_bytes == 4 * (16 * 9 + 16)
    plain = made("plain.tflite")
    kept = made("kept.tflite", kept=(Kept(weighty[0].name, "fp32"),))
    finer = made("finer.tflite", kept=tuple(Kept(layer.name, "int16x8") for layer in listed))
    error = {a.path: -sqnr_db(answers(reduction.base), answers(a)) for a in (plain, kept, finer)}
    assert error[finer.path] < error[kept.path] < error[plain.path]
    types = {tensor.name: tensor.type for tensor in tflite.read_model(Path(kept.path)).subgraphs[0].tensors}
    assert types[weighty[0].name.encode()] == 0  # float
    assert types[weighty[1].name.encode()] == 9  # int8


def test_a_clipping_range_changes_the_file(made):
    plain = made("min-max.tflite")
    assert Path(made("percentile.tflite", ranges="percentile").path).read_bytes() != Path(plain.path).read_bytes()


def test_what_cannot_be_honoured_is_refused(made, reduction):
    with pytest.raises(UsageError, match="--io int8 means inputs and outputs in 8 bits"):
        made("a.tflite", precision="fp16", io="int8")
    with pytest.raises(RouteError, match="has no such layer"):
        made("b.tflite", kept=(Kept("nothing", "fp32"),))
    with pytest.raises(RouteError, match="cannot be kept in int8"):
        made("c.tflite", precision="fp16", kept=(Kept(layers(Path(reduction.base.path))[0].name, "int8"),))
    with pytest.raises(RouteError, match="takes its ranges from calibration data"):
        made("d.tflite", replace(reduction, calibration=None))
    reduced = made("e.tflite", precision="int8-weights")
    with pytest.raises(UsageError, match="is of precision int8-weights already"):
        made("f.tflite", replace(reduction, base=reduced))


@pytest.mark.parametrize("io", ["int8", "uint8"])
@pytest.mark.parametrize("precision", ["fp32", "int16x8"])
def test_layers_kept_at_the_ends_do_not_change_what_the_file_takes_and_gives(precision, io, made, reduction, answers):
    ends = layers(Path(reduction.base.path))
    kept = tuple(Kept(layer.name, precision) for layer in (ends[0], ends[-1]))
    artifact = made(f"ends-{precision}-{io}.tflite", io=io, kept=kept)
    assert (artifact.signature.inputs[0].dtype, artifact.signature.outputs[0].dtype) == (io, io)
    assert sqnr_db(answers(reduction.base), answers(artifact)) > LEAST_SQNR_DB["int8"]


def test_a_quantized_file_is_no_source_of_others(workers, made, reduction):
    reduced = made("source.tflite", precision="int8-weights")
    source = identify(Path(reduced.path))
    task = Task("tflite-copy", "convert.routes", source, LoadOptions(), reduced.signature, f"{reduced.path}.copy")
    with pytest.raises(RouteError, match="is of precision int8-weights already"):
        workers.run("copy", convert, task, TFLITE.environment)
