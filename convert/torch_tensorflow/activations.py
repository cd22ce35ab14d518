"""Activation functions, softmax, and normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from convert.torch_tensorflow.table import OFF, Call, axes_of, cast, operator


@operator("sigmoid.default")
def sigmoid(call: Call, x: Any) -> tf.Tensor:
    """Give 1 / (1 + exp(-x))."""
    return tf.sigmoid(cast(x, call.dtype))


@operator("relu.default", "relu_.default")
def relu(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give what is above zero."""
    return tf.nn.relu(x)


@operator("relu6.default")
def relu6(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give what lies between 0 and 6."""
    return tf.nn.relu6(x)


@operator("hardtanh.default")
def hardtanh(_: Call, x: tf.Tensor, least: float = -1.0, most: float = 1.0) -> tf.Tensor:
    """Keep within bounds."""
    return tf.minimum(tf.maximum(x, cast(least, x.dtype)), cast(most, x.dtype))


@operator("hardsigmoid.default")
def hardsigmoid(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give (x + 3) / 6, kept between 0 and 1."""
    return tf.nn.relu6(x + 3.0) / 6.0


@operator("hardswish.default")
def hardswish(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give x times its hard sigmoid."""
    return x * tf.nn.relu6(x + 3.0) / 6.0


@operator("silu.default")
def silu(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give x times its sigmoid."""
    return x * tf.sigmoid(x)


@operator("mish.default")
def mish(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give x times the hyperbolic tangent of its softplus."""
    return x * tf.tanh(tf.nn.softplus(x))


@operator("leaky_relu.default")
def leaky_relu(_: Call, x: tf.Tensor, slope: float = 0.01) -> tf.Tensor:
    """Give a share of what is below zero."""
    return tf.where(x > 0, x, x * cast(slope, x.dtype))


@operator("_prelu_kernel.default")
def prelu(_: Call, x: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Give a learned share of what is below zero."""
    return tf.where(x > 0, x, x * slope)


@operator("elu.default")
def elu(_: Call, x: tf.Tensor, alpha: float = 1.0, scale: float = 1.0, within: float = 1.0) -> tf.Tensor:
    """Give an exponential's approach to -alpha below zero."""
    below = tf.math.expm1(tf.minimum(x, cast(0.0, x.dtype)) * within) * (alpha * scale)
    return tf.where(x > 0, x * scale, below)


@operator("gelu.default")
def gelu(_: Call, x: tf.Tensor, approximate: str = "none") -> tf.Tensor:
    """Give x times the share of a normal distribution below it."""
    if approximate == "tanh":
        return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


@operator("softplus.default")
def softplus(_: Call, x: tf.Tensor, beta: float = 1.0, threshold: float = 20.0) -> tf.Tensor:
    """Give log(1 + exp(beta x)) / beta."""
    return tf.where(x * beta > threshold, x, tf.nn.softplus(x * beta) / beta)


@operator("log_sigmoid_forward.default")
def log_sigmoid(_: Call, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Give the logarithm of the sigmoid."""
    return tf.math.log_sigmoid(x), tf.zeros([0], x.dtype)


@operator("threshold.default")
def threshold(_: Call, x: tf.Tensor, bound: float, value: float) -> tf.Tensor:
    """Put a number for what is not above a bound."""
    return tf.where(x > cast(bound, x.dtype), x, cast(value, x.dtype))


@operator("_softmax.default", "softmax.int")
def softmax(call: Call, x: Any, dim: int, *_: Any, **__: Any) -> tf.Tensor:
    """Give shares that sum to one."""
    return tf.nn.softmax(cast(x, call.dtype), axis=dim)


@operator("_log_softmax.default", "log_softmax.int")
def log_softmax(call: Call, x: Any, dim: int, *_: Any, **__: Any) -> tf.Tensor:
    """Give the logarithm of the shares."""
    return tf.nn.log_softmax(cast(x, call.dtype), axis=dim)


@operator("_safe_softmax.default")
def safe_softmax(_: Call, x: tf.Tensor, dim: int, *__: Any) -> tf.Tensor:
    """Give shares that sum to one, zeros where all is masked."""
    masked = tf.reduce_all(tf.equal(x, cast(-math.inf, x.dtype)), axis=dim, keepdims=True)
    return tf.where(masked, cast(0.0, x.dtype), tf.nn.softmax(x, axis=dim))


def normalised(x: tf.Tensor, axes: list[int], eps: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Take off the mean over some axes and divide by the deviation; gives both and what was divided by, inverted."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    centred = x - mean
    inverse = 1.0 / tf.sqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True) + cast(eps, x.dtype))
    return centred * inverse, mean, inverse


@operator("native_layer_norm.default")
def layer_norm(_: Call, x: tf.Tensor, shape: list[Any], weight: Any, bias: Any, eps: float) -> tuple[tf.Tensor, ...]:
    """Normalise over the last axes."""
    rank = len(x.shape)
    found, mean, inverse = normalised(x, list(range(rank - len(shape), rank)), eps)
    found = found if weight is None else found * weight
    return (found if bias is None else found + bias), mean, inverse


@operator("native_group_norm.default")
def group_norm(
    _: Call, x: tf.Tensor, weight: Any, bias: Any, batch: Any, channels: Any, __: Any, groups: int, eps: float
) -> tuple[tf.Tensor, ...]:
    """Normalise over groups of channels and all places."""
    found, mean, inverse = normalised(tf.reshape(x, [batch, groups, -1]), [2], eps)
    found = tf.reshape(found, tf.shape(x))
    along = [1, channels, *[1] * (len(x.shape) - 2)]
    found = found if weight is None else found * tf.reshape(weight, along)
    found = found if bias is None else found + tf.reshape(bias, along)
    return found, tf.reshape(mean, [batch, groups]), tf.reshape(inverse, [batch, groups])


@operator("_native_batch_norm_legit_no_training.default", raw=(1, 2, 3, 4))
def batch_norm(
    _: Call, x: tf.Tensor, weight: Any, bias: Any, mean: Any, variance: Any, __: float, eps: float
) -> tuple[tf.Tensor, ...]:
    """Scale and shift every channel by what training found; both are computed once where they are constants."""
    weight = 1.0 if weight is None else weight
    bias = 0.0 if bias is None else bias
    if all(isinstance(value, (np.ndarray, float)) for value in (weight, bias, mean, variance)):
        scale = weight / np.sqrt(variance + np.float32(eps))
        shift = bias - mean * scale
        scale, shift = (value.astype(x.dtype.as_numpy_dtype) for value in (scale, shift))
    else:
        scale = weight / tf.sqrt(variance + cast(eps, x.dtype))
        shift = bias - mean * scale
    along = [1, -1, *[1] * (len(x.shape) - 2)]
    found = x * tf.reshape(scale, along) + tf.reshape(shift, along)
    empty = tf.zeros([0], x.dtype)
    return found, empty, empty


@operator("_native_batch_norm_legit.no_stats")
def batch_norm_here(
    _: Call, x: tf.Tensor, weight: Any, bias: Any, __: Any, ___: float, eps: float
) -> tuple[tf.Tensor, ...]:
    """Normalise every channel by its own mean and deviation."""
    axes = [axis for axis in range(len(x.shape)) if axis != 1]
    found, mean, inverse = normalised(x, axes, eps)
    along = [1, -1, *[1] * (len(x.shape) - 2)]
    found = found if weight is None else found * tf.reshape(weight, along)
    found = found if bias is None else found + tf.reshape(bias, along)
    return found, tf.squeeze(mean, axes), tf.squeeze(inverse, axes)


@operator("glu.default")
def glu(_: Call, x: tf.Tensor, dim: int = -1) -> tf.Tensor:
    """Weigh one half by the sigmoid of the other."""
    first, second = tf.split(x, 2, axis=axes_of(x, dim)[0])
    return first * tf.sigmoid(second)


@operator("linalg_vector_norm.default")
def vector_norm(call: Call, x: tf.Tensor, order: float = 2, dim: Any = None, keepdim: Any = OFF, **_: Any) -> tf.Tensor:
    """Give the length of vectors."""
    x, axes = cast(x, call.dtype), axes_of(x, dim)
    size = tf.abs(x)
    if order == math.inf:
        return tf.reduce_max(size, axes, keepdims=keepdim)
    if order == 1:
        return tf.reduce_sum(size, axes, keepdims=keepdim)
    if order != 2:
        raise call.unsupported(f"the order {order}")
    return tf.sqrt(tf.reduce_sum(tf.square(x), axes, keepdims=keepdim))
