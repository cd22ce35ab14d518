"""ONNX graphs made plain compute what they did, and keep the names they had."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from convert.formats._onnx_folding import fold

SCALINGS = {
    "batch normalization": "y = BatchNormalization <epsilon=0.1> (c, gamma, beta, mean, variance)",
    "one product": "y = Mul (c, plane)",
    "one sum": "y = Add (plane, c)",
    "both": "m = Mul (c, plane) y = Add (m, plane)",
}


def model_of(body: str, *, operator: str = "Conv", channels: int = 4) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        net (float[batch,3,5,5] x) => (float[batch,{channels},a,b] y) {{ c = {operator} (x, w, b) {body} }}
    """)
    rng = np.random.default_rng(0)
    shape = (3, channels, 2, 2) if operator == "ConvTranspose" else (channels, 3, 2, 2)
    arrays = {"w": rng.normal(size=shape), "plane": rng.normal(size=(channels, 1, 1))}
    arrays |= {name: np.abs(rng.normal(size=channels)) + 0.1 for name in ("b", "gamma", "beta", "mean", "variance")}
    for name, array in arrays.items():
        if name in "".join(str(node.input) for node in model.graph.node):
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def answer(model: onnx.ModelProto) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(2, 3, 5, 5)).astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("body", SCALINGS.values(), ids=SCALINGS.keys())
def test_what_scales_a_convolution_goes_into_its_weights(body, operator):
    model = model_of(body, operator=operator)
    expected = answer(model)
    fold(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == [operator]
    assert model.graph.node[0].output == ["y"]
    np.testing.assert_allclose(answer(model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("body", ["y = Mul (c, c)", "z = Relu (c) m = Mul (c, plane) y = Add (m, z)"])
def test_what_is_no_scaling_or_has_another_reader_stays(body):
    model = model_of(body)
    expected, count = answer(model), len(model.graph.node)
    fold(model)
    assert len(model.graph.node) == count
    np.testing.assert_array_equal(answer(model), expected)


def test_what_is_constant_is_computed_once_under_its_name():
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 20]>
        net (float[batch,3] x) => (float[batch,2] y) {
            shape = Constant <value_ints=[3,2]> ()
            flat = Constant <value_floats=[1.0,2.0,3.0,4.0,5.0,6.0]> ()
            half = Constant <value_float=0.5> ()
            square = Reshape (flat, shape)
            weight = Mul (square, half)
            unused = Add (weight, half)
            y = MatMul (x, weight)
        }
    """)
    fold(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    (tensor,) = model.graph.initializer
    assert tensor.name == "weight"
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), np.arange(1, 7).reshape(3, 2) / 2)
