"""Learning what a model returns by running it: names, dtypes, shapes and free dimensions of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.errors import EdgeproofError, LoadError, UsageError
from convert.spec import BATCH, Signature, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import numpy as np

#: Sizes at which a free dimension is tried out: the first one while others vary, the second to see what follows it.
BATCH_SIZES = (2, 3)
OTHER_SIZES = (16, 24)

Run = Callable[[Mapping[str, "np.ndarray"]], dict[str, "np.ndarray"]]


def trial_sizes(signature: Signature, varied: str = "") -> dict[str, int]:
    """Give every free dimension a size that models accept, the one named `varied` its second one."""
    return {
        name: (BATCH_SIZES if name == BATCH else OTHER_SIZES)[1 if name == varied else 0] for name in signature.free
    }


def example(spec: TensorSpec, sizes: dict[str, int]) -> np.ndarray:
    """Make an array that fits `spec`: ones for floats and masks, the lowest allowed value for other integers."""
    import numpy as np

    flags = (spec.low, spec.high) == (0, 1) or spec.dtype.startswith(("float", "bool"))
    value = 1 if flags else spec.low or 0
    return np.full(spec.sized(sizes), value, dtype=spec.dtype)


def measure(run: Run, inputs: tuple[TensorSpec, ...]) -> Signature:
    """Run a model once, and once more for each free dimension, to learn its outputs.

    An output axis that follows a free dimension gets its name; one that changes in another way gets its own.
    Raises LoadError where the model does not run on inputs as `inputs` describes them.
    """
    unknown = Signature(inputs, ())
    base = _attempt(run, unknown, "")
    shapes = {name: list[int | str](array.shape) for name, array in base.items()}
    for free in unknown.free:
        size = trial_sizes(unknown, free)[free]
        for name, array in _attempt(run, unknown, free).items():
            for axis, length in enumerate(array.shape):
                if length != base[name].shape[axis]:
                    shapes[name][axis] = free if length == size else f"{name}_{axis}"
    outputs = tuple(TensorSpec(name, str(array.dtype), tuple(shapes[name])) for name, array in base.items())
    return Signature(inputs, outputs)


def measure_tied(run: Run, inputs: tuple[TensorSpec, ...]) -> Signature:
    """Measure a model, and where its free dimensions cannot vary one by one, take those of equal axes for one.

    A file leaves the lengths of `ids` and `mask` open, not that they are equal. Raises LoadError as `measure` does.
    """
    try:
        return measure(run, inputs)
    except LoadError:
        together = tied(inputs)
        if together == inputs:
            raise
        try:
            return measure(run, together)
        except LoadError:
            pass
        raise


def tied(inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Give free dimensions that several inputs have on the same axis, and nobody named, one name."""
    unnamed = [axis for spec in inputs for axis, dim in enumerate(spec.shape) if dim == f"{spec.name}_{axis}"]

    def tie(spec: TensorSpec) -> TensorSpec:
        names = tuple(
            f"axis_{axis}" if dim == f"{spec.name}_{axis}" and unnamed.count(axis) > 1 else dim
            for axis, dim in enumerate(spec.shape)
        )
        return replace(spec, shape=names)

    return tuple(map(tie, inputs))


def _attempt(run: Run, signature: Signature, varied: str) -> dict[str, np.ndarray]:
    sizes = trial_sizes(signature, varied)
    try:
        return run({spec.name: example(spec, sizes) for spec in signature.inputs})
    except EdgeproofError:
        raise
    except Exception as error:
        at = ", ".join(f"{name}={size}" for name, size in sizes.items())
        inputs = ", ".join(map(str, signature.inputs))
        raise LoadError(
            f"the model does not run on {inputs}{f' at {at}' if at else ''}: {type(error).__name__}: {summary(error)}",
            fix="correct the shapes or dtypes with --input; give a dimension that cannot vary its size",
        ) from error


def agreed(own: tuple[TensorSpec, ...], given: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Narrow the inputs a file promises by those the user gave: sizes for free dimensions, ranges for integers.

    A dimension that gets a size in one has it in the others too. Raises UsageError where they contradict each other.
    """
    by_name = {spec.name: spec for spec in given}
    unknown = [name for name in by_name if name not in {spec.name for spec in own}]
    if unknown:
        raise UsageError(
            f"the model has no input named {unknown[0]!r}", fix=f"its inputs are: {', '.join(map(str, own))}"
        )
    narrowed = []
    for spec in own:
        wanted = by_name.get(spec.name, spec)
        fits = wanted.dtype == spec.dtype and len(wanted.shape) == len(spec.shape)
        if not fits or any(not isinstance(a, str) and a != b for a, b in zip(spec.shape, wanted.shape, strict=True)):
            raise UsageError(
                f"the input '{wanted}' contradicts the model file, which says '{spec}'",
                fix=f"leave it out, or fix only free dimensions and ranges of '{spec}'",
            )
        narrowed.append(wanted)
    pairs = [
        pair for spec, wanted in zip(own, narrowed, strict=True) for pair in zip(spec.shape, wanted.shape, strict=True)
    ]
    sizes = {dim: size for dim, size in pairs if isinstance(dim, str) and isinstance(size, int)}
    return Signature(tuple(narrowed), ()).fixed(sizes).inputs
