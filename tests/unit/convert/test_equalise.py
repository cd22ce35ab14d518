"""Weight equalisation: like ranges of channels, and the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_tflite import Tiny

from convert.precision._equalise import FIRST, LAST, Linear, Pair, Passing, equalise, pairs
from convert.precision._equalise_onnx import equalised as equalised_onnx
from convert.precision._equalise_tflite import equalised as equalised_tflite

RNG = np.random.default_rng(0)


def uneven(*shape: int, axis: int) -> np.ndarray:
    """Weights whose channels along an axis differ by up to a million."""
    scales = 10.0 ** RNG.uniform(-3, 3, shape[axis])
    return (RNG.standard_normal(shape) * scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])).astype(
        "f4"
    )


def alike(first: np.ndarray, out_axis: int, second: np.ndarray, in_axis: int) -> bool:
    """Whether the greatest weights of each channel differ by no more than a factor of two between two layers."""
    made = np.abs(first).max(axis=tuple(i for i in range(first.ndim) if i != out_axis))
    taken = np.abs(second).max(axis=tuple(i for i in range(second.ndim) if i != in_axis))
    return bool(np.all(np.abs(np.log2(made / taken)) <= 1.001))


def test_channels_come_to_like_ranges_by_powers_of_two():
    first, second = uneven(16, 8, axis=0), uneven(4, 16, axis=1)
    bias = RNG.standard_normal(16).astype("f4")
    pair = Pair(Linear("x", "h", "a", 1, 0, ("b",)), Linear("h", "y", "c", 1, 0))
    changed = equalise({"a": first, "b": bias, "c": second}, [pair])
    assert not alike(first, 0, second, 1)
    assert alike(changed["a"], 0, changed["c"], 1)
    scales = first[:, 0] / changed["a"][:, 0]
    np.testing.assert_array_equal(np.log2(scales), np.round(np.log2(scales)))
    np.testing.assert_array_equal(changed["b"] * scales, bias)
    x = RNG.standard_normal((5, 8)).astype("f4")
    before = np.maximum(x @ first.T + bias, 0).astype("f8") @ second.T
    after = np.maximum(x @ changed["a"].T + changed["b"], 0).astype("f8") @ changed["c"].T
    np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.parametrize("flattened", [FIRST, LAST])
def test_a_flattened_channel_scales_all_its_values(flattened):
    first, second = uneven(3, 2, axis=0), uneven(5, 12, axis=1)
    pair = Pair(Linear("x", "h", "a", 1, 0), Linear("f", "y", "c", 1, 0), flattened)
    changed = equalise({"a": first, "c": second}, [pair])
    scales = first[:, 0] / changed["a"][:, 0]
    spread_out = np.repeat(scales, 4) if flattened == FIRST else np.tile(scales, 4)
    np.testing.assert_array_equal(changed["c"], second * spread_out)


def test_channels_that_are_all_zero_and_weights_that_are_shared_stay():
    first, second = uneven(4, 4, axis=0), uneven(4, 4, axis=1)
    first[2] = 0
    pair = Pair(Linear("x", "h", "a", 1, 0), Linear("h", "y", "c", 1, 0))
    changed = equalise({"a": first, "c": second}, [pair])
    np.testing.assert_array_equal(changed["c"][:, 2], second[:, 2])
    twice = Pair(Linear("x", "h", "a", 1, 0), Linear("h", "y", "a", 1, 0))
    assert equalise({"a": first}, [twice]) == {}


def test_scales_pass_a_transpose_and_a_flatten_by_where_the_channels_are():
    made, full = Linear("x", "h", "a", 3, 0), Linear("f", "y", "c", 1, 0)
    flat = Passing("t", "f", becomes=LAST, flattens=True)
    uses = dict.fromkeys(("h", "t", "f"), 1)
    moved = [Passing("h", "t", LAST, FIRST), flat]
    assert [pair.flattened for pair in pairs([made, full], moved, uses, [])] == [FIRST]
    straight = [Passing("h", "t"), flat]
    assert [pair.flattened for pair in pairs([made, full], straight, uses, [])] == [LAST]
    wrong = [Passing("h", "t", FIRST, LAST), flat]
    assert not list(pairs([made, full], wrong, uses, []))
    assert not list(pairs([made, full], straight, {**uses, "t": 2}, []))
    assert not list(pairs([made, full], straight, uses, ["t"]))


def test_layers_that_share_a_bias_of_zeros_are_equalised():
    tiny = tflite_network()
    names = {tensor.name.decode(): index for index, tensor in enumerate(tiny.graph.tensors)}
    for index in (names["b1"], names["b2"]):
        tiny.model.buffers[tiny.graph.tensors[index].buffer].data = np.zeros(24, np.uint8)
    tiny.graph.operators[1].inputs[2] = names["b1"]
    assert equalised_tflite(tiny.model) == 5


def onnx_network():
    """Conv, depthwise, ReLU, pool, flatten, Gemm, LeakyRelu, MatMul with Add; then two that must stay as they are."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    arrays = {
        "w1": uneven(6, 3, 3, 3, axis=0), "b1": uneven(6, axis=0), "w2": uneven(6, 1, 3, 3, axis=0),
        "w3": uneven(4, 6, 1, 1, axis=1), "b3": uneven(4, axis=0), "g": uneven(7, 16, axis=1), "gb": uneven(7, axis=0),
        "m": uneven(7, 5, axis=0), "mb": uneven(5, axis=0), "n": uneven(5, 5, axis=0), "o": uneven(5, 2, axis=0),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], group=6, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c2", "w3", "b3"], ["c3"]),
        helper.make_node("MaxPool", ["c3"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "gb"], ["e"], transB=1),
        helper.make_node("LeakyRelu", ["e"], ["l"], alpha=0.1),
        helper.make_node("MatMul", ["l", "m"], ["mm"]),
        helper.make_node("Add", ["mm", "mb"], ["a"]),
        helper.make_node("Tanh", ["a"], ["t"]),
        helper.make_node("MatMul", ["t", "n"], ["nn"]),
        helper.make_node("MatMul", ["nn", "o"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 4])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, s]) for n, s in (("y", 2), ("nn", 5))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    return model, arrays


def test_an_onnx_graph_answers_the_same_and_its_channels_are_alike():
    import onnx
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    model, arrays = onnx_network()
    x = {"x": RNG.standard_normal((2, 3, 4, 4)).astype("f4")}
    before = ReferenceEvaluator(model).run(None, x)
    assert equalised_onnx(model) == 8
    onnx.checker.check_model(model)
    for one, other in zip(ReferenceEvaluator(model).run(None, x), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 * np.abs(other).max())
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for first, out_axis, second, in_axis in [("w1", 0, "w2", 0), ("w2", 0, "w3", 1), ("g", 0, "m", 0)]:
        assert not alike(arrays[first], out_axis, arrays[second], in_axis)
        assert alike(after[first], out_axis, after[second], in_axis)
    for name in ("mb", "n", "o"):  # behind tanh, or read by the graph's output
        np.testing.assert_array_equal(after[name], arrays[name])


def tflite_network() -> Tiny:
    tiny = Tiny()
    schema = tiny.schema

    def convolution(cls, **options):
        made = cls()
        made.strideH = made.strideW = made.dilationHFactor = made.dilationWFactor = 1
        for name, value in options.items():
            setattr(made, name, value)
        return made

    x = tiny.tensor("x", (1, 4, 4, 3))
    c1, d, c3, f, y, z = (
        tiny.tensor(name, shape)
        for name, shape in {
            "c1": (1, 4, 4, 6), "d": (1, 4, 4, 6), "c3": (1, 4, 4, 4), "f": (1, 64), "y": (1, 5), "z": (1, 2),
        }.items()
    )  # fmt: skip
    w = {
        "w1": uneven(6, 3, 3, 3, axis=0), "b1": uneven(6, axis=0), "w2": uneven(1, 3, 3, 6, axis=3),
        "b2": uneven(6, axis=0), "w3": uneven(4, 1, 1, 6, axis=3), "b3": uneven(4, axis=0),
        "w4": uneven(5, 64, axis=0), "w5": uneven(2, 5, axis=1),
    }  # fmt: skip
    i = {name: tiny.tensor(name, array.shape, array) for name, array in w.items()}
    shape = tiny.tensor("s", (2,), np.array([1, 64], np.int32))
    relu, relu6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
    tiny.operator(
        "CONV_2D", [x, i["w1"], i["b1"]], c1, convolution(schema.Conv2DOptionsT, fusedActivationFunction=relu)
    )
    tiny.operator(
        "DEPTHWISE_CONV_2D", [c1, i["w2"], i["b2"]], d, convolution(schema.DepthwiseConv2DOptionsT, depthMultiplier=1)
    )
    tiny.operator(
        "CONV_2D", [d, i["w3"], i["b3"]], c3, convolution(schema.Conv2DOptionsT, fusedActivationFunction=relu)
    )
    tiny.operator("RESHAPE", [c3, shape], f, schema.ReshapeOptionsT())
    full = schema.FullyConnectedOptionsT()
    full.fusedActivationFunction = relu6
    tiny.operator("FULLY_CONNECTED", [f, i["w4"], -1], y, full)
    tiny.operator("FULLY_CONNECTED", [y, i["w5"], -1], z, schema.FullyConnectedOptionsT())
    tiny.graph.inputs, tiny.graph.outputs = [x], [z]
    return tiny


def run(model, x: np.ndarray, path: Path) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    from convert.formats.tflite import write_model

    write_model(path, model)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def weights_of(tiny: Tiny) -> dict[str, np.ndarray]:
    found = {}
    for tensor in tiny.graph.tensors:
        data = tiny.model.buffers[tensor.buffer].data
        if data is not None and tensor.type == 0:
            found[tensor.name.decode()] = np.asarray(data, np.uint8).view(np.float32).reshape(tensor.shape)
    return found


def test_a_tflite_graph_answers_the_same_and_its_channels_are_alike(tmp_path: Path):
    tiny = tflite_network()
    before = weights_of(tiny)
    x = RNG.standard_normal((1, 4, 4, 3)).astype("f4")
    expected = run(tiny.model, x, tmp_path / "before.tflite")
    assert equalised_tflite(tiny.model) == 7
    np.testing.assert_allclose(run(tiny.model, x, tmp_path / "after.tflite"), expected, rtol=1e-5)
    after = weights_of(tiny)
    for first, out_axis, second, in_axis in [("w1", 0, "w2", 3), ("w2", 3, "w3", 3)]:
        assert not alike(before[first], out_axis, before[second], in_axis)
        assert alike(after[first], out_axis, after[second], in_axis)
    np.testing.assert_array_equal(after["w5"], before["w5"])  # behind ReLU6, which is not homogeneous
