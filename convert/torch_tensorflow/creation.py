"""Tensors made of nothing but sizes and numbers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import Call, cast, operator, shape_of

COUNTING = (tf.int32, tf.int64, tf.float32, tf.float64)  # what TensorFlow counts in


@operator("full.default")
def full(call: Call, shape: Any, value: Any, **_: Any) -> tf.Tensor:
    """Fill a shape with a number."""
    return tf.fill(shape_of(shape), cast(value, call.dtype))


@operator("new_full.default")
def new_full(call: Call, _: Any, shape: Any, value: Any, **__: Any) -> tf.Tensor:
    """Fill a shape with a number."""
    return full(call, shape, value)


@operator("full_like.default")
def full_like(call: Call, x: tf.Tensor, value: Any, **_: Any) -> tf.Tensor:
    """Fill a tensor's shape with a number."""
    return tf.fill(tf.shape(x), cast(value, call.dtype))


@operator("zeros.default", "empty.memory_format", "new_zeros.default", "new_empty.default", "empty_strided.default")
def zeros(call: Call, shape: Any, other: Any = None, **_: Any) -> tf.Tensor:
    """Fill a shape with zeros; what nothing was written to may as well hold them."""
    return tf.zeros(shape_of(other if "new_" in call.operator else shape), call.dtype)


@operator("ones.default")
def ones(call: Call, shape: Any, **_: Any) -> tf.Tensor:
    """Fill a shape with ones."""
    return tf.ones(shape_of(shape), call.dtype)


@operator("zeros_like.default", "empty_like.default")
def zeros_like(call: Call, x: tf.Tensor, **_: Any) -> tf.Tensor:
    """Fill a tensor's shape with zeros."""
    return tf.zeros(tf.shape(x), call.dtype)


@operator("ones_like.default")
def ones_like(call: Call, x: tf.Tensor, **_: Any) -> tf.Tensor:
    """Fill a tensor's shape with ones."""
    return tf.ones(tf.shape(x), call.dtype)


@operator("scalar_tensor.default", "lift_fresh.default")
def scalar(call: Call, value: Any, **_: Any) -> tf.Tensor:
    """Give a number as a tensor."""
    return cast(value, call.dtype)


@operator("arange.default")
def arange(call: Call, end: Any, **_: Any) -> tf.Tensor:
    """Count from zero."""
    return arange_step(call, 0, end)


@operator("arange.start_step", "arange.start")
def arange_step(call: Call, start: Any, end: Any, step: Any = 1, **_: Any) -> tf.Tensor:
    """Count from a number to before another."""
    counting = call.dtype if call.dtype in COUNTING else tf.int64
    return tf.cast(tf.range(*(cast(value, counting) for value in (start, end, step))), call.dtype)


@operator("linspace.default")
def linspace(call: Call, start: Any, end: Any, steps: Any, **_: Any) -> tf.Tensor:
    """Go from a number to another in equal steps."""
    return tf.cast(tf.linspace(cast(start, tf.float64), cast(end, tf.float64), steps), call.dtype)


@operator("eye.default", "eye.m")
def eye(call: Call, rows: Any, columns: Any = None, **_: Any) -> tf.Tensor:
    """Give ones on the diagonal."""
    return tf.eye(rows, columns, dtype=call.dtype)
