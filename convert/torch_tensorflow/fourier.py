"""Fourier transforms and complex numbers."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import Call, axes_of, cast, length, operator

NOT_SCALED, BY_ROOT, BY_COUNT = 0, 1, 2  # as PyTorch numbers the scalings


def _along(function: Any, x: tf.Tensor, axis: int) -> tf.Tensor:
    rank = len(x.shape)
    order = [*(other for other in range(rank) if other != axis), axis]
    return tf.transpose(function(tf.transpose(x, order)), [order.index(other) for other in range(rank)])


def _scaled(x: tf.Tensor, count: Any, scaling: int) -> tf.Tensor:
    if scaling == NOT_SCALED:
        return x
    size = cast(count, tf.float64)
    return x / tf.cast(tf.sqrt(size) if scaling == BY_ROOT else size, x.dtype)


def _count(x: tf.Tensor, axes: list[int]) -> Any:
    return math.prod([length(x, axis) for axis in axes])


@operator("_fft_r2c.default")
def from_real(_: Call, x: tf.Tensor, dim: Any, scaling: int, half: Any) -> tf.Tensor:
    """Transform real numbers; half of what they give says all."""
    axes = axes_of(x, dim)
    count = _count(x, axes)
    if half:
        found = _along(tf.signal.rfft, x, axes[-1])
        axes = axes[:-1]
    else:
        found = tf.complex(x, tf.zeros_like(x))
    for axis in axes:
        found = _along(tf.signal.fft, found, axis)
    return _scaled(found, count, scaling)


@operator("_fft_c2c.default")
def from_complex(_: Call, x: tf.Tensor, dim: Any, scaling: int, forward: Any) -> tf.Tensor:
    """Transform complex numbers, there or back."""
    axes = axes_of(x, dim)
    count = _count(x, axes)
    for axis in axes:
        if forward:
            x = _along(tf.signal.fft, x, axis)
        else:
            x = _along(tf.signal.ifft, x, axis) * cast(length(x, axis), x.dtype)
    return _scaled(x, count, scaling)


@operator("_fft_c2r.default")
def to_real(_: Call, x: tf.Tensor, dim: Any, scaling: int, last: Any) -> tf.Tensor:
    """Transform back to real numbers, of which the last axis has `last`."""
    axes = axes_of(x, dim)
    count = _count(x, axes[:-1]) * last
    for axis in axes[:-1]:
        x = _along(tf.signal.ifft, x, axis) * cast(length(x, axis), x.dtype)
    found = _along(lambda value: tf.signal.irfft(value, [last]), x, axes[-1])
    return _scaled(found * cast(last, found.dtype), count, scaling)


@operator("view_as_real.default", "view_as_real_copy.default")
def as_real(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give the two parts along a new last axis."""
    return tf.stack([tf.math.real(x), tf.math.imag(x)], axis=-1)


@operator("view_as_complex.default", "view_as_complex_copy.default")
def as_complex(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Join the two parts along the last axis."""
    return tf.complex(x[..., 0], x[..., 1])


@operator("complex.default")
def joined(_: Call, real: tf.Tensor, imaginary: tf.Tensor) -> tf.Tensor:
    """Join two parts."""
    return tf.complex(real, imaginary)


@operator("real.default")
def real(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give the real part."""
    return tf.math.real(x)


@operator("imag.default")
def imaginary(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Give the imaginary part."""
    return tf.math.imag(x)


@operator("_conj.default", "_conj_physical.default", "conj_physical.default", "resolve_conj.default")
def conjugate(call: Call, x: tf.Tensor) -> tf.Tensor:
    """Turn the sign of the imaginary part; a tensor that remembers to do so already gives it here."""
    return x if "resolve" in call.operator else tf.math.conj(x)


@operator("polar.default")
def polar(_: Call, size: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """Give complex numbers by size and angle."""
    return tf.complex(size * tf.cos(angle), size * tf.sin(angle))
