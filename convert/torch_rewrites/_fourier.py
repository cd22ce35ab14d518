"""Fourier transforms of pairs of real tensors, as products with the matrices of cosines and sines, axis by axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Pair:
    """A complex tensor as its two parts."""

    real: Any
    imag: Any


def pair(value: Any) -> Pair:
    """Give a number as a pair; a real one's imaginary part is zero."""
    return value if isinstance(value, Pair) else Pair(value, value * 0)


def basis(size: int, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the cosines and the negative sines of the Fourier transform: float32 [size, bins] each.

    Angles are reduced in whole numbers first, so that they are as exact at the end as at the beginning.
    """
    import numpy as np
    import torch

    angles = 2 * np.pi * (np.outer(np.arange(size), np.arange(bins)) % size) / size
    return tuple(torch.from_numpy(part.astype(np.float32)) for part in (np.cos(angles), -np.sin(angles)))


def _scale(length: int, norm: str | None, *, inverse: bool) -> float:
    """Give what a transform of so many points is multiplied with: PyTorch's `norm`, of which None is "backward"."""
    if norm == "ortho":
        return float(length**-0.5)
    return 1 / length if inverse == (norm != "forward") else 1.0


def _resized(part: torch.Tensor, axis: int, length: int) -> torch.Tensor:
    """Put an axis last, cut or filled with zeros to a length."""
    import torch

    part = part.movedim(axis, -1)
    missing = length - part.shape[-1]
    return torch.nn.functional.pad(part, [0, missing]) if missing else part


def transformed(
    value: Any, size: int | None = None, axis: int = -1, norm: str | None = None, *, inverse: bool = False
) -> Pair:
    """Apply the Fourier transform, or its inverse, along an axis, cut or filled with zeros to `size`."""
    real, imag = (value.real, value.imag) if isinstance(value, Pair) else (value, None)
    length = real.shape[axis] if size is None else size
    cosines, sines = (part * _scale(length, norm, inverse=inverse) for part in basis(length, length))
    if inverse:
        sines = -sines
    turned = _resized(real, axis, length)
    found = Pair(turned @ cosines, turned @ sines)
    if imag is not None:
        turned = _resized(imag, axis, length)
        found = Pair(found.real - turned @ sines, found.imag + turned @ cosines)
    return Pair(found.real.movedim(-1, axis), found.imag.movedim(-1, axis))


def half_of(value: Any, size: int | None = None, axis: int = -1, norm: str | None = None) -> Pair:
    """Apply the Fourier transform to real numbers, and give the half of it that says all."""
    length = value.shape[axis] if size is None else size
    turned = _resized(value, axis, length)
    scale = _scale(length, norm, inverse=False)
    cosines, sines = (part * scale for part in basis(length, length // 2 + 1))
    return Pair((turned @ cosines).movedim(-1, axis), (turned @ sines).movedim(-1, axis))


def from_half(value: Any, size: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """Invert `half_of`: every frequency but the first, and the last of an even size, stands for two."""
    import torch

    given = pair(value)
    length = 2 * (given.real.shape[axis] - 1) if size is None else size
    bins = length // 2 + 1
    twice = torch.full((bins, 1), 2 * _scale(length, norm, inverse=True))
    twice[0] /= 2
    if length % 2 == 0:
        twice[-1] /= 2
    cosines, sines = (part.t() * twice for part in basis(length, bins))
    real, imag = (_resized(part, axis, bins) for part in (given.real, given.imag))
    return (real @ cosines + imag @ sines).movedim(-1, axis)


def _axes(value: Any, sizes: Sequence[int] | None, axes: Sequence[int] | None) -> list[tuple[int, int | None]]:
    """List the axes of a transform over several, each with its size where one is asked for."""
    rank = (value.real if isinstance(value, Pair) else value).dim()
    if axes is None:
        axes = range(-len(sizes) if sizes is not None else -rank, 0)
    wanted = sizes if sizes is not None else [-1] * len(axes)
    return [(axis, None if size == -1 else size) for axis, size in zip(axes, wanted, strict=True)]


def _over(*, inverse: bool, last: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Make the transform over several axes, all unless told; `last` is that of real numbers along the last one.

    It begins the transform, which leaves half of the frequencies, or ends its inverse.
    """

    def apply(
        value: Any, s: Sequence[int] | None = None, dim: Sequence[int] | None = None, norm: str | None = None
    ) -> Any:
        axes = _axes(value, s, dim)
        if last is None:
            for axis, size in axes:
                value = transformed(value, size, axis, norm, inverse=inverse)
            return value
        *others, (end, length) = axes
        if not inverse:
            value = last(value, length, end, norm)
        for axis, size in others:
            value = transformed(value, size, axis, norm, inverse=inverse)
        return last(value, length, end, norm) if inverse else value

    return apply


def _two(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Make the transform over the last two axes unless told others."""
    return lambda value, s=None, dim=(-2, -1), norm=None: apply(value, s, dim, norm)


_ALL, _BACK = _over(inverse=False), _over(inverse=True)
_REAL, _REAL_BACK = _over(inverse=False, last=half_of), _over(inverse=True, last=from_half)

#: What computes each of PyTorch's transforms; arguments are named as the operators' are.
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "fft_fft": lambda value, n=None, dim=-1, norm=None: transformed(value, n, dim, norm),
    "fft_ifft": lambda value, n=None, dim=-1, norm=None: transformed(value, n, dim, norm, inverse=True),
    "fft_rfft": lambda value, n=None, dim=-1, norm=None: half_of(value, n, dim, norm),
    "fft_irfft": lambda value, n=None, dim=-1, norm=None: from_half(value, n, dim, norm),
    "fft_fft2": _two(_ALL),
    "fft_ifft2": _two(_BACK),
    "fft_rfft2": _two(_REAL),
    "fft_irfft2": _two(_REAL_BACK),
    "fft_fftn": _ALL,
    "fft_ifftn": _BACK,
    "fft_rfftn": _REAL,
    "fft_irfftn": _REAL_BACK,
}
