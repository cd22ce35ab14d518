"""Sums, means, extremes, orders."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import OFF, ON, Call, axes_of, cast, length, operator


@operator("sum.dim_IntList", "sum.default")
def total(call: Call, x: Any, dim: Any = None, keepdim: Any = OFF, **_: Any) -> tf.Tensor:
    """Add up."""
    x = cast(x, call.dtype)
    return tf.reduce_sum(x, axes_of(x, dim), keepdims=keepdim)


@operator("mean.dim", "mean.default")
def mean(call: Call, x: Any, dim: Any = None, keepdim: Any = OFF, **_: Any) -> tf.Tensor:
    """Average."""
    x = cast(x, call.dtype)
    return tf.reduce_mean(x, axes_of(x, dim), keepdims=keepdim)


@operator("prod.dim_int", "prod.default")
def product(call: Call, x: Any, dim: Any = None, keepdim: Any = OFF, **_: Any) -> tf.Tensor:
    """Multiply up."""
    x = cast(x, call.dtype)
    return tf.reduce_prod(x, axes_of(x, dim), keepdims=keepdim)


@operator("amax.default")
def greatest(_: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF) -> tf.Tensor:
    """Take the greatest."""
    return tf.reduce_max(x, axes_of(x, dim), keepdims=keepdim)


@operator("amin.default")
def least(_: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF) -> tf.Tensor:
    """Take the least."""
    return tf.reduce_min(x, axes_of(x, dim), keepdims=keepdim)


@operator("max.default")
def greatest_of_all(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Take the greatest of all."""
    return tf.reduce_max(x)


@operator("min.default")
def least_of_all(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Take the least of all."""
    return tf.reduce_min(x)


@operator("max.dim")
def greatest_and_where(_: Call, x: tf.Tensor, dim: int, keepdim: Any = OFF) -> tuple[tf.Tensor, tf.Tensor]:
    """Take the greatest and its place."""
    return tf.reduce_max(x, dim, keepdims=keepdim), _place(tf.argmax, x, dim, keepdim)


@operator("min.dim")
def least_and_where(_: Call, x: tf.Tensor, dim: int, keepdim: Any = OFF) -> tuple[tf.Tensor, tf.Tensor]:
    """Take the least and its place."""
    return tf.reduce_min(x, dim, keepdims=keepdim), _place(tf.argmin, x, dim, keepdim)


@operator("argmax.default")
def place_of_greatest(_: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF) -> tf.Tensor:
    """Say where the greatest is."""
    return _place(tf.argmax, x, dim, keepdim)


@operator("argmin.default")
def place_of_least(_: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF) -> tf.Tensor:
    """Say where the least is."""
    return _place(tf.argmin, x, dim, keepdim)


def _place(function: Any, x: tf.Tensor, dim: Any, keepdim: Any) -> tf.Tensor:
    if x.dtype == tf.bool:
        x = tf.cast(x, tf.int32)
    if dim is None:
        found = function(tf.reshape(x, [-1]), axis=0, output_type=tf.int64)
        return tf.reshape(found, [1] * len(x.shape)) if keepdim else found
    found = function(x, axis=dim, output_type=tf.int64)
    return tf.expand_dims(found, dim) if keepdim else found


@operator("any.default", "any.dim", "any.dims")
def some(_: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF) -> tf.Tensor:
    """Say whether some are true."""
    return tf.reduce_any(cast(x, tf.bool), axes_of(x, dim), keepdims=keepdim)


@operator("all.default", "all.dim", "all.dims")
def every(_: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF) -> tf.Tensor:
    """Say whether all are true."""
    return tf.reduce_all(cast(x, tf.bool), axes_of(x, dim), keepdims=keepdim)


@operator("var.correction", "std.correction", "var_mean.correction", "var.dim")
def variance(
    call: Call, x: tf.Tensor, dim: Any = None, keepdim: Any = OFF, *, correction: Any = 1, **named: Any
) -> Any:
    """Give the mean square off the mean, or its root; of a sample, one less is divided by."""
    keepdim, axes = named.get("keepdim", keepdim), axes_of(x, named.get("dim", dim))
    average = tf.reduce_mean(x, axes, keepdims=True)
    count: Any = 1
    for axis in axes:
        count = count * length(x, axis)
    squares = tf.reduce_sum(tf.square(x - average), axes, keepdims=keepdim)
    spread = squares / tf.maximum(cast(count, x.dtype) - cast(correction, x.dtype), cast(0, x.dtype))
    if "var_mean" in call.operator:
        return spread, average if keepdim else tf.squeeze(average, axes)
    return tf.sqrt(spread) if "std" in call.operator else spread


@operator("cumsum.default")
def running_total(call: Call, x: Any, dim: int, **_: Any) -> tf.Tensor:
    """Add up along an axis."""
    return tf.cumsum(cast(x, call.dtype), axis=dim)


@operator("cumprod.default")
def running_product(call: Call, x: Any, dim: int, **_: Any) -> tf.Tensor:
    """Multiply up along an axis."""
    return tf.math.cumprod(cast(x, call.dtype), axis=dim)


@operator("logsumexp.default")
def log_of_sum(_: Call, x: tf.Tensor, dim: Any, keepdim: Any = OFF) -> tf.Tensor:
    """Give the logarithm of a sum of exponentials."""
    return tf.reduce_logsumexp(x, axes_of(x, dim), keepdims=keepdim)


@operator("topk.default")
def top(_: Call, x: tf.Tensor, k: Any, dim: int = -1, largest: Any = ON, __: Any = ON) -> tuple[tf.Tensor, tf.Tensor]:
    """Give the greatest or the least, best first, and where they are."""
    axis = axes_of(x, dim)[0]
    return ordered(x, axis, k, descending=largest)


@operator("sort.default", "sort.stable")
def sort(_: Call, x: tf.Tensor, dim: Any = -1, descending: Any = OFF, **named: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Sort along an axis, and say where each was."""
    axis = axes_of(x, named.get("dim", dim))[0]
    return ordered(x, axis, length(x, axis), descending=named.get("descending", descending))


def ordered(x: tf.Tensor, axis: int, k: Any, *, descending: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Give the first `k` along an axis in order, and their places; of equals the first comes first."""
    rank = len(x.shape)
    order = [*(other for other in range(rank) if other != axis), axis]
    back = [order.index(other) for other in range(rank)]
    turned = tf.transpose(x, order)
    found = tf.argsort(turned, axis=-1, direction="DESCENDING" if descending else "ASCENDING", stable=True)[..., :k]
    values = tf.gather(turned, found, axis=-1, batch_dims=rank - 1)
    return tf.transpose(values, back), tf.transpose(tf.cast(found, tf.int64), back)
