"""Routes from ONNX: the checked copy loses what nothing needs, and large weights travel beside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert import folder
from convert.errors import RouteError
from convert.formats import onnx as onnx_format
from convert.routes import Task, perform
from convert.routes.onnx_to_onnx import slim
from convert.sources import identify, load
from convert.spec import Artifact, LoadOptions


def wasteful() -> onnx.ModelProto:
    """Build x @ w beside a node and a constant that lead nowhere, with a text for every node."""
    nodes = [
        helper.make_node("Neg", ["x"], ["nowhere"], doc_string="a stack trace"),
        helper.make_node("MatMul", ["x", "w"], ["y"], doc_string="another"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w"),
            numpy_helper.from_array(np.ones(1000, np.float32), "unused"),
        ],
        doc_string="text",
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def copied(model: onnx.ModelProto, home: Path, route: str = "onnx-checked") -> Artifact:
    home.mkdir(exist_ok=True)
    source, options = home / "model.onnx", LoadOptions()
    source.write_bytes(model.SerializeToString())
    file = identify(source)
    signature = load(file, options).facts.signature
    out = home / "stage" / "model.onnx"
    return perform(Task(route, "convert.routes.onnx_to_onnx", file, options, signature, str(out)))


def test_a_copy_loses_what_no_output_needs_and_says_so(tmp_path):
    artifact = copied(wasteful(), tmp_path)
    model = onnx.load(artifact.path)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    assert not any(text.doc_string for text in (model, model.graph, *model.graph.node))
    assert artifact.notes == ("1 unused node(s) and 1 unused constant(s) removed",)


def test_a_graph_without_waste_is_left_as_it_is():
    model = wasteful()
    slim(model)
    before = model.SerializeToString()
    assert slim(model) == ()
    assert model.SerializeToString() == before


def test_what_only_the_body_of_a_loop_needs_stays(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["state", "outer"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    model = wasteful()
    model.graph.node[1].output[0] = "inner"
    model.graph.node.append(helper.make_node("Neg", ["inner"], ["outer"]))
    model.graph.node.append(helper.make_node("Loop", ["count", "", "inner"], ["y"], body=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array(2), "count"))
    artifact = copied(model, tmp_path)
    kinds = [node.op_type for node in onnx.load(artifact.path).graph.node]
    assert kinds == ["MatMul", "Neg", "Loop"]


def test_a_rescue_is_part_of_the_artifact(tmp_path):
    model = wasteful()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    assert copied(model, tmp_path).rescues == ("1 constant(s) were listed as inputs; they are constants now",)


def test_a_graph_that_the_standard_forbids_is_refused(tmp_path, monkeypatch):
    def spoilt(model):
        model.graph.node[0].input[0] = "nothing"
        return ()

    monkeypatch.setattr("convert.routes.onnx_to_onnx.slim", spoilt)
    with pytest.raises(RouteError, match="checker refuses") as caught:
        copied(wasteful(), tmp_path)
    assert caught.value.fix


def test_weights_too_large_for_one_file_travel_with_the_artifact(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "INSIDE_BYTES", 32)
    monkeypatch.setattr(onnx_format, "SMALL_BYTES", 0)
    artifact = copied(wasteful(), tmp_path / "work")
    assert [Path(path).name for path in artifact.companions] == ["model.onnx.data"]
    assert artifact.file_bytes == sum(Path(path).stat().st_size for path in (artifact.path, *artifact.companions))
    placed = folder.place(Path(artifact.path), tmp_path / "out", map(Path, artifact.companions))
    model = load(identify(placed), LoadOptions()).model
    assert model.run({"x": np.ones((2, 4), np.float32)})["y"].tolist() == [[18, 22, 26]] * 2
