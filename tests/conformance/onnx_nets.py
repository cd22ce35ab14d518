"""Small float ONNX networks of different families, with the weights of a fixed seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

CONVOLUTIONAL = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,3,16,16] image) => (float[batch,10] logits) {
  stem = Conv <pads=[1,1,1,1]> (image, stem_w)
  normed = BatchNormalization <epsilon=0.001> (stem, gamma:c16, beta:c16, mean:c16, variance:p16)
  first = Relu (normed)
  wide = Conv <pads=[1,1,1,1], group=16> (first, depth_w, depth_b:c16)
  zero = Constant <value_float=0.0> ()
  six = Constant <value_float=6.0> ()
  clipped = Clip (wide, zero, six)
  point = Conv (clipped, point_w, point_b:c16)
  joined = Add (point, first)
  second = Relu (joined)
  pooled = MaxPool <kernel_shape=[2,2], strides=[2,2]> (second)
  third = Conv <pads=[1,1,1,1]> (pooled, third_w, third_b:c16)
  swished = HardSwish (third)
  small = GlobalAveragePool (swished)
  flat = Flatten (small)
  logits = Gemm <transB=1> (flat, head_w, head_b:c10)
}
"""

ENCODER = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,9,12] signal) => (float[batch,9,10] scores) {
  lifted = MatMul (signal, lift_w)
  embedded = Add (lifted, lift_b:c32)
  normed = LayerNormalization <epsilon=0.00001> (embedded, gamma:o32, beta:c32)
  query = MatMul (normed, query_w)
  key = MatMul (normed, key_w)
  value = MatMul (normed, value_w)
  turned = Transpose <perm=[0,2,1]> (key)
  products = MatMul (query, turned)
  tenth = Constant <value_float=0.2> ()
  scaled = Mul (products, tenth)
  attention = Softmax <axis=-1> (scaled)
  mixed = MatMul (attention, value)
  summed = Add (mixed, embedded)
  normed2 = LayerNormalization <epsilon=0.00001> (summed, gamma2:o32, beta2:c32)
  wide = MatMul (normed2, wide_w)
  biased = Add (wide, wide_b:c64)
  active = Gelu (biased)
  narrow = MatMul (active, narrow_w)
  back = Add (narrow, summed)
  scores = MatMul (back, head_w)
}
"""

RECURRENT = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[7,batch,12] signal) => (float[batch,10] scores) {
  sequence, last = LSTM <hidden_size=24> (signal, w, r, b)
  axes = Constant <value_ints=[1]> ()
  steps = Squeeze (sequence, axes)
  sequence2, last2 = GRU <hidden_size=32, linear_before_reset=1> (steps, w2, r2, b2)
  axis = Constant <value_ints=[0]> ()
  final = Squeeze (last2, axis)
  scores = Gemm <transB=1> (final, head_w, head_b:c10)
}
"""

TOKENS = """
<ir_version: 10, opset_import: ["" : 20]>
net (int64[batch,6] ids) => (float[batch,10] scores) {
  rows = Gather (table, ids)
  axes = Constant <value_ints=[1]> ()
  mean = ReduceMean <keepdims=0> (rows, axes)
  hidden = Gemm <transB=1> (mean, hidden_w, hidden_b:c32)
  active = Relu (hidden)
  scores = Gemm (active, head_w)
}
"""

SHAPES = {
    "convolutional": {
        "stem_w": (16, 3, 3, 3),
        "depth_w": (16, 1, 3, 3),
        "point_w": (16, 16, 1, 1),
        "third_w": (16, 16, 3, 3),
        "head_w": (10, 16),
    },
    "encoder": {
        **dict.fromkeys(("query_w", "key_w", "value_w"), (32, 32)),
        "lift_w": (12, 32),
        "wide_w": (32, 64),
        "narrow_w": (64, 32),
        "head_w": (32, 10),
    },
    "recurrent": {
        "w": (1, 96, 12),
        "r": (1, 96, 24),
        "b": (1, 192),
        "w2": (1, 96, 24),
        "r2": (1, 96, 32),
        "b2": (1, 192),
        "head_w": (10, 32),
    },
    "tokens": {"table": (50, 32), "hidden_w": (32, 32), "head_w": (32, 10)},
}
TEXTS = {"convolutional": CONVOLUTIONAL, "encoder": ENCODER, "recurrent": RECURRENT, "tokens": TOKENS}


def network(family: str) -> onnx.ModelProto:
    """Build a network; `name:c16` in its text is a vector of 16 numbers, `p16` of positive ones, `o16` near one."""
    rng = np.random.default_rng(7)
    text, vectors = TEXTS[family], {}
    for word in sorted({word.strip("(),") for word in text.split() if ":" in word}):
        name, _, kind = word.partition(":")
        if kind[:1] in ("c", "p", "o") and kind[1:].isdigit():
            numbers = rng.normal(0, 0.3, int(kind[1:]))
            vectors[name] = {"c": numbers, "p": np.abs(numbers) + 0.2, "o": numbers + 1}[kind[0]]
            text = text.replace(word, name)
    model = onnx.parser.parse_model(text)
    for name, shape in SHAPES[family].items():
        fan = max(1, int(np.prod(shape[1:])) if len(shape) != 2 else shape[1])
        vectors[name] = rng.normal(0, 1.2 / np.sqrt(fan), shape)
    model.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in vectors.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def write(family: str, folder: Path) -> Path:
    """Write a network to a file."""
    path = folder / f"{family}.onnx"
    onnx.save(network(family), str(path))
    return path


def samples(family: str, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Draw inputs for a network, one after another."""
    rng = np.random.default_rng(seed)
    if family == "tokens":
        return [{"ids": rng.integers(0, 50, (1, 6))} for _ in range(count)]
    name, shape = {
        "convolutional": ("image", (1, 3, 16, 16)),
        "encoder": ("signal", (1, 9, 12)),
        "recurrent": ("signal", (7, 1, 12)),
    }[family]
    return [{name: rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]
