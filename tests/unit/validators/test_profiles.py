"""A profile times every operator of the engine, and hints at what it really shows, and at nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from convert.errors import LoadError
from convert.spec import SourceFile
from convert.worker import Workers, limits_of
from validators.hints import LEAST_SHARE, UNROLLED, hints_for
from validators.profiles import LEAST_RUNS, PROFILERS, Operator, Profiler, Profiling, Taken, mean_of, profile, shared
from validators.profiles.tflite import Node, match
from validators.runtimes import Subject
from validators.runtimes.litert import LITERT

SHAPES = {"tflite": (1, 8, 8, 1), "onnx": (1, 1, 8, 8), "torchscript": (1, 1, 8, 8)}
SUFFIXES = {"tflite": "tflite", "onnx": "onnx", "torchscript": "pt"}
CONVOLUTIONS = {"tflite": "CONV_2D", "onnx": "Conv", "torchscript": "aten::conv2d"}


def job(form: str, path: Path, folder: Path) -> Profiling:
    np.savez(folder / "inputs.npz", **{"ones/image": np.ones(SHAPES[form], np.float32)})
    return Profiling(form, Subject(SourceFile(str(path), "", "", "", 0)), str(folder / "inputs.npz"), "ones", ())


@pytest.mark.parametrize("form", SHAPES)
def test_every_operator_of_the_digits_sample_is_timed(form, samples: Path, tmp_path: Path):
    with Workers(tmp_path / "stages", limits_of(120.0, 0)) as workers:
        path = samples / f"digits.{SUFFIXES[form]}"
        found = workers.run("profile", profile, job(form, path, tmp_path), PROFILERS[form].environment).value
    assert (found.where, found.reason) == ("host", "")
    assert found.runs >= LEAST_RUNS
    assert [operator.kind for operator in found.operators].count(CONVOLUTIONS[form]) == 2
    assert sum(operator.share for operator in found.operators) == pytest.approx(1)
    assert sum(share for _, share in found.kinds) == pytest.approx(1)
    # Of 84,224 multiply-accumulates, 82,944 are the convolutions'.
    assert max(found.operators, key=lambda operator: operator.seconds).kind == CONVOLUTIONS[form]
    if form == "tflite":
        convolution = next(operator for operator in found.operators if operator.kind == "CONV_2D")
        assert convolution.layer == "digits_1/conv2d_1/Relu"
        assert {operator.kind for operator in found.operators if not operator.delegated} == {
            *("SHAPE", "STRIDED_SLICE", "PACK", "RESHAPE")
        }


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_a_damaged_file_has_no_profile(form, samples: Path, tmp_path: Path):
    damaged = tmp_path / f"damaged.{form}"
    damaged.write_bytes((samples / f"digits.{SUFFIXES[form]}").read_bytes()[:400])
    with Workers(tmp_path / "stages", limits_of(120.0, 0)) as workers, pytest.raises(LoadError):
        workers.run("profile", profile, job(form, damaged, tmp_path), PROFILERS[form].environment)


def test_another_version_of_litert_is_not_called_blindly(samples: Path, monkeypatch):
    from validators.profiles import _litert

    monkeypatch.setattr(_litert.metadata, "version", lambda _: "9.9.1")
    with pytest.raises(LoadError, match=r"9\.9\.1 is installed") as caught:
        _litert.Profiled(samples / "digits.tflite", {})
    assert "leave --profile out" in caught.value.fix


def test_operators_of_the_delegate_are_matched_with_the_files_in_order():
    nodes = [
        Node("PAD", "pad", "", 1),
        Node("CONV_2D", "stem", "w", 2),
        Node("SHAPE", "shape", "", 3),
        Node("CONV_2D", "head", "v", 4),
    ]
    events = [("Convolution (NHWC, F32) IGEMM", True, 0), ("SHAPE", False, 2), ("Convert (NC)", True, 0)]
    events.append(("Fully Connected (NC, F32) GEMM", True, 1))
    assert match(events, nodes, left={3}) == [1, 2, None, 3]


def test_an_outlier_does_not_move_the_time_of_an_operator():
    assert mean_of([1e-6, 1e-6, 2e-6, 2e-6, 2e-6, 2e-6, 4e-6, 900e-6]) == pytest.approx(2e-6)


def test_an_operator_shorter_than_the_clocks_tick_still_has_its_time():
    assert mean_of([0.0] * 9 + [1e-6]) == pytest.approx(1e-7)


def test_no_hints_follow_from_a_profile_that_saw_little_of_a_run(tmp_path: Path, monkeypatch):
    operators = (WORK, *BETWEEN)
    for run_seconds, given in ((13.0, ["delegate"]), (100.0, [])):
        found = Taken("an engine", 11, operators, run_seconds, partitions=2)
        profiler = Profiler("pretended", LITERT, lambda *_, found=found: found)
        monkeypatch.setattr("validators.profiles.PROFILERS", {"pretended": profiler})
        seen = profile(dataclasses.replace(job("tflite", tmp_path, tmp_path), format="pretended"))
        assert [hint.name for hint in seen.hints] == given
        assert len(seen.notes) == (0 if given else 1)


def timed(*operators: tuple[str, float], delegated: bool | None = None, weight: str = "") -> list[Operator]:
    return [Operator(kind, "", seconds, delegated=delegated, weight=weight) for kind, seconds in operators]


def names(operators: list[Operator], partitions: int = 1, images: str = "") -> list[str]:
    return [hint.name for hint in hints_for(shared(operators), partitions, images)]


WORK = Operator("CONV_2D", "", 10.0, delegated=True)
OTHER = Operator("Conv", "", 10.0)
BETWEEN = timed(("DEPTHWISE_CONV_2D", 2), delegated=False)
STEPS = timed(*[("FULLY_CONNECTED", 1)] * UNROLLED, weight="w")
PIECES = [*timed(("ReduceMean", 1), ("Pow", 1)), *timed(("ReduceMean", 1), ("Sqrt", 1))]

#: Operators that show something, in how many parts, with images of which layout; and the same when they do not.
SHOWN = {
    "transposes": (([WORK, *timed(("TRANSPOSE", 2), delegated=True)], 1, "nchw"), [WORK], 1, "nchw"),
    "transposes, but the images are nhwc": (None, [WORK, *timed(("TRANSPOSE", 2), delegated=True)], 1, "nhwc"),
    "transposes, but too little": (None, [WORK, *timed(("TRANSPOSE", 1), delegated=True)], 1, "nchw"),
    "delegate": (([WORK, *BETWEEN], 2, ""), [WORK, *BETWEEN], 1, ""),
    "conversions": (
        ([OTHER, *timed(("QuantizeLinear", 1), ("DequantizeLinear", 1))], 0, ""),
        [OTHER, *timed(("QuantizeLinear", 0.5), ("DequantizeLinear", 0.5))],
        0,
        "",
    ),
    "conversions, but one alone": (None, [OTHER, *timed(("QuantizeLinear", 5))], 0, ""),
    "unrolled": (([WORK, *STEPS], 1, ""), [WORK, *STEPS[1:]], 1, ""),
    "unrolled, but of other weights": (None, [WORK, *timed(*[("FULLY_CONNECTED", 1)] * UNROLLED)], 1, ""),
    "layer norm": (([OTHER, *PIECES], 0, ""), [OTHER, *PIECES[:-1]], 0, ""),
    "gelu": (([OTHER, *timed(("Erf", 2))], 0, ""), [OTHER, *timed(("Erf", 1))], 0, ""),
}


@pytest.mark.parametrize(("shows", "operators", "partitions", "images"), SHOWN.values(), ids=SHOWN.keys())
def test_a_hint_is_given_where_the_profile_shows_it_and_not_where_it_does_not(
    request, shows, operators, partitions, images
):
    name = request.node.callspec.id.partition(",")[0]
    if shows is not None:
        assert names(*shows) == [name]
    assert names(operators, partitions, images) == []


def test_hints_say_how_much_of_the_time_they_are_about():
    (hint,) = hints_for(shared([WORK, *BETWEEN]), 2)
    assert hint.share == pytest.approx(2 / 12)
    assert hint.share >= LEAST_SHARE
    assert "17% of the time (DEPTHWISE_CONV_2D 17%) and cut it into 2 parts" in hint.words
