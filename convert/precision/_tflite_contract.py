"""The contract of quantized TFLite files: what was promised, and what the quantizer made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convert.errors import RouteError
from convert.formats import Draft
from convert.formats.tflite import read, seal
from convert.spec import Signature, TensorSpec


def names(specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """Name what a quantizer leaves under the promised names."""
    return tuple(spec.name for spec in specs)


def sealed(path: Path, promised: Signature, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Signature:
    """Write the promise into a quantized file in place, with what its inputs and outputs became; gives that.

    `inputs` and `outputs` are the file's own names for them, or empty for a file without a signature, where positions
    tell. Raises RouteError where it lacks one.
    """
    actual = read(path).signature
    became = Signature(
        _became(promised.inputs, inputs, actual.inputs), _became(promised.outputs, outputs, actual.outputs)
    )
    seal(path, Draft(str(path), became, inputs, outputs))
    return became


def _became(
    promised: tuple[TensorSpec, ...], own: tuple[str, ...], actual: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    if not own:
        if len(actual) != len(promised):
            raise RouteError(f"the quantizer's file has {len(actual)} tensors and not {len(promised)} at its boundary")
        own = tuple(spec.name for spec in actual)
    found = {spec.name: spec for spec in actual}
    missing = [name for name in own if name not in found]
    if missing:
        raise RouteError(f"the quantizer's file has no {missing[0]!r}; it has {', '.join(found)}")
    return tuple(
        replace(spec, dtype=found[name].dtype, quantized=found[name].quantized)
        for spec, name in zip(promised, own, strict=True)
    )
