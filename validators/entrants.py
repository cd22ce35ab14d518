"""The artifacts of a comparison: what they are, what they take, and inputs that all of them can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import UsageError
from convert.formats import recognise
from convert.layout import AXES, axes_to
from convert.spec import BATCH, LoadOptions, Signature, SourceFile, TensorSpec, fingerprint
from convert.worker import Workers
from validators.inputs import OTHER_SIZES, USER_BATCH_CASE, specs_of, user_cases
from validators.kinds import Case, draw
from validators.protocol import ROTATION
from validators.runtimes import Feed, Runtime, Subject, runtime_for
from validators.structure import NARROWER, Inspection, inspect

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Entrant:
    """One artifact, as its file says, and the engine that runs it."""

    path: str
    format: str
    precision: str
    sha256: str
    file_bytes: int
    engine: str
    signature: Signature
    runtime: str

    def subject(self, threads: int) -> Subject:
        """Describe it as its engine opens it."""
        file = SourceFile(self.path, self.format, "", self.sha256, self.file_bytes)
        return Subject(file, LoadOptions(), threads=threads)


def entrant(workers: Workers, path: Path, label: str, user: Mapping[str, np.ndarray] | None = None) -> Entrant:
    """Read what an artifact says of itself, in its engine's worker.

    Raises UsageError where it is none or no engine runs it, LoadError or a WorkerError where it cannot be read.
    """
    form = recognise(path)
    plain: Runtime = runtime_for(form.name)
    # An archive without a signature of its own is measured on the user's inputs.
    job = Inspection(form.name, str(path), Signature(specs_of(user) if user else (), ()))
    facts = workers.run(f"inspect-{label}", inspect, job, plain.environment).value
    needs = tuple(sorted({operator.kind for operator in facts.foreign}))
    runtime = runtime_for(form.name, needs)
    if runtime is None:
        raise UsageError(
            f"{path} has {' and '.join(needs)} operators, which {plain.title} has no kernels for",
            fix="compare artifacts that run here",
        )
    companions = form.companions(path)
    return Entrant(
        str(path),
        form.name,
        facts.precision,
        *fingerprint(path, companions),
        runtime.title,
        facts.signature,
        runtime.name,
    )


def canonical(signature: Signature) -> tuple[TensorSpec, ...]:
    """Give the inputs that cases are made for: floats where the artifact takes integers that stand for them."""
    return tuple(
        TensorSpec(spec.name, "float32", spec.shape, layout=spec.layout) if spec.quantized else spec
        for spec in signature.inputs
    )


def matched(inputs: Sequence[TensorSpec], other: Entrant) -> list[tuple[TensorSpec, TensorSpec]]:
    """Pair inputs with those of another artifact, in its order: by name where the names are the same, else by position.

    Raises UsageError where it takes more or fewer.
    """
    theirs = other.signature.inputs
    if len(inputs) != len(theirs):
        raise UsageError(
            f"{other.path} takes {len(theirs)} input(s), {_listed(theirs)}, and the first artifact {len(inputs)}, "
            f"{_listed(inputs)}",
            fix="compare artifacts that take the same inputs",
        )
    by_name = {spec.name: spec for spec in inputs}
    if set(by_name) == {spec.name for spec in theirs}:
        return [(by_name[spec.name], spec) for spec in theirs]
    return list(zip(inputs, theirs, strict=True))


def cases_for(
    entrants: Sequence[Entrant], fixed: Mapping[str, int], user: Mapping[str, np.ndarray] | None, seed: int
) -> list[Case]:
    """Make the inputs that all artifacts are timed on: the user's rows, else seeded ones.

    Free dimensions have the size that is stated, else the one that another of the artifacts fixes, else the usual one.

    Raises UsageError where a stated dimension is not free, or the user's inputs do not fit.
    """
    inputs = canonical(entrants[0].signature)
    signature = Signature(inputs, ())
    unknown = [name for name in fixed if name not in signature.free]
    if unknown:
        free = ", ".join(signature.free) or "none"
        raise UsageError(f"--fix {unknown[0]}: the free dimensions of {entrants[0].path} are: {free}", fix="name one")
    if user is not None:
        rows, _ = user_cases(signature.fixed(dict(fixed)), user, ROTATION)
        return [case for case in rows if case.name != USER_BATCH_CASE]
    sizes = dict(fixed)
    for other in entrants[1:]:
        for ours, theirs in matched(inputs, other):
            axes = axes_to(ours, theirs.layout) or range(len(ours.shape))
            if len(axes) != len(theirs.shape):
                continue
            for axis, size in zip(axes, theirs.shape, strict=True):
                dimension = ours.shape[axis]
                if isinstance(dimension, str) and isinstance(size, int):
                    sizes.setdefault(dimension, size)
    for name in signature.free:
        sizes.setdefault(name, 1 if name == BATCH else OTHER_SIZES[0])
    return [draw(f"normal-{number}", "normal", signature, sizes, seed) for number in range(ROTATION)]


def feeds_of(first: Entrant, other: Entrant, case: Case) -> tuple[Feed, ...]:
    """Say how an artifact takes the inputs that were made for the first one.

    Raises UsageError where it takes others: other dtypes than a narrower integer, or other shapes.
    """
    feeds = []
    for ours, theirs in matched(canonical(first.signature), other):
        shape = case.arrays[ours.name].shape
        axes = _axes(ours, theirs, shape)
        narrower = theirs.dtype == NARROWER.get(ours.dtype) or ours.dtype == NARROWER.get(theirs.dtype)
        stands = theirs.quantized is not None and ours.dtype == "float32"
        if axes is None or not (ours.dtype == theirs.dtype or narrower or stands):
            raise UsageError(
                f"{other.path} takes {theirs}, and {first.path} {ours}, here with the shape {list(shape)}",
                fix="compare artifacts that take the same inputs; --fix gives free dimensions a size",
            )
        feeds.append(Feed(ours.name, theirs.name, theirs.dtype, axes, theirs.quantized))
    return tuple(feeds)


def _axes(ours: TensorSpec, theirs: TensorSpec, shape: Sequence[int]) -> tuple[int, ...] | None:
    """Give the axes of an array in the order another artifact has them, empty where as they are; None where none fits.

    NOTE: Why an order is guessed where neither file says its layout: the time does not depend on what the numbers mean.
    """
    stated = axes_to(ours, theirs.layout)
    tried: list[tuple[int, ...]] = [stated] if stated else [(), *(AXES.values() if len(shape) == 4 else ())]
    for axes in tried:
        turned = [shape[axis] for axis in axes] if axes else list(shape)
        if len(turned) == len(theirs.shape) and all(
            isinstance(size, str) or size == given for size, given in zip(theirs.shape, turned, strict=True)
        ):
            return axes
    return None


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "none"
