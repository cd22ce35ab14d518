"""A TFLite file's numbers say its precision, also where they lie behind the flatbuffer, and what its integers mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_tflite import Tiny

from convert.formats import FormatError
from convert.formats._tflite_precision import precision_of
from convert.formats.tflite import distinct_names, read, read_model, write_model
from convert.spec import Scale


def dense(weights: str = "", activations: str = "", *, unpacked: bool = False) -> Tiny:
    """Build x -> FULLY_CONNECTED -> y with weights and activations of TFLite's types of those names."""
    tiny = Tiny()
    x, y = tiny.tensor("x", (1, 4)), tiny.tensor("y", (1, 2))
    given = w = tiny.tensor("w", (2, 4), np.arange(8, dtype=np.float32))
    quantize(tiny, w, weights)
    for index in (x, y):
        quantize(tiny, index, activations)
    if unpacked:
        given = tiny.tensor("w_float", (2, 4))
        tiny.operator("DEQUANTIZE", [w], given)
    tiny.operator("FULLY_CONNECTED", [x, given], y, tiny.schema.FullyConnectedOptionsT())
    tiny.graph.inputs, tiny.graph.outputs = [x], [y]
    return tiny


def quantize(tiny: Tiny, index: int, kind: str) -> None:
    tensor = tiny.graph.tensors[index]
    if kind:
        tensor.type = getattr(tiny.schema.TensorType, kind)
    if kind and not kind.startswith("FLOAT"):
        tensor.quantization = tiny.schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5], [3]


@pytest.mark.parametrize(
    ("tiny", "precision"),
    [
        (dense(), "fp32"),
        (dense("FLOAT16", unpacked=True), "fp16"),
        (dense("INT8"), "int8-dynamic"),
        (dense("INT8", unpacked=True), "int8-weights"),
        (dense("INT4", unpacked=True), "int4-weights"),
        (dense("INT8", "INT8"), "int8"),
        (dense("UINT8", "UINT8"), "int8"),
        (dense("INT8", "INT16"), "int16x8"),
    ],
)
def test_the_types_of_tensors_say_the_precision(tiny, precision):
    assert precision_of(tiny.model) == precision


def test_moving_integers_about_is_no_integer_arithmetic():
    tiny = Tiny()
    rows, ids, y, z = (tiny.tensor(name, (4,)) for name in ("rows", "ids", "y", "z"))
    for index in (rows, y):
        quantize(tiny, index, "INT8")
    tiny.graph.tensors[rows].buffer = tiny.graph.tensors[tiny.tensor("k", (4,), np.zeros(4, np.float32))].buffer
    tiny.operator("GATHER", [rows, ids], y)
    tiny.operator("DEQUANTIZE", [y], z)
    assert precision_of(tiny.model) == "int8-weights"


def test_integer_inputs_and_outputs_say_what_they_stand_for(tmp_path: Path):
    path = tmp_path / "int8.tflite"
    write_model(path, dense("INT8", "INT8").model)
    found = read(path)
    assert found.precision == "int8"
    assert found.signature.inputs[0].quantized == found.signature.outputs[0].quantized == Scale(0.5, 3)
    write_model(path, dense("INT8").model)
    assert read(path).signature.inputs[0].quantized is None


def behind(path: Path, *, cut: int = 0) -> None:
    """Move the weights of a file behind its flatbuffer, as large files have them, `cut` bytes missing."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import update_packed_buffer

    model = read_model(path)
    data = bytes(model.buffers[1].data)
    model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 1, 1
    write_model(path, model)
    packed = bytearray(path.read_bytes())
    packed += bytes(-len(packed) % 16)
    update_packed_buffer(schema.Model.GetRootAs(packed).Buffers(1), offset=len(packed), size=len(data))
    path.write_bytes(packed + data[: len(data) - cut])


def test_buffers_behind_the_flatbuffer_are_read_and_drawn_in(tmp_path: Path):
    path = tmp_path / "behind.tflite"
    write_model(path, dense().model)
    behind(path)
    model = read_model(path)
    assert (np.frombuffer(bytes(model.buffers[1].data), np.float32) == np.arange(8)).all()
    write_model(path, model)
    assert bytes(read_model(path).buffers[1].data) == np.arange(8, dtype=np.float32).tobytes()


def test_a_buffer_that_ends_after_the_file_is_damage(tmp_path: Path):
    path = tmp_path / "cut.tflite"
    write_model(path, dense().model)
    behind(path, cut=5)
    with pytest.raises(FormatError, match="a buffer ends 5 bytes after the file"):
        read_model(path)


def test_tensors_of_one_name_get_names_of_their_own():
    tiny = Tiny()
    for name in ("x", "x", "", "x/1"):
        tiny.tensor(name, (1,))
    names = [tensor.name for tensor in distinct_names(tiny.model).subgraphs[0].tensors]
    assert names == [b"x", b"x/1_", b"/2", b"x/1"]
