"""Whether a batch's rows are answered as each of them alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from convert.spec import FP32
from validators import tolerance
from validators.inputs import CaseSet
from validators.verdict import Finding, Status

if TYPE_CHECKING:
    import numpy as np

    Stored = Mapping[str, "np.ndarray"]


def rows_alone(
    native: Stored,
    actual: Stored,
    wide: Stored | None,
    cases: CaseSet,
    outputs: Sequence[tuple[str, str]],
    usable: tuple[str, ...],
    precision: str,
) -> Iterator[Finding]:
    """Compare every batch whose rows were run alone with them, on the source and on the artifact; floats only.

    An artifact whose rows change each other where its source's do not fails, beyond what a single case may err. One of
    reduced precision may: where it scales activations as they come, one scale serves the whole batch.
    """
    for batch, rows in cases.batches:
        if not {batch, *rows} <= set(usable):
            continue
        compared = 0
        for expected, found in outputs:
            own = _gap(native, expected, batch, rows)
            theirs = _gap(actual, found, batch, rows)
            if own is None or theirs is None:
                continue
            compared += 1
            limit = _limit(native, wide, expected, batch, rows)
            if own > limit:
                mixed = f"the source itself mixes the rows of a batch: {expected} of {batch} is not that of its rows"
                yield Finding("rows", Status.PASS, mixed, expected)
            elif theirs > limit:
                told = f"{expected} of {batch} is {theirs:.2g} off that of its rows run alone, bound {limit:.2g}"
                if precision == FP32:
                    yield Finding("rows", Status.FAIL, f"the artifact mixes the rows of a batch: {told}", expected)
                else:
                    yield Finding("rows", Status.PASS, f"the rows of a batch share what is quantized: {told}", expected)
        if compared:
            yield Finding("rows", Status.PASS, f"{batch} was compared with its {len(rows)} rows run alone")


def _stacked(stored: Stored, name: str, batch: str, rows: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Give an output of a batch and those of its rows put together; None where it has no axis of rows, or no floats."""
    import numpy as np

    keys = [f"{case}/{name}" for case in (batch, *rows)]
    if any(key not in stored for key in keys):
        return None
    whole, *parts = (stored[key] for key in keys)
    if whole.dtype.kind != "f" or any(part.shape != parts[0].shape for part in parts):
        return None
    pairs = enumerate(zip(whole.shape, parts[0].shape, strict=True)) if whole.ndim == parts[0].ndim else ()
    axes = [axis for axis, (many, one) in pairs if many != one]
    if len(axes) != 1 or whole.shape[axes[0]] != len(rows) * parts[0].shape[axes[0]]:
        return None
    return whole.astype(np.float64), np.concatenate(parts, axis=axes[0]).astype(np.float64)


def _gap(stored: Stored, name: str, batch: str, rows: tuple[str, ...]) -> float | None:
    """Give the rmse between a batch's answer and those of its rows; None where they cannot be compared."""
    import numpy as np

    both = _stacked(stored, name, batch, rows)
    if both is None:
        return None
    with np.errstate(invalid="ignore"):  # infinity in both, which cases compare by place
        return _rms(both[0] - both[1])


def _limit(native: Stored, wide: Stored | None, name: str, batch: str, rows: tuple[str, ...]) -> float:
    """Give the rmse that an artifact may err by on a single case: on the batch, or on its rows."""
    import numpy as np

    both = _stacked(native, name, batch, rows)
    exact = None if wide is None else _stacked(wide, name, batch, rows)
    if both is None:
        return math.inf
    size = _rms(both[0])
    if exact is None:
        return tolerance.SCALED_MAX[FP32] * size
    with np.errstate(invalid="ignore"):
        noise = max(_rms(ours - right) for ours, right in zip(both, exact, strict=True))
    return tolerance.RATIO_BOUNDS[FP32] * tolerance.CASE_FACTOR * max(noise, tolerance.FLOOR * size)


def _rms(values: np.ndarray) -> float:
    import numpy as np

    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.square(finite).mean())) if finite.size else 0.0
