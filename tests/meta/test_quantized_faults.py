"""Quantized artifacts broken on purpose are conversion faults; honestly coarse ones are losses of precision."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convert import convert
from convert.formats import recognise
from convert.formats._tflite_precision import operator_kinds
from convert.formats.tflite import read_model, write_model
from convert.sources import identify
from convert.spec import Artifact, LoadOptions, Signature, fingerprint
from convert.worker import Workers, limits_of
from validators.api import validate
from validators.inputs import read_user_file
from validators.prove import Baseline, Proof, first_cases, load_source, prove, run_source
from validators.report import Report
from validators.verdict import OutputParity, Status

HERE = Path(__file__).parent

#: Which reduced file each case breaks.
SUFFIXES = {"onnx": "onnx", "tflite": "tflite", "torchscript": "pt"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a LayerNorm, in every format at every precision that the cases break."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, "-W", "ignore", HERE / "normalised_net.py", folder], check=True, timeout=120)
    report = convert(
        folder / "normalised.pt",
        to="onnx,tflite,torchscript",
        precision="fp32,int8-dynamic,int8",
        calibration=folder / "images.npz",
        search_seconds=0,
        threads=(),
        out=folder / "out",
        timeout_seconds=300,
    )
    wrong = [(target.label, target.reason) for target in report.targets if target.status is not Status.PASS]
    assert not wrong
    return folder


@pytest.fixture(scope="module")
def gate(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Proof]]:
    """Prove a file against the network, given the float file of its format."""
    source, options = identify(made / "normalised.pt"), LoadOptions()
    numbers = iter(range(1000))
    with Workers(tmp_path_factory.mktemp("gate"), limits_of(300, 0)) as workers:
        facts, _ = load_source(workers, source, options)
        images = read_user_file(made / "images.npz")
        cases = first_cases(workers, facts.signature, seed=0, user=images)
        baseline: Baseline = run_source(workers, source, options, facts.signature, cases)

        def judge(path: Path) -> Proof:
            form = recognise(path).name
            artifact = Artifact(str(path), form, "", Signature((), ()), *fingerprint(path))
            base = made / "out" / f"normalised.{SUFFIXES[form]}"
            return prove(workers, baseline, artifact, f"{form}-{next(numbers)}", base=str(base))

        yield judge


# ONNX


def scale_of_channel(graph: Any) -> None:
    rewrite_tensor(graph, "model.head.weight_scale", lambda scales: scales * np.where(np.arange(10) == 3, 1.2, 1))


def rewrite_tensor(graph: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(array).astype(array.dtype), name))


def zero_point_of_one_side(graph: Any) -> None:
    """Dequantize what the flattening gives with another zero point than it was quantized with."""
    tensor = next(tensor for tensor in graph.initializer if tensor.name == "view_zero_point")
    moved = numpy_helper.to_array(tensor) + np.array(3, dtype=numpy_helper.to_array(tensor).dtype)
    graph.initializer.append(numpy_helper.from_array(np.asarray(moved), "moved"))
    next(node for node in graph.node if "view_dequantized" in node.output).input[2] = "moved"


def epsilon_attribute(graph: Any, epsilon: float = 0.1) -> None:
    node = next(node for node in graph.node if node.op_type == "LayerNormalization")
    next(entry for entry in node.attribute if entry.name == "epsilon").f = epsilon


def half_larger_epsilon_attribute(graph: Any) -> None:
    epsilon_attribute(graph, 1.5e-3)


def larger_epsilon_attribute(graph: Any) -> None:
    epsilon_attribute(graph, 1.4e-3)


def scale_of_hidden_layer(graph: Any) -> None:
    rewrite_tensor(graph, "model.dense.weight_scale", lambda scales: scales * 1.05)


def range_of_both_sides(graph: Any) -> None:
    """Clip what the last layer takes to a fifth; its bias has that scale times the weight's, as kernels assume."""
    rewrite_tensor(graph, "relu_1_scale", lambda scale: scale / 5)
    rewrite_tensor(graph, "model.head.bias_scale", lambda scale: scale / 5)
    rewrite_tensor(graph, "model.head.bias_quantized", lambda integers: integers * 5)


def three_bits_onnx(graph: Any) -> None:
    rewrite_tensor(graph, "model.dense.weight_quantized", lambda integers: np.round(integers / 32.0))
    rewrite_tensor(graph, "model.dense.weight_scale", lambda scales: scales * 32)


# TFLite


def operators(model: Any, kind: str) -> list[Any]:
    kinds = operator_kinds(model)
    return [operator for operator in model.subgraphs[0].operators if kinds[operator.opcodeIndex] == kind]


def dense_weight(model: Any, number: int) -> Any:
    return model.subgraphs[0].tensors[operators(model, "FULLY_CONNECTED")[number].inputs[1]]


def scale_of_row(model: Any) -> None:
    stated = dense_weight(model, 1).quantization
    stated.scale = [float(scale) * (1.2 if row == 3 else 1) for row, scale in enumerate(stated.scale)]


def zero_point_of_reshaped(model: Any) -> None:
    """Move the zero point behind the flattening, which moves integers and looks at none."""
    dense = operators(model, "FULLY_CONNECTED")[0]
    tensor = model.subgraphs[0].tensors[dense.inputs[0]]
    tensor.quantization.zeroPoint = [int(zero) + 3 for zero in tensor.quantization.zeroPoint]


def added_epsilon(model: Any, epsilon: float = 0.1) -> None:
    """Add another constant to the variance, in place of a thousandth."""
    graph = model.subgraphs[0]
    rooted = {int(operator.inputs[0]) for operator in operators(model, "RSQRT")}
    tensor = next(graph.tensors[op.inputs[1]] for op in operators(model, "ADD") if int(op.outputs[0]) in rooted)
    model.buffers[tensor.buffer].data = np.frombuffer(np.float32(epsilon).tobytes(), np.uint8)


def larger_added_epsilon(model: Any) -> None:
    added_epsilon(model, 1.3e-3)


def three_bits_tflite(model: Any) -> None:
    tensor = dense_weight(model, 0)
    integers = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8)
    model.buffers[tensor.buffer].data = np.round(integers / 32.0).astype(np.int8).view(np.uint8)
    tensor.quantization.scale = [float(scale) * 32 for scale in tensor.quantization.scale]


def edit_onnx(path: Path, out: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, out)


def edit_tflite(path: Path, out: Path, change: Callable[[Any], None]) -> None:
    model = read_model(path)
    change(model)
    write_model(out, model)


EDITS: dict[str, Callable[[Path, Path, Any], None]] = {"onnx": edit_onnx, "tflite": edit_tflite}

FAULTS = {
    "onnx int8, one channel's scale times 1.2": scale_of_channel,
    "onnx int8, a zero point off by 3": zero_point_of_one_side,
    "onnx int8, a LayerNorm's epsilon": epsilon_attribute,
    "onnx int8-dynamic, one channel's scale times 1.2": scale_of_channel,
    "tflite int8, one channel's scale times 1.2": scale_of_row,
    "tflite int8, a zero point off by 3": zero_point_of_reshaped,
    "tflite int8-dynamic, one channel's scale times 1.2": scale_of_row,
    "tflite int8-dynamic, a LayerNorm's epsilon": added_epsilon,
    "torchscript int8, one channel's scale times 1.2": "one_scale",
    "torchscript int8, a zero point off by 3": "one_zero_point",
    "torchscript int8, a LayerNorm's epsilon": "another_epsilon",
    "torchscript int8-dynamic, one channel's scale times 1.2": "one_scale",
}

#: Faults of a hidden layer that err as much as the loss of precision does: R is within its bound, and D tells them.
HIDDEN = {
    "onnx int8, a hidden weight times 1.05": scale_of_hidden_layer,
    "onnx int8, a LayerNorm's epsilon times 1.5": half_larger_epsilon_attribute,
    "onnx int8-dynamic, a LayerNorm's epsilon times 1.4": larger_epsilon_attribute,
    "tflite int8-dynamic, the LayerNorm's epsilon times 1.3": larger_added_epsilon,
    "torchscript int8, a hidden channel's scale times 1.2": "hidden_scale",
    "torchscript int8, a hidden weight times 1.05": "hidden_weight",
    "torchscript int8, a LayerNorm's epsilon times 1.5": "larger_epsilon",
    "torchscript int8-dynamic, a LayerNorm's epsilon times 1.5": "larger_epsilon",
}

COARSE = {
    "onnx int8, a fifth of the range": range_of_both_sides,
    "onnx int8-dynamic, weights of 3 bits": three_bits_onnx,
    "tflite int8-dynamic, weights of 3 bits": three_bits_tflite,
    "torchscript int8, a fifth of the range": "narrow_range",
    "torchscript int8-dynamic, weights of 3 bits": "three_bits",
}


def right_file(made: Path, case: str) -> Path:
    """Find the file that a case breaks."""
    form, precision = case.partition(",")[0].split()
    return made / "out" / f"normalised.{precision}.{SUFFIXES[form]}"


@pytest.fixture(scope="module")
def edited(made: Path) -> Callable[[str], Path]:
    """Break the file of a case; those of TorchScript are all broken at once, by one process that has PyTorch."""
    home = made / "broken"
    home.mkdir()
    cases = FAULTS | HIDDEN | COARSE
    places = {case: home / f"{number}{right_file(made, case).suffix}" for number, case in enumerate(cases)}
    scripts = [case for case in cases if case.startswith("torchscript")]
    words = [word for case in scripts for word in (right_file(made, case), cases[case], places[case])]
    subprocess.run([sys.executable, "-W", "ignore", HERE / "break_torchscript.py", *words], check=True, timeout=120)

    def edit(case: str) -> Path:
        if case not in scripts:
            EDITS[case.split()[0]](right_file(made, case), places[case], cases[case])
        return places[case]

    return edit


@pytest.mark.parametrize("case", FAULTS)
def test_a_wrong_number_is_a_conversion_fault(
    gate: Callable[[Path], Proof], edited: Callable[[str], Path], case: str
) -> None:
    proof = gate(edited(case))
    assert proof.structure.status is Status.PASS
    assert proof.parity.status is Status.FAIL, proof.parity.reason
    assert "conversion fault" in proof.parity.reason
    assert "VNNI" not in proof.parity.reason  # no processor is to blame


@pytest.mark.parametrize("case", HIDDEN)
def test_a_fault_that_errs_no_more_than_the_precision_is_still_a_fault(
    gate: Callable[[Path], Proof], edited: Callable[[str], Path], case: str
) -> None:
    proof = gate(edited(case))
    (scores,) = proof.parity.outputs
    assert proof.parity.status is Status.FAIL, proof.parity.reason
    assert "conversion fault" in proof.parity.reason
    assert "(D)" in proof.parity.reason
    assert scores.ratio is not None
    assert scores.bound is not None
    assert scores.ratio <= scores.bound


@pytest.mark.parametrize("case", COARSE)
def test_honest_coarseness_is_a_loss_and_no_fault(
    gate: Callable[[Path], Proof], edited: Callable[[str], Path], case: str
) -> None:
    proof = gate(edited(case))
    assert proof.parity.status is Status.PASS, proof.parity.reason
    assert proof.quality is not None
    assert proof.quality.status is Status.FAIL, proof.quality.reason


def test_a_hidden_fault_in_a_tflite_file_of_integers_is_seen_by_its_distance(tmp_path: Path, samples: Path) -> None:
    source, data = samples / "digits.tflite", samples / "digits_nhwc_inputs.npz"
    options: dict[str, Any] = {"threads": (), "timeout_seconds": 300}
    made = convert(
        source, to="tflite", precision="int8", calibration=data, search_seconds=0, out=tmp_path / "out", **options
    )
    (target,) = made.targets
    assert target.status is Status.PASS, target.reason
    assert target.artifact is not None
    edit_tflite(Path(target.artifact.path), tmp_path / "broken.tflite", scale_of_filter)
    report = validate(tmp_path / "broken.tflite", source, base=source, inputs=data, **options)
    wrong = only_output(report)
    assert wrong.ratio is not None
    assert wrong.bound is not None
    assert wrong.ratio <= wrong.bound
    assert "conversion fault" in wrong.reason
    assert "(D)" in wrong.reason


def only_output(report: Report) -> OutputParity:
    """Give what was measured of the one output of the one artifact."""
    verdict = report.targets[0].attempts[0].parity
    assert verdict is not None
    (found,) = verdict.outputs
    return found


def scale_of_filter(model: Any) -> None:
    """Make one filter of the first convolution a twentieth larger."""
    stated = model.subgraphs[0].tensors[operators(model, "CONV_2D")[0].inputs[1]].quantization
    stated.scale = [float(scale) * (1.05 if channel == 1 else 1) for channel, scale in enumerate(stated.scale)]
