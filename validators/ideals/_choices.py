"""Which integers an ideal takes for the weights: those its artifact holds, where a quantizer may have chosen them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validators import tolerance

if TYPE_CHECKING:
    import numpy as np


def chosen(exact: np.ndarray, stored: np.ndarray, zero: np.ndarray, axis: int | None) -> np.ndarray:
    """Give, channel by channel, the stored integers where they are roundings of the exact levels, else the nearest.

    `exact` are levels that are no integers yet, float64, `zero` the zero points in a shape that broadcasts to them, and
    channels lie along `axis`, or are all one. Quantizers may round to either side: to errors that cancel in the layer's
    answers, say. All of a channel must be within a step, and must not be larger or smaller as a whole than they should.
    """
    import numpy as np

    if exact.shape != stored.shape or not exact.size:
        return np.asarray(np.rint(exact))
    channels = (exact.shape[axis], -1) if axis is not None else (1, -1)
    first = 0 if axis is None else axis
    off, size = (
        np.moveaxis(np.asarray(side, np.float64), first, 0).reshape(channels)
        if exact.ndim
        else np.asarray(side, np.float64).reshape(1, 1)
        for side in (stored - exact, exact - zero)
    )
    drift = np.abs((off * size).sum(1)) <= tolerance.ROUNDING_DRIFT * np.sqrt(np.square(size).sum(1))
    able = (np.abs(off) < 1).all(1) & drift
    shape = [1] * exact.ndim
    if axis is not None:
        shape[axis] = -1
    found: np.ndarray = np.where(able.reshape(shape), stored, np.rint(exact))
    return found
