"""Enlarging and sampling images."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import Call, cast, length, operator, shape_of


def wanted(x: tf.Tensor, size: Any, scales: Any) -> list[Any]:
    """Give the sizes wanted along the axes of space."""
    if size:
        return list(size)
    found = []
    for axis, scale in enumerate(scales, start=2):
        whole = length(x, axis)
        known = isinstance(whole, int)
        found.append(int(whole * scale) if known else tf.cast(tf.floor(cast(whole, tf.float64) * scale), tf.int32))
    return found


def ratio(whole: Any, size: Any, scale: Any, *, corners: bool) -> tf.Tensor:
    """Give the distance in the source that one step in the result is, as PyTorch computes it: in float32."""
    if corners:
        return cast(whole - 1, tf.float32) / tf.maximum(cast(size - 1, tf.float32), 1.0)
    return tf.constant(1.0 / scale, tf.float32) if scale else cast(whole, tf.float32) / cast(size, tf.float32)


@operator("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def nearest(_: Call, x: tf.Tensor, size: Any, scales: Any = None) -> tf.Tensor:
    """Enlarge by the element at or before each place."""
    factors = scales or [None] * (len(x.shape) - 2)
    for axis, (goal, scale) in enumerate(zip(wanted(x, size, scales), factors, strict=True), start=2):
        step = ratio(length(x, axis), goal, scale, corners=False)
        at = tf.cast(tf.floor(tf.cast(tf.range(goal), tf.float32) * step), tf.int32)
        x = tf.gather(x, tf.minimum(at, length(x, axis) - 1), axis=axis)
    return x


@operator("upsample_nearest1d.default", "upsample_nearest2d.default", "upsample_nearest3d.default")
def nearest_to(call: Call, x: tf.Tensor, size: Any, *scales: Any) -> tf.Tensor:
    """Enlarge by the element at or before each place."""
    return nearest(call, x, size, list(scales) if scales and None not in scales else None)


@operator("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def linear(_: Call, x: tf.Tensor, size: Any, corners: Any, scales: Any = None) -> tf.Tensor:
    """Enlarge by what lies between neighbours, one axis after another."""
    factors = scales or [None] * (len(x.shape) - 2)
    for axis, (goal, scale) in enumerate(zip(wanted(x, size, scales), factors, strict=True), start=2):
        whole = length(x, axis)
        step = ratio(whole, goal, scale, corners=corners)
        at = tf.cast(tf.range(goal), tf.float32)
        at = at * step if corners else tf.maximum((at + 0.5) * step - 0.5, 0.0)
        low = tf.minimum(tf.cast(at, tf.int32), whole - 1)
        share = tf.cast(at - tf.cast(low, tf.float32), x.dtype)
        share = tf.reshape(tf.clip_by_value(share, 0, 1), [-1, *[1] * (len(x.shape) - axis - 1)])
        high = tf.minimum(low + 1, whole - 1)
        x = tf.gather(x, low, axis=axis) * (1 - share) + tf.gather(x, high, axis=axis) * share
    return x


@operator("upsample_bilinear2d.default", "upsample_linear1d.default")
def linear_to(call: Call, x: tf.Tensor, size: Any, corners: Any, *scales: Any) -> tf.Tensor:
    """Enlarge by what lies between neighbours."""
    return linear(call, x, size, corners, list(scales) if scales and None not in scales else None)


BILINEAR, NEAREST = 0, 1  # as PyTorch numbers the ways between pixels
ZEROS, BORDER, REFLECTION = 0, 1, 2  # and beyond the border


@operator("grid_sampler_2d.default")
def grid_sample(call: Call, x: tf.Tensor, grid: tf.Tensor, way: int, beyond: int, corners: Any) -> tf.Tensor:
    """Sample an image at the places of a grid, which counts from -1 to 1."""
    if way not in (BILINEAR, NEAREST):
        raise call.unsupported("bicubic sampling")
    image = tf.transpose(x, [0, 2, 3, 1])
    height, width = length(x, 2), length(x, 3)
    column, row = (_place(grid[..., axis], size, beyond, corners=corners) for axis, size in enumerate((width, height)))
    if way == NEAREST:
        found = _pixels(image, tf.round(row), tf.round(column), beyond)
        return tf.transpose(found, [0, 3, 1, 2])
    top, left = tf.floor(row), tf.floor(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    found = (
        _pixels(image, top, left, beyond) * (1 - down) * (1 - right)
        + _pixels(image, top, left + 1, beyond) * (1 - down) * right
        + _pixels(image, top + 1, left, beyond) * down * (1 - right)
        + _pixels(image, top + 1, left + 1, beyond) * down * right
    )
    return tf.transpose(found, [0, 3, 1, 2])


def _place(at: tf.Tensor, size: Any, beyond: int, *, corners: bool) -> tf.Tensor:
    whole = cast(size, at.dtype)
    place = (at + 1) / 2 * (whole - 1) if corners else ((at + 1) * whole - 1) / 2
    if beyond == REFLECTION:
        least, span = (0.0, whole - 1) if corners else (-0.5, whole)
        off = tf.abs(place - least)
        over = tf.math.floormod(off, 2 * span)
        place = tf.where(over > span, 2 * span - over, over) + least
    return place if beyond == ZEROS else tf.clip_by_value(place, 0, whole - 1)


def _pixels(image: tf.Tensor, row: tf.Tensor, column: tf.Tensor, beyond: int) -> tf.Tensor:
    height, width = length(image, 1), length(image, 2)
    # Clipped before it becomes an integer: no integer holds a place far outside.
    rows = tf.cast(tf.clip_by_value(row, 0, cast(height - 1, row.dtype)), tf.int32)
    columns = tf.cast(tf.clip_by_value(column, 0, cast(width - 1, row.dtype)), tf.int32)
    flat = tf.reshape(image, shape_of([length(image, 0), height * width, length(image, 3)]))
    found = tf.gather(flat, rows * width + columns, axis=1, batch_dims=1)
    if beyond != ZEROS:
        return found
    inside = (row >= 0) & (row <= cast(height - 1, row.dtype)) & (column >= 0)
    inside &= column <= cast(width - 1, row.dtype)
    return found * tf.cast(inside, image.dtype)[..., None]
