"""What onnx2tf is given leaves no room for its own layouts, and what it says when it fails reaches the user."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from convert.errors import RouteError, ToolchainError
from convert.routes import Work
from convert.routes._onnx2tf import Names, prepare, reason_of, run
from convert.spec import NCHW, NHWC, Signature, TensorSpec
from convert.toolchains import Place

IMAGE = TensorSpec("image:0", "float32", ("batch", 3, 8, 6), layout=NCHW)
SIGNATURE = Signature(
    (IMAGE,), (TensorSpec("map", "float32", ("batch", 3, 8, 6)), TensorSpec("sums", "float32", ("batch", 3)))
)


def graph() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["image:0"], ["map"]),
        helper.make_node("ReduceSum", ["map", "axes"], ["sums"], keepdims=0),
    ]
    values = {"image:0": ["batch", 3, 8, 6], "map": ["batch", 3, 8, 6], "sums": ["batch", 3]}
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()}
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    made = helper.make_graph(nodes, "g", [infos["image:0"]], [infos["map"], infos["sums"]], [axes])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("layout", [NCHW, NHWC])
def test_inputs_have_the_promised_layout_and_outputs_one_order(tmp_path, layout):
    made = graph()
    work = Work(tmp_path / "a.onnx", None, SIGNATURE, tmp_path / "a.tflite", layout=layout)
    names = Names.of(SIGNATURE)
    prepare(made, work, names, work.promised.fixed({"batch": 2}))
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.input] == list(names.inputs)
    assert sizes(made.graph.input[0]) == ([2, 8, 6, 3] if layout == NHWC else [2, 3, 8, 6])
    assert [value.name for value in made.graph.output] == list(names.outputs)
    assert len(sizes(made.graph.output[0])) == 1  # flat: its order is beyond doubt
    assert len(sizes(made.graph.output[1])) == 2


def test_a_graph_without_a_promised_tensor_is_refused(tmp_path):
    made = graph()
    made.graph.output[0].name = "sums_of_something_else"
    work = Work(tmp_path / "a.onnx", None, SIGNATURE, tmp_path / "a.tflite")
    with pytest.raises(RouteError, match="no tensor named map"):
        prepare(made, work, Names.of(SIGNATURE), SIGNATURE)


def program(tmp_path, script: str) -> Place:
    """Stand in for the toolchain's Python."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Place(str(tmp_path), str(path), str(tmp_path))


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ("exit 0", RouteError, "reported success and wrote no TFLite file"),
        ("kill -9 $$", RouteError, "killed by signal 9"),
        ("echo 'ModuleNotFoundError: No module named onnx'; exit 1", ToolchainError, "is damaged"),
        (
            "echo 'NotImplementedError: flatbuffer_direct validation failed: op=GRU node=g message=no'; exit 1",
            RouteError,
            "onnx2tf failed: op=GRU node=g",
        ),
    ],
)
def test_a_failure_of_onnx2tf_says_its_reason(tmp_path, script, error, said):
    with pytest.raises(error, match=said):
        run(program(tmp_path, script), tmp_path / "graph.onnx", Names.of(SIGNATURE))


def test_paths_that_begin_at_the_current_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "graph.onnx").write_text("")
    # Answers as onnx2tf does: `-m onnx2tf -i GRAPH -o FOLDER`.
    place = program(tmp_path, 'test -f "$4" && mkdir "$6" && touch "$6/graph_float32.tflite"')
    assert run(place, Path("inner/graph.onnx"), Names.of(SIGNATURE)).is_file()


def test_a_reason_is_the_exception_or_the_last_words():
    assert reason_of("lowering: 0%| 1/2 [00:00<?, ?it/s]\nTraceback\nValueError: bad\n") == "ValueError: bad"
    assert reason_of("one\ntwo\nthree\nfour") == "two three four"
    assert reason_of("\x1b[31mERROR:\x1b[0m no such file") == "ERROR: no such file"
    assert reason_of("") == "it said nothing"
