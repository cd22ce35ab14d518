"""What ONNX Runtime joins into integer kernels is told apart from what it converts back and forth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convert.errors import LoadError
from convert.worker import Workers, limits_of
from validators.fusion import Fusion
from validators.runtimes import Drag, drags
from validators.runtimes.onnxruntime import ONNXRUNTIME


def test_conversions_and_what_stays_in_float_are_told_with_their_time():
    kinds = (("QLinearConv", 3), ("QuantizeLinear", 2), ("DequantizeLinear", 2), ("HardSigmoid", 2), ("Mul", 4))
    timed = (
        ("QLinearConv", 0.5),
        ("QuantizeLinear", 0.2),
        ("DequantizeLinear", 0.1),
        ("HardSigmoid", 0.19),
        ("Mul", 0.01),
    )
    assert Fusion(kinds, timed).describe() == (
        "ONNX Runtime computes 3 operator(s) in integers and converts 4 time(s) from or to floats, which takes 30% of "
        "the time; in float: HardSigmoid 2 (19%), Mul 4"
    )
    assert Fusion(kinds).describe().endswith("from or to floats; in float: Mul 4, HardSigmoid 2")


def test_a_float_file_has_nothing_to_say():
    assert Fusion((("Conv", 3), ("Relu", 2))).describe() == ""


def network(path: Path) -> None:
    """Write a convolution in integers with a HardSigmoid behind it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {"s": np.float32(0.02), "z": np.uint8(128), "ws": np.float32(0.01), "wz": np.int8(0)}
    constants["w"] = np.arange(64, dtype=np.int8).reshape(8, 8, 1, 1)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xi"]),
        helper.make_node("DequantizeLinear", ["xi", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        helper.make_node("Conv", ["xf", "wf"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["ci"]),
        helper.make_node("DequantizeLinear", ["ci", "s", "z"], ["cf"]),
        helper.make_node("HardSigmoid", ["cf"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 8, 4, 4]) for n in "xy"]
    graph = helper.make_graph(
        nodes, "g", value[:1], value[1:], [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_real_file_is_examined_and_a_damaged_one_refused(tmp_path: Path):
    network(tmp_path / "good.onnx")
    (tmp_path / "damaged.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:100])
    with Workers(tmp_path / "stages", limits_of(60.0, 0)) as workers:
        good = Drag("onnxruntime", str(tmp_path / "good.onnx"))
        words = workers.run("good", drags, good, ONNXRUNTIME).value
        with pytest.raises(LoadError, match="ONNX Runtime cannot load damaged"):
            workers.run("damaged", drags, Drag("onnxruntime", str(tmp_path / "damaged.onnx")), ONNXRUNTIME)
    assert words.startswith("ONNX Runtime computes 1 operator(s) in integers and converts 2 time(s) from or to floats")
    assert "HardSigmoid 1" in words
    assert "% of the time" in words
