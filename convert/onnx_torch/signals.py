"""Fourier transforms and windows, in real arithmetic: PyTorch's exporters know no complex numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, operator
from convert.onnx_torch.values import Value, number


def _basis(length: int, bins: int, dtype: torch.dtype, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Give cosines and sines of every bin (rows of time, columns of bins), exact to the last bit of float64."""
    # The product is reduced modulo the length first: angles stay small and exact.
    turns = torch.outer(torch.arange(length), torch.arange(bins)) % length
    angle = turns.to(torch.float64) * (2 * math.pi / length)
    sign = 1.0 if inverse else -1.0
    return torch.cos(angle).to(dtype), (sign * torch.sin(angle)).to(dtype)


def _complex_product(real: Tensor, imaginary: Tensor | None, cosine: Tensor, sine: Tensor) -> Tensor:
    found_real, found_imaginary = real @ cosine, real @ sine
    if imaginary is not None:
        found_real, found_imaginary = found_real - imaginary @ sine, found_imaginary + imaginary @ cosine
    return torch.stack([found_real, found_imaginary], -1)


@operator("DFT", raw=(1, 2))
def fourier(node: Node, value: Tensor, length: Value = None, axis_value: Value = None) -> Tensor:
    """Transform one axis of real (last axis 1) or complex (last axis 2) numbers, by a matrix."""
    axis = node.get("axis", 1) if axis_value is None else int(number(axis_value))
    if axis_value is None and node.version >= 20:
        axis = -2
    axis = axis % value.dim()
    inverse, one_sided = bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    real = value[..., 0]
    imaginary = value[..., 1] if value.shape[-1] == 2 else None
    if inverse and one_sided:
        return _real_inverse(real, imaginary, axis, None if length is None else int(number(length)))
    count = int(value.shape[axis]) if length is None else int(number(length))
    real = _fitted(real.movedim(axis, -1), count)
    imaginary = None if imaginary is None else _fitted(imaginary.movedim(axis, -1), count)
    cosine, sine = _basis(count, count // 2 + 1 if one_sided else count, real.dtype, inverse=inverse)
    found = _complex_product(real, imaginary, cosine, sine)
    return (found / count if inverse else found).movedim(-2, axis)


def _real_inverse(real: Tensor, imaginary: Tensor | None, axis: int, length: int | None) -> Tensor:
    """Turn the lower half of a spectrum back into real numbers."""
    real = real.movedim(axis, -1)
    imaginary = torch.zeros_like(real) if imaginary is None else imaginary.movedim(axis, -1)
    count = 2 * (int(real.shape[-1]) - 1) if length is None else length
    bins = count // 2 + 1
    real, imaginary = _fitted(real, bins), _fitted(imaginary, bins)
    weight = torch.full([bins], 2.0, dtype=real.dtype)
    weight[0] = 1.0
    if count % 2 == 0:
        weight[-1] = 1.0
    cosine, sine = _basis(count, bins, real.dtype, inverse=True)
    found = ((real * weight) @ cosine.t() - (imaginary * weight) @ sine.t()) / count
    return found.unsqueeze(-1).movedim(-2, axis)


def _fitted(value: Tensor, count: int) -> Tensor:
    """Cut the last axis to a length, or fill it with zeros."""
    size = int(value.shape[-1])
    return value[..., :count] if size >= count else torch.nn.functional.pad(value, [0, count - size])


@operator("STFT", raw=(1, 3))
def short_time_fourier(
    node: Node, signal: Tensor, step: Value, window: Tensor | None = None, length: Value = None
) -> Tensor:
    """Transform overlapping frames, by one convolution with windowed cosines and sines."""
    size = int(window.shape[0]) if length is None and window is not None else int(number(length))
    bins = size // 2 + 1 if node.get("onesided", 1) else size
    flat = signal.dim() == 2 or signal.shape[-1] == 1
    real = signal.reshape(signal.shape[0], 1, -1) if flat else signal[..., 0].unsqueeze(1)
    cosine, sine = _basis(size, bins, real.dtype, inverse=False)
    if window is not None:
        cosine, sine = cosine * window.unsqueeze(1), sine * window.unsqueeze(1)
    kernel = torch.cat([cosine.t(), sine.t()]).unsqueeze(1)
    stride = int(number(step))
    found = torch.nn.functional.conv1d(real, kernel, stride=stride)
    real_part, imaginary_part = found[:, :bins], found[:, bins:]
    if not flat:
        other = torch.nn.functional.conv1d(signal[..., 1].unsqueeze(1), kernel, stride=stride)
        real_part, imaginary_part = real_part - other[:, bins:], imaginary_part + other[:, :bins]
    return torch.stack([real_part, imaginary_part], -1).transpose(1, 2)


_WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@operator(*_WINDOWS, raw=(0,))
def window(node: Node, size: Value) -> Tensor:
    """Give a cosine window."""
    count = int(number(size))
    a, b, c = _WINDOWS[node.kind]
    span = count if node.get("periodic", 1) else count - 1
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / span
    found = a - b * torch.cos(angle) + c * torch.cos(2 * angle)
    return found.to(node.dtype(node.get("output_datatype", 1)))


@operator("MelWeightMatrix", raw=(0, 1, 2, 3, 4))
def mel_weights(node: Node, bins: Value, length: Value, rate: Value, low: Value, high: Value) -> Tensor:
    """Give the weights that map a spectrum to mel bands, as the standard computes them."""
    count, size = int(number(bins)), int(number(length))
    spectrum = size // 2 + 1
    edges = [2595 * math.log10(1 + float(number(end)) / 700) for end in (low, high)]
    step = (edges[1] - edges[0]) / (count + 2)
    hertz = [700 * (10 ** ((edges[0] + i * step) / 2595) - 1) for i in range(count + 2)]
    places = [int((size + 1) * frequency // int(number(rate))) for frequency in hertz]
    found = torch.zeros(spectrum, count, dtype=torch.float64)
    for band in range(count):
        left, centre, right = places[band : band + 3]
        if left == centre:
            found[centre, band] = 1
        for i in range(left, centre + 1):
            if centre != left:
                found[i, band] = (i - left) / (centre - left)
        for i in range(centre, right):
            if right != centre:
                found[i, band] = (right - i) / (right - centre)
    return found.to(node.dtype(node.get("output_datatype", 1)))
