"""Calibration data from the user's own code: `package.module:callable`, which yields dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convert import callables
from convert.calibration import READERS, Preparation, Reader, Row, Rows
from convert.calibration._columns import Mapped, table
from convert.errors import UsageError
from convert.worker import summary

FIX = "yield dictionaries of arrays named as the model's inputs, with or without a leading batch axis"


def read(job: Preparation) -> Rows:
    """Import the callable; how much it yields only running it tells."""
    function, name = callables.find(job.origin, "--calibration")

    def rows(wanted: Sequence[int]) -> Iterator[Row]:
        # Those of `wanted` are the first ones: nothing is read that is not used.
        yield from _until(_samples(function, name, job), len(wanted))

    return Rows(None, rows)


def _until(samples: Iterator[Row], most: int) -> Iterator[Row]:
    for _, sample in zip(range(most), samples, strict=False):
        yield sample


def _samples(function: Any, name: str, job: Preparation) -> Iterator[Row]:
    """Cut everything that the callable yields into rows."""
    import numpy as np

    iterator = _called(name, lambda: iter(function()))
    end = object()
    number = 0
    while (sample := _called(name, lambda: next(iterator, end))) is not end:
        where = f"what {name} yields, number {number}"
        if not isinstance(sample, Mapping):
            raise UsageError(f"--calibration: {where}, is a {type(sample).__name__}, no dictionary", fix=FIX)
        arrays = {str(key): Mapped(_called(name, lambda it=value: np.asarray(it))) for key, value in sample.items()}
        found = table(where, arrays, job.signature)
        yield from found.read(range(found.count))
        number += 1


def _called(name: str, step: Any) -> Any:
    """Run a step of the user's code."""
    try:
        return step()
    except Exception as error:
        raise UsageError(
            f"--calibration: {name}() failed: {type(error).__name__}: {summary(error)}",
            fix=f"correct it until list({name}()) works by itself; {FIX}",
        ) from error


READERS.register(Reader("callable", "your own callable", callables.looks_like_one, read))
