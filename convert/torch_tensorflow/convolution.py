"""Convolutions and transposed convolutions, in TensorFlow's layout: channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from convert.torch_tensorflow.shapes import cut
from convert.torch_tensorflow.table import Call, cast, length, operator


def channels_last(x: Any) -> Any:
    """Put the channels, axis 1, last."""
    rank = len(x.shape)
    return tf.transpose(x, [0, *range(2, rank), 1])


def channels_first(x: tf.Tensor) -> tf.Tensor:
    """Put the channels, the last axis, where PyTorch has them."""
    rank = len(x.shape)
    return tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


def filters_of(call: Call, weight: Any, order: list[int], shape: tuple[int, ...] = ()) -> tf.Tensor:
    """Give a weight with its axes in another order, reshaped before if asked: once and for all where it is constant."""
    if not isinstance(weight, np.ndarray):
        return tf.transpose(tf.reshape(weight, shape) if shape else weight, order)

    def make() -> tuple[np.ndarray, np.ndarray]:
        return weight, np.ascontiguousarray(weight.reshape(shape or weight.shape).transpose(order))

    # NOTE: Why the place in memory: a line's weight is a new view each time, of the same numbers, which `make` holds.
    key = ("filters", weight.ctypes.data, weight.shape, shape, *order)
    return call.kept.tensor(call.kept.once(key, make)[1])


def each(values: Any, rank: int) -> list[int]:
    """Give one number for each axis of space."""
    return [int(value) for value in (values if len(values) == rank else list(values) * rank)]


@operator("convolution.default", raw=(1,))
def convolution(
    call: Call, x: tf.Tensor, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: Any, more: Any, groups: int,
) -> tf.Tensor:  # fmt: skip
    """Convolve."""
    rank = len(x.shape) - 2
    stride, padding, dilation, more = (each(values, rank) for values in (stride, padding, dilation, more))
    line = rank == 1  # as an image of one row: TensorFlow's kernels for lines know fewer settings
    if line:
        x = tf.expand_dims(x, 2)
        weight = weight[:, :, None] if isinstance(weight, np.ndarray) else tf.expand_dims(weight, 2)
        stride, dilation = [stride[0], *stride], [1, *dilation]
        padding, more = [0, *padding], [0, *more]
    value = channels_last(x)
    if transposed:
        found = backward(call, value, weight, stride, padding, dilation, more, groups)
    else:
        value = padded(value, [(pad, pad) for pad in padding])
        found = forward(call, value, weight, stride, dilation, groups)
    found = channels_first(found if bias is None else found + bias)
    return tf.squeeze(found, [2]) if line else found


def padded(value: tf.Tensor, amounts: Any, number: float = 0.0) -> tf.Tensor:
    """Put a number around the places of a tensor with channels last."""
    if not any(before or after for before, after in amounts):
        return value
    return tf.pad(value, [[0, 0], *map(list, amounts), [0, 0]], constant_values=cast(number, value.dtype))


def forward(call: Call, value: tf.Tensor, weight: Any, stride: list[int], dilation: list[int], groups: int) -> Any:
    """Convolve a padded tensor with channels last."""
    space = list(range(2, len(stride) + 2))
    together = max(stride) > 1 and max(dilation) > 1
    if len(stride) == 2 and groups == value.shape[-1] > 1 and stride[0] == stride[1] and not together:
        return depthwise(call, value, weight, stride, dilation, groups)
    filters = filters_of(call, weight, [*space, 1, 0])
    if together and len(stride) > 2:
        raise call.unsupported("strides and dilation together")
    convolve = tf.nn.conv2d if len(stride) == 2 else tf.nn.convolution
    if groups == 1:
        return convolve(value, filters, stride, "VALID", dilations=dilation)
    parts = zip(tf.split(value, groups, -1), tf.split(filters, groups, -1), strict=True)
    return tf.concat([convolve(part, some, stride, "VALID", dilations=dilation) for part, some in parts], axis=-1)


def depthwise(call: Call, value: tf.Tensor, weight: Any, stride: list[int], dilation: list[int], groups: int) -> Any:
    """Convolve every channel by itself."""
    height, width = weight.shape[2:]
    times = int(weight.shape[0]) // groups
    filters = filters_of(call, weight, [2, 3, 0, 1], (groups, times, height, width))
    return tf.nn.depthwise_conv2d(value, filters, [1, *stride, 1], "VALID", dilations=dilation)


def backward(
    call: Call, value: tf.Tensor, weight: Any, stride: list[int], padding: list[int], dilation: list[int],
    more: list[int], groups: int,
) -> tf.Tensor:  # fmt: skip
    """Convolve transposed: all that any input reaches, then padding cut off and what nothing reaches added."""
    space = list(range(2, len(stride) + 2))
    filters = filters_of(call, weight, [*space, 1, 0])
    for axis, step in enumerate(dilation):
        filters = spread(filters, axis, step)
    reach = [int(size) for size in filters.shape[: len(space)]]
    full = [
        (length(value, axis + 1) - 1) * step + size for axis, (step, size) in enumerate(zip(stride, reach, strict=True))
    ]
    whole = []
    for part, some in zip(tf.split(value, groups, -1), tf.split(filters, groups, -1), strict=True):
        shape = tf.stack([tf.shape(part)[0], *full, int(some.shape[-2])])
        whole.append(tf.nn.conv_transpose(part, some, shape, stride, "VALID"))
    found = tf.concat(whole, axis=-1)
    found = padded(found, [(0, max(0, extra - pad)) for pad, extra in zip(padding, more, strict=True)])
    for axis, (size, pad, extra) in enumerate(zip(full, padding, more, strict=True)):
        found = cut(found, axis + 1, slice(pad, size - pad + extra))
    return found


def spread(filters: tf.Tensor, axis: int, step: int) -> tf.Tensor:
    """Put zeros between the elements along an axis, which is what dilation means."""
    if step == 1:
        return filters
    shape = [int(size) for size in filters.shape]
    gaps = [[0, step - 1] if at == axis + 1 else [0, 0] for at in range(len(shape) + 1)]
    wide = tf.pad(tf.expand_dims(filters, axis + 1), gaps)
    joined = tf.reshape(wide, [*shape[:axis], shape[axis] * step, *shape[axis + 1 :]])
    return cut(joined, axis, slice(0, (shape[axis] - 1) * step + 1))
