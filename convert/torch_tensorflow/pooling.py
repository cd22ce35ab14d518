"""Pooling, in TensorFlow's layout: channels last."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.convolution import channels_first, channels_last, each, padded
from convert.torch_tensorflow.shapes import cut
from convert.torch_tensorflow.table import OFF, ON, Call, cast, length, operator, sizes


def amounts(
    call: Call, value: tf.Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int],
    ceil_mode: Any,
) -> list[tuple[int, int]]:  # fmt: skip
    """Give the padding before and after each axis, that for a last, partial window included."""
    found = []
    for axis, (size, step, pad, gap) in enumerate(zip(kernel, stride, padding, dilation, strict=True), start=1):
        more = 0
        if ceil_mode and step > 1:
            whole = value.shape[axis]
            if whole is None:
                raise call.unsupported("a partial last window over a free size")
            reach = (size - 1) * gap + 1
            windows = -(-(whole + 2 * pad - reach) // step) + 1
            windows -= (windows - 1) * step >= whole + pad
            more = max(0, (windows - 1) * step + reach - whole - 2 * pad)
        found.append((pad, pad + more))
    return found


@operator("max_pool2d_with_indices.default", "max_pool3d_with_indices.default", "max_pool2d.default")
def max_pool(
    call: Call, x: tf.Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,),
    ceil_mode: Any = OFF,
) -> tuple[Any, Any]:  # fmt: skip
    """Take the greatest of each window; where they were is not told."""
    rank = 3 if "3d" in call.operator else 2
    kernel = each(kernel, rank)
    stride, padding, dilation = each(stride or kernel, rank), each(padding, rank), each(dilation, rank)
    value = channels_last(x)
    value = padded(value, amounts(call, value, kernel, stride, padding, dilation, ceil_mode), value.dtype.min)
    if max(dilation) > 1 and max(stride) > 1:
        raise call.unsupported("strides and dilation together")
    return channels_first(tf.nn.pool(value, kernel, "MAX", stride, "VALID", dilations=dilation)), None


@operator("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def avg_pool(
    call: Call, x: tf.Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), ceil_mode: Any = OFF,
    include: Any = ON, divisor: Any = None,
) -> tf.Tensor:  # fmt: skip
    """Average each window; padding counts as zeros, or not at all, and never that of a last, partial window."""
    rank = len(x.shape) - 2
    kernel = each(kernel, rank)
    stride, padding = each(stride or kernel, rank), each(padding, rank)
    value = channels_last(x)
    around = amounts(call, value, kernel, stride, padding, [1] * rank, ceil_mode)

    def average(whole: tf.Tensor) -> tf.Tensor:
        return tf.nn.pool(whole, kernel, "AVG", stride, "VALID")

    found = average(padded(value, around))
    counted = padding if include else [0] * rank
    if divisor is not None:
        found = found * cast(math.prod(kernel) / divisor, found.dtype)
    elif any((pad, pad) != pair for pad, pair in zip(counted, around, strict=True)):
        ones = padded(tf.ones([1, *sizes(value)[1:-1], 1], value.dtype), [(pad, pad) for pad in counted])
        rest = [(a - pad, b - pad) for pad, (a, b) in zip(counted, around, strict=True)]
        found = found / average(padded(ones, rest))
    return channels_first(found)


@operator("adaptive_avg_pool1d.default", "_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default")
def adaptive_avg_pool(_: Call, x: tf.Tensor, wanted: Any) -> tf.Tensor:
    """Average as many windows as are wanted along each axis: the product with a matrix of shares."""
    first = len(x.shape) - len(wanted)
    if all(isinstance(size, int) and size == 1 for size in wanted):
        return tf.reduce_mean(x, list(range(first, len(x.shape))), keepdims=True)
    for axis, size in enumerate(wanted, start=first):
        if isinstance(size, int) and size == x.shape[axis]:
            continue
        starts, ends = windows(length(x, axis), size)
        at = tf.range(length(x, axis))[:, None]
        within = cast((at >= starts) & (at < ends), x.dtype) / cast(ends - starts, x.dtype)
        x = tf.tensordot(x, within, [[axis], [0]])
        last = len(x.shape) - 1
        x = tf.transpose(x, [*range(axis), last, *range(axis, last)])
    return x


def windows(length_of: Any, wanted: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Give where the windows of adaptive pooling start and end."""
    at = tf.range(wanted)
    return at * length_of // wanted, -(-((at + 1) * length_of) // wanted)


@operator("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def adaptive_max_pool(call: Call, x: tf.Tensor, wanted: Any) -> tuple[Any, Any]:
    """Take the greatest of as many windows as are wanted along each axis; where they were is not told."""
    first = len(x.shape) - len(wanted)
    for axis, size in enumerate(wanted, start=first):
        whole = x.shape[axis]
        if whole is None:
            raise call.unsupported("a free size")
        bounds = [(at * whole // size, -(-((at + 1) * whole) // size)) for at in range(size)]
        x = tf.stack([tf.reduce_max(cut(x, axis, slice(*pair)), axis) for pair in bounds], axis)
    return x, None
