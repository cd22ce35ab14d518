"""What an ONNX file says of its precision, whoever made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.formats import FORMATS
from convert.spec import Scale

#: Files as other tools write them: operators, and the constants they read.
ELSEWHERE = {
    "QOperator format": ("int8", "y = QLinearMatMul (x, s, z, w, s, z, s, z)", "uint8", "uint8"),
    "n-bit weights, 4": (
        "int4-weights",
        "y = com.microsoft.MatMulNBits <K=4, N=4, bits=4, block_size=16> (x, w, s)",
        "f",
        "f",
    ),
    "n-bit weights, 8": (
        "int8-weights",
        "y = com.microsoft.MatMulNBits <K=4, N=4, bits=8, block_size=16> (x, w, s)",
        "f",
        "f",
    ),
    "QDQ": (
        "int8",
        "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) v = DequantizeLinear (w, s, z) y = MatMul (d, v)",
        "f",
        "f",
    ),
    "dynamic": ("int8-dynamic", "q, t, u = DynamicQuantizeLinear (x) y = MatMulInteger (q, w, u, z)", "f", "int32"),
    "weights": ("int8-weights", "v = DequantizeLinear (w, s, z) y = MatMul (x, v)", "f", "f"),
    "rows": ("int8-weights", "i = Cast <to=7> (x) r = Gather (w, i) y = DequantizeLinear (r, s, z)", "f", "f"),
    "float": ("fp32", "y = Relu (x)", "f", "f"),
}
TYPES = {"f": "float", "uint8": "uint8", "int32": "int32"}


def write(path: Path, body: str, takes: str, gives: str) -> Path:
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        net ({TYPES[takes]}[4,4] x) => ({TYPES[gives]}[n,m] y) {{ {body} }}
    """)
    read = {name for node in model.graph.node for name in node.input}
    arrays = {"s": np.float32(0.5), "z": np.uint8(3), "w": np.zeros((4, 4), np.uint8)}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items() if n in read)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("precision", "body", "takes", "gives"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_files_of_other_tools_are_known_by_their_numbers(tmp_path, precision, body, takes, gives):
    assert FORMATS["onnx"].read(write(tmp_path / "m.onnx", body, takes, gives)).precision == precision


@pytest.mark.parametrize(("dtype", "precision"), [(TensorProto.FLOAT16, "fp16"), (TensorProto.INT4, "int4-weights")])
def test_the_type_of_the_weights_counts(tmp_path, dtype, precision):
    weight = helper.make_tensor("w", dtype, (4, 4), [1] * 16)
    body = "v = Cast <to=1> (w)" if precision == "fp16" else "v = DequantizeLinear (w, s)"
    path = write(tmp_path / "m.onnx", f"{body} y = MatMul (x, v)", "f", "f")
    model = onnx.load(str(path))
    kept = [tensor for tensor in model.graph.initializer if tensor.name == "s"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, weight])
    onnx.save(model, str(path))
    assert FORMATS["onnx"].read(path).precision == precision


def test_integers_at_the_boundary_have_the_scale_they_are_used_with(tmp_path):
    body = "f = DequantizeLinear (x, s, z) g = Relu (f) y = QuantizeLinear (g, s, z)"
    path = write(tmp_path / "m.onnx", body, "uint8", "uint8")
    signature = FORMATS["onnx"].read(path).signature
    assert [spec.quantized for spec in (*signature.inputs, *signature.outputs)] == [Scale(0.5, 3)] * 2


def test_integers_that_are_used_as_such_have_no_scale(tmp_path):
    path = write(tmp_path / "m.onnx", "f = DequantizeLinear (x, s, z) y = Identity (x)", "uint8", "uint8")
    signature = FORMATS["onnx"].read(path).signature
    assert [spec.quantized for spec in (*signature.inputs, *signature.outputs)] == [None, None]
