"""Does an artifact keep the contract: names, order, dtypes, shapes and free dimensions of its source?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convert.formats import FORMATS, Facts, Foreign, Unsigned
from convert.layout import axes_to, moved
from convert.sources import SOURCES, identify
from convert.spec import NCHW, NHWC, LoadOptions, Scale, Signature, TensorSpec
from validators.runtimes import Feed
from validators.verdict import Finding, Status, Verdict

#: What an artifact may narrow: 64-bit numbers, which most device runtimes lack. It is said, and parity feeds each side
#: its own width.
NARROWER = {"int64": "int32", "float64": "float32"}

#: How an artifact's tensors are matched with its reference's.
BY_NAME = "names"
BY_POSITION = "position"
MATCHES = (BY_NAME, BY_POSITION)

PLACES_SHOWN = 3  # of a foreign operator, in a finding


@dataclass(frozen=True, slots=True)
class Inspection:
    """An artifact to read; travels to a worker."""

    format: str
    path: str
    promised: Signature  # by the source: its inputs are needed for an artifact that cannot say its own


def inspect(job: Inspection) -> Facts:
    """Read what an artifact says of itself, in a worker.

    Raises FormatError where it is damaged, LoadError where it must be run to be known and does not run.
    """
    path = Path(job.path)
    try:
        return FORMATS[job.format].read(path)
    except Unsigned:
        # A format that is a source too is loaded and measured on the inputs its reference takes.
        if job.format not in SOURCES.names():
            raise
        loaded = SOURCES[job.format].load(identify(path), LoadOptions(inputs=job.promised.inputs))
        return Facts(loaded.facts.signature, {})


@dataclass(frozen=True, slots=True)
class Binding:
    """How an artifact's tensors correspond to its reference's, in the reference's order."""

    feeds: tuple[Feed, ...]
    outputs: tuple[tuple[str, str], ...]
    fixed: tuple[tuple[str, int], ...]  # free dimensions of the reference that the artifact fixes
    scales: tuple[tuple[str, Scale], ...] = ()  # the artifact's outputs whose integers stand for floats


def judge(
    promised: Signature,
    actual: Signature,
    match: str = BY_NAME,
    *,
    foreign: tuple[Foreign, ...] = (),
    allow: tuple[str, ...] = (),
) -> tuple[Verdict, Binding | None]:
    """Compare what an artifact says of itself with what its source promises.

    Returns the verdict and, when it passed, how the tensors correspond. Free dimensions that the artifact fixes, 64-bit
    integers that it narrows, images that it takes in another layout and foreign operators of a kind in `allow` are said
    in passing findings; everything else that differs fails.
    """
    sides = (("input", promised.inputs, actual.inputs), ("output", promised.outputs, actual.outputs))
    findings: list[Finding] = list(_operators(foreign, allow))
    pairs: dict[str, list[tuple[TensorSpec, TensorSpec]]] = {"input": [], "output": []}
    for side, expected, found in sides:
        matched = list(_pair(side, expected, found, match))
        findings += [item for item in matched if isinstance(item, Finding)]
        pairs[side] = [item for item in matched if not isinstance(item, Finding)]
    fixed: dict[str, int] = {}
    for side, matched_pairs in pairs.items():
        for expected_spec, found_spec in matched_pairs:
            findings += _compare(side, expected_spec, found_spec, promised.free, fixed)
    if not findings or all(finding.status is Status.PASS for finding in findings):
        findings.append(Finding("contract", Status.PASS, _summary(promised, fixed)))
    said = [f.message for f in findings if f.status is Status.PASS and f.check != "contract"]
    verdict = Verdict.of(findings, passed="; ".join(dict.fromkeys(said)) or "the contract is kept as promised")
    if verdict.status is not Status.PASS:
        return verdict, None
    feeds = tuple(Feed(e.name, a.name, a.dtype, axes_to(e, a.layout), a.quantized) for e, a in pairs["input"])
    outputs = tuple((e.name, a.name) for e, a in pairs["output"])
    scales = tuple((a.name, a.quantized) for _, a in pairs["output"] if a.quantized is not None)
    return verdict, Binding(feeds, outputs, tuple(fixed.items()), scales)


def _pair(
    side: str, expected: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...], match: str
) -> Iterator[Finding | tuple[TensorSpec, TensorSpec]]:
    names, actual = [spec.name for spec in expected], [spec.name for spec in found]
    if len(names) != len(actual):
        yield Finding(
            f"{side}s",
            Status.FAIL,
            f"the source has {len(names)} {side}(s), {', '.join(names)}; the artifact {len(actual)}, "
            f"{', '.join(actual) or 'none'}",
        )
        return
    if match == BY_POSITION:
        if names != actual:
            renamed = ", ".join(f"{e} is {a}" for e, a in zip(names, actual, strict=True) if e != a)
            yield Finding(f"{side}s", Status.PASS, f"{side}s were matched by position: {renamed}")
        yield from zip(expected, found, strict=True)
        return
    if sorted(names) != sorted(actual):
        yield Finding(
            f"{side}s",
            Status.FAIL,
            f"the artifact's {side}s are named {', '.join(actual)}, the source's {', '.join(names)}; "
            f"when only names differ, compare with --match {BY_POSITION}",
        )
        return
    if names != actual:
        yield Finding(
            f"{side}s",
            Status.FAIL,
            f"the artifact's {side}s come in the order {', '.join(actual)}, the source's {', '.join(names)}",
        )
        return
    yield from zip(expected, found, strict=True)


def _compare(
    side: str, expected: TensorSpec, found: TensorSpec, free: tuple[str, ...], fixed: dict[str, int]
) -> Iterator[Finding]:
    """Compare dtype, rank and each axis of one tensor; collects the dimensions the artifact fixes in `fixed`."""
    name = expected.name
    if found.dtype != expected.dtype:
        if found.quantized is not None and expected.dtype.startswith("float"):
            stands = f"{found.quantized.scale:g} * (integer - {found.quantized.zero_point})"
            message = f"{name} is {found.dtype} standing for {stands}, the source's is {expected.dtype}"
            yield Finding("dtype", Status.PASS, message, name)
        elif NARROWER.get(expected.dtype) != found.dtype:
            yield Finding(
                "dtype", Status.FAIL, f"{side} {name} is {found.dtype}, the source's is {expected.dtype}", name
            )
        else:
            yield Finding("dtype", Status.PASS, f"{name} is {found.dtype}, the source's is {expected.dtype}", name)
    if axes_to(expected, found.layout):
        message = f"{name} is {found.layout.upper()}, the source's is {expected.layout.upper()}"
        yield Finding("layout", Status.PASS, message, name)
        expected = moved(expected, found.layout)
    if len(found.shape) != len(expected.shape):
        yield Finding(
            "shape",
            Status.FAIL,
            f"{side} {name} has the {len(found.shape)} axes {_shape(found)}, the source's has {_shape(expected)}",
            name,
        )
        return
    for axis, (promise, size) in enumerate(zip(expected.shape, found.shape, strict=True)):
        if promise == size:
            continue
        if isinstance(size, str):
            if isinstance(promise, int):
                yield Finding("shape", Status.PASS, f"{name} leaves axis {axis} open, the source's is {promise}", name)
            continue
        if isinstance(promise, int):
            message = f"{side} {name} has the shape {_shape(found)}, the source's is {_shape(expected)}"
            yield Finding("shape", Status.FAIL, message + _layout_hint(expected, found), name)
            return
        # A free axis that the file fixes. Inputs come first and say which dimensions are fixed to what; an output's
        # axis must follow them, and one that depends on them in its own way may be fixed when they are.
        if side == "input" and fixed.setdefault(promise, size) == size:
            yield Finding("free dimensions", Status.PASS, f"{promise} is fixed to {size}, the source's is free", name)
        elif side == "input":
            message = f"input {name} fixes {promise} to {size} on axis {axis}, another input to {fixed[promise]}"
            yield Finding("shape", Status.FAIL, message, name)
        elif fixed.get(promise, size if fixed and promise not in free else None) != size:
            message = f"output {name} has the size {size} on axis {axis}, where the source follows {promise}"
            yield Finding("shape", Status.FAIL, message, name)


def _layout_hint(expected: TensorSpec, found: TensorSpec) -> str:
    """Say which --layout makes the shapes fit, where one does."""
    for layout in (NHWC, NCHW):
        shape = moved(expected, layout).shape
        pairs = zip(shape, found.shape, strict=True)
        if shape != expected.shape and all(isinstance(a, str) or isinstance(b, str) or a == b for a, b in pairs):
            return f"; if its images are {layout.upper()}, say --layout {layout}"
    return ""


def _operators(foreign: tuple[Foreign, ...], allow: tuple[str, ...]) -> Iterator[Finding]:
    """Say which operators a stock runtime lacks, and where in the model they come from."""
    for kind in dict.fromkeys(operator.kind for operator in foreign):
        named: dict[str, list[str]] = {}
        for operator in foreign:
            if operator.kind == kind:
                named.setdefault(operator.operator, []).append(operator.where)
        words = ", ".join(f"{name} ({_places(where)})" for name, where in named.items())
        accepted = kind in allow
        message = f"it has operators a stock runtime lacks: {words}"
        yield Finding(
            "operators",
            Status.PASS if accepted else Status.FAIL,
            message if accepted else f"{message}; accept them with --allow-{kind}",
        )


def _places(where: list[str]) -> str:
    shown = ", ".join(where[:PLACES_SHOWN])
    return f"{shown} and {len(where) - PLACES_SHOWN} more" if len(where) > PLACES_SHOWN else shown


def _shape(spec: TensorSpec) -> str:
    return f"[{','.join(map(str, spec.shape))}]"


def _summary(promised: Signature, fixed: dict[str, int]) -> str:
    free = [name for name in promised.free if name not in fixed]
    dims = f", {', '.join(free)} free" if free else ""
    return f"{len(promised.inputs)} input(s) and {len(promised.outputs)} output(s) as promised{dims}"
