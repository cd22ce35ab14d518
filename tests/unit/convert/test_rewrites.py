"""Rewrites of ONNX graphs compute what the graph computed before, and say what they changed."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.rewrites import REWRITES, rescue
from convert.rewrites.leaked_constants import bind

FLOAT = TensorProto.FLOAT


def model(nodes, inputs, outputs, constants=(), version: int = 18) -> onnx.ModelProto:
    def values(named):
        return [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in named.items()]

    tensors = [numpy_helper.from_array(array, name) for name, array in constants]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=9)


def run(made: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(made)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def agree(made: onnx.ModelProto, consumer: str = "", **inputs: np.ndarray) -> tuple[str, ...]:
    """Rewrite a model that runs before and after, and give what was said."""
    before = run(made, **inputs)
    said = rescue(made, consumer)
    for one, other in zip(before, run(made, **inputs), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)
    return said


def test_erfc_becomes_one_minus_erf():
    nodes = [helper.make_node("Erfc", ["x"], ["y"], name="gelu/Erfc")]
    made = model(nodes, {"x": [3]}, {"y": [3]})
    (said,) = rescue(made)
    assert "Erfc" in said
    assert "gelu/Erfc" in said
    x = np.array([-1, 0, 0.5], np.float32)
    np.testing.assert_allclose(run(made, x=x)[0], [math.erfc(value) for value in x], rtol=1e-6)


def test_nodes_out_of_order_are_sorted_also_in_bodies():
    def nodes(given: str, made: str):
        return [helper.make_node("Neg", ["inner"], [made]), helper.make_node("Exp", [given], ["inner"])]

    body = helper.make_graph(
        [*nodes("state", "next"), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, [2])],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)
    made = model([loop], {"x": [2]}, {"y": [2]}, [("count", np.array(2))])
    assert rescue(made) == ("nodes put in topological order in body",)
    np.testing.assert_allclose(run(made, x=np.zeros(2, np.float32))[0], np.full(2, -math.exp(-1)), rtol=1e-6)


def test_constants_listed_as_inputs_are_no_inputs_any_more():
    made = model(
        [helper.make_node("Add", ["x", "c"], ["y"])], {"x": [2], "c": [2]}, {"y": [2]}, [("c", np.ones(2, "f"))]
    )
    said = agree(made, x=np.zeros(2, np.float32))
    assert said == ("1 constant(s) were listed as inputs; they are constants now",)
    assert [value.name for value in made.graph.input] == ["x"]


def test_a_leaked_constant_whose_value_is_known_is_bound():
    made = model([helper.make_node("Add", ["x", "mean"], ["y"])], {"x": [2], "mean": [2]}, {"y": [2]})
    assert bind(made, {"mean": np.ones(2, np.float32), "other": np.ones(1, np.float32)})
    assert run(made, x=np.zeros(2, np.float32))[0].tolist() == [1, 1]


@pytest.mark.parametrize("groups", [2, 16], ids=["split", "dense"])
@pytest.mark.parametrize("version", [11, 18])
def test_a_grouped_convolution_of_volumes_becomes_plain_ones_for_onnx2tf(groups, version):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, 16 // groups, 2, 3, 3)).astype(np.float32)
    constants = [("w", weight), ("b", rng.standard_normal(16).astype(np.float32))]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="depthwise", group=groups, pads=[0, 1, 1, 0, 1, 1])
    made = model([node], {"x": [1, 16, 4, 5, 5]}, {"y": [1, 16, 3, 5, 5]}, constants, version)
    untouched = onnx.ModelProto.FromString(made.SerializeToString())
    assert rescue(untouched) == ()
    (said,) = agree(made, "onnx2tf", x=rng.standard_normal((1, 16, 4, 5, 5)).astype(np.float32))
    assert "depthwise" in said
    groups_left = [a.i for n in made.graph.node for a in n.attribute if a.name == "group"]
    assert set(groups_left) <= {1}


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [False, True])
def test_a_short_time_fourier_transform_becomes_a_convolution(onesided, windowed):
    rng = np.random.default_rng(0)
    constants = [("step", np.array(4)), ("length", np.array(16))]
    constants += [("window", np.hanning(16).astype(np.float32))] if windowed else []
    inputs = ["x", "step", "window" if windowed else "", "length"]
    bins = 9 if onesided else 16
    made = model(
        [helper.make_node("STFT", inputs, ["y"], name="front", onesided=onesided)],
        {"x": [2, 40, 1]},
        {"y": [2, 7, bins, 2]},
        constants,
    )
    (said,) = agree(made, "onnx2tf", x=rng.standard_normal((2, 40, 1)).astype(np.float32))
    assert "front" in said
    assert "STFT" not in {node.op_type for node in made.graph.node}


@pytest.mark.parametrize(("parts", "onesided", "inverse"), [(1, 1, 0), (1, 0, 0), (2, 0, 0), (2, 0, 1)])
def test_a_fourier_transform_becomes_a_matrix_product(parts, onesided, inverse):
    rng = np.random.default_rng(0)
    bins = 7 if onesided else 12
    node = helper.make_node("DFT", ["x"], ["y"], name="spectrum", axis=1, onesided=onesided, inverse=inverse)
    made = model([node], {"x": [3, 12, parts]}, {"y": [3, bins, 2]}, version=17)
    (said,) = agree(made, "onnx2tf", x=rng.standard_normal((3, 12, parts)).astype(np.float32))
    assert "spectrum" in said
    assert "DFT" not in {node.op_type for node in made.graph.node}


def test_nothing_is_said_of_a_graph_that_needs_nothing():
    made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2]})
    before = made.SerializeToString()
    assert all(rescue(made, consumer) == () for consumer in ("", "onnx2tf"))
    assert made.SerializeToString() == before


def test_every_rewrite_says_why_it_is_there():
    assert all(len(rewrite.why.split()) > 5 for rewrite in REWRITES)


def recurrent(kind: str, direction: str, *, states: bool = True, outputs: int = 2, batch: int = 2) -> onnx.ModelProto:
    """A recurrent layer as torch.onnx exports it: its initial states are zeros expanded to the batch."""
    rng = np.random.default_rng(5)
    gates, sides, hidden, features = {"LSTM": 4, "GRU": 3}[kind], 1 + (direction == "bidirectional"), 3, 4

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    constants = [
        ("w", weights(sides, gates * hidden, features)),
        ("r", weights(sides, gates * hidden, hidden)),
        ("b", weights(sides, 2 * gates * hidden)),
        ("zero", np.zeros(1, np.float32)),
        ("shape", np.array([sides, batch, hidden], np.int64)),
    ]
    initial = ["", "h", *(["h"] if kind == "LSTM" else [])] if states else []
    named = ["y", "last"][:outputs]
    layer = helper.make_node(
        kind, ["x", "w", "r", "b", *initial], named, name="layer", hidden_size=hidden, direction=direction
    )
    nodes = [*([helper.make_node("Expand", ["zero", "shape"], ["h"])] if states else []), layer]
    shapes = {"y": [7, sides, batch, hidden], "last": [sides, batch, hidden]}
    return model(nodes, {"x": [7, batch, features]}, {name: shapes[name] for name in named}, constants)


SEQUENCE = np.random.default_rng(6).normal(size=(7, 2, 4)).astype(np.float32)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_initial_states_of_zeros_are_left_out(kind):
    made = recurrent(kind, "forward")
    said = agree(made, "onnx2tf", x=SEQUENCE)
    assert any("Initial states of zeros left out (layer)" in line for line in said)
    (layer,) = [node for node in made.graph.node if node.op_type == kind]
    assert len(layer.input) == 4


def test_initial_states_that_are_not_zero_stay():
    made = recurrent("GRU", "forward")
    (zero,) = [tensor for tensor in made.graph.initializer if tensor.name == "zero"]
    zero.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "zero"))
    assert agree(made, "onnx2tf", x=SEQUENCE) == ()


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_an_lstm_computes_the_same_whatever_state_it_finds(direction, outputs, stated):
    made = recurrent("LSTM", direction, states=False, outputs=outputs)
    usual = ["Sigmoid", "Tanh", "Tanh"] * (1 + (direction == "bidirectional"))
    if stated:
        made.graph.node[0].attribute.append(helper.make_attribute("activations", usual))
    expected = run(made, x=SEQUENCE)
    assert "begin with a step that empties their state" in rescue(made, "onnx2tf")[0]
    (layer,) = [node for node in made.graph.node if node.op_type == "LSTM"]
    sides = 1 + (direction == "bidirectional")
    left = np.random.default_rng(7).normal(size=(sides, 2, 3)).astype(np.float32) * 5
    made.graph.initializer.append(numpy_helper.from_array(left, "left_by_another_call"))
    layer.input.extend(["", "left_by_another_call", "left_by_another_call"])
    for one, other in zip(expected, run(made, x=SEQUENCE), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_lstm_whose_weights_are_put_together_in_the_graph_begins_anew_too():
    made = recurrent("LSTM", "forward", states=False)
    (weights,) = [tensor for tensor in made.graph.initializer if tensor.name == "w"]
    weights.name = "parts"
    made.graph.node.insert(0, helper.make_node("Identity", ["parts"], ["w"]))
    (said,) = agree(made, "onnx2tf", x=SEQUENCE)
    assert "empties their state" in said


def test_an_lstm_of_other_functions_keeps_its_form():
    made = recurrent("LSTM", "forward", states=False)
    made.graph.node[0].attribute.append(helper.make_attribute("activations", ["HardSigmoid", "Tanh", "Tanh"]))
    assert agree(made, "onnx2tf", x=SEQUENCE) == ()


def test_an_lstm_whose_batch_is_open_keeps_its_form():
    made = recurrent("LSTM", "forward", states=False)
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "batch"
    assert agree(made, "onnx2tf", x=SEQUENCE) == ()


@pytest.mark.parametrize("version", [11, 18])
def test_a_grouped_convolution_of_a_sequence_becomes_one_of_images(version):
    rng = np.random.default_rng(8)
    constants = [("w", rng.normal(size=(6, 2, 5)).astype(np.float32)), ("b", rng.normal(size=6).astype(np.float32))]
    conv = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], name="position", group=3, pads=[2, 1], strides=[2], dilations=[1]
    )
    made = model([conv], {"x": [2, 6, 11]}, {"y": [2, 6, 5]}, constants, version=version)
    (said,) = agree(made, "onnx2tf", x=rng.normal(size=(2, 6, 11)).astype(np.float32))
    assert "grouped 1-D convolutions written as 2-D ones (position)" in said


def test_a_depthwise_convolution_of_a_sequence_stays():
    weights = np.ones((3, 1, 5), np.float32)
    made = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=3)], {"x": [1, 3, 9]}, {"y": [1, 3, 5]}, [("w", weights)]
    )
    assert agree(made, "onnx2tf", x=np.ones((1, 3, 9), np.float32)) == ()


@pytest.mark.parametrize("version", [13, 18])
def test_the_absolute_value_of_complex_numbers_becomes_a_norm(version):
    nodes = [helper.make_node("ComplexAbs", ["x"], ["y"], name="spectrum")]
    made = model(nodes, {"x": [2, 3]}, {"y": [3]}, version=version)
    (said,) = rescue(made)
    assert "spectrum" in said
    found = run(made, x=np.array([[3, 0, 1], [4, 2, 0]], np.float32))[0]
    np.testing.assert_allclose(found, [5, 2, 1], rtol=1e-6)


@pytest.mark.parametrize("consumer", ["onnx2tf", "litert-torch"])
@pytest.mark.parametrize("shape", [[5], [5, 2], [5, 2, 3]], ids=["numbers", "rows", "blocks"])
def test_additions_at_indices_become_a_matrix_product(shape, consumer):
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("ScatterND", ["x", "index", "updates"], ["added"], name="sum", reduction="add"),
        helper.make_node("Neg", ["added"], ["y"]),
    ]
    index = np.array([[0], [3], [3], [-1]])
    constants = [("index", index), ("updates", rng.standard_normal([4, *shape[1:]]).astype(np.float32))]
    made = model(nodes, {"x": shape}, {"y": shape}, constants)
    (said,) = agree(made, consumer, x=rng.standard_normal(shape).astype(np.float32))
    assert "sum" in said
    assert "ScatterND" not in {node.op_type for node in made.graph.node}


def test_additions_at_indices_of_elements_become_a_matrix_product():
    nodes = [helper.make_node("ScatterElements", ["x", "index", "updates"], ["y"], name="sum", reduction="add")]
    constants = [("index", np.array([0, 2, 2])), ("updates", np.array([1, 2, 3], np.float32))]
    made = model(nodes, {"x": [4]}, {"y": [4]}, constants)
    assert agree(made, "onnx2tf", x=np.zeros(4, np.float32))


def test_scattering_that_replaces_is_left_alone():
    nodes = [helper.make_node("ScatterND", ["x", "index", "updates"], ["y"])]
    constants = [("index", np.array([[0]])), ("updates", np.array([1], np.float32))]
    assert rescue(model(nodes, {"x": [4]}, {"y": [4]}, constants), "onnx2tf") == ()
