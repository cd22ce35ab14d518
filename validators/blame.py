"""Which layer makes an artifact wrong: both runs tapped, and their tensors compared along the graph."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import EdgeproofError, LoadError, UnknownName, UsageError, WorkerError
from convert.formats import recognise
from convert.sources import SOURCES, identify
from convert.spec import (
    FOREIGN,
    FP32,
    KEEP,
    LAYOUTS,
    Artifact,
    LoadOptions,
    Signature,
    SourceFile,
    check_run,
    fingerprint,
    sizes_from,
    specs_from,
)
from convert.worker import Workers, limits_of
from validators import divergence, rounding
from validators.divergence import Alone, Blame, Point, Series
from validators.examine import seen_as_file
from validators.ideals import Building
from validators.inputs import read_user_file, specs_of
from validators.prove import Baseline, Proof, first_cases, load_source, prove, run_source
from validators.runtimes import Subject
from validators.structure import BY_NAME, MATCHES, Binding
from validators.taps import TAPS, Isolation, Stepping, Tapped, Tapping, isolate, series, step, tap, tap_for, tap_of
from validators.verdict import Status

if TYPE_CHECKING:
    import numpy as np

#: Cases on which everything is looked at: the ones the artifact errs most on, for their number.
CASES = 3

#: What each tapped run may take on disk and in memory; fewer cases are looked at where a single one takes more.
MOST_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the artifact beside the source's: a place on the error curve.

    `error` is rmse over the source's rms, `ratio` how many times what is usual there.
    """

    tensor: str
    operator: str
    reference: str
    layer: str
    error: float
    ratio: float
    matched_by: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The guilty operator alone, in a file; `error` is what it errs there, from the artifact's own inputs."""

    artifact: str
    inputs: str
    expected: str
    operators: tuple[str, ...]
    error: float


@dataclass(frozen=True, slots=True)
class Guilt:
    """The layer that introduces error: in the artifact's words, and in its source's."""

    operator: str
    tensor: str
    layer: str  # module path or layer name, empty where nothing tells it
    reference: str  # the source's operator
    line: str
    layers: tuple[str, ...]  # all of the source between what goes in, which is right, and what comes out
    or_before: tuple[str, ...]  # operators of the artifact before it of which nothing is known
    error_before: float
    error_after: float
    error_alone: float | None  # of the operator given the artifact's own numbers, where that is known
    ratio: float
    bound: float


@dataclass(frozen=True, slots=True)
class Report:
    """What blaming gave; `guilty` is None where nothing is to blame, or it could not be told, as `reason` says."""

    artifact: str
    reference: str
    status: Status  # of the artifact
    reason: str
    guilty: Guilt | None = None
    curve: tuple[Entry, ...] = ()
    cases: tuple[str, ...] = ()
    basis: str = ""
    taps: tuple[str, ...] = ()
    reproduction: Reproduction | None = None
    reproduction_reason: str = ""

    @property
    def exit_code(self) -> int:
        """0 where the artifact passes, 1 otherwise."""
        return 0 if self.status is Status.PASS else 1


def blame(
    artifact: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "",
    match: str = BY_NAME,
    architecture: str = "",
    input: str | Iterable[str] = (),  # noqa: A002  named as the option
    inputs: str | os.PathLike[str] = "",
    trust: bool = False,
    seed: int = 0,
    timeout_seconds: float = 1800.0,
    memory_bytes: int = 0,
    signature: str = "",
    fix: Iterable[str] = (),
    layout: str = KEEP,
    allow: Iterable[str] = (),
    base: str | os.PathLike[str] = "",
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Name the first layer of an artifact that introduces error, where the artifact does not pass.

    Args:
        artifact: path of a TFLite, ONNX or TorchScript file; it is only read.
        reference: path of the model file or folder it was made from.
        out: folder for the guilty operator in a file of its own, with inputs and expected outputs; empty: not written.
        match, architecture, input, inputs, trust, seed, timeout_seconds, memory_bytes, signature, fix, layout, allow,
            base, say: as in `validators.validate`.

    Raises:
        UsageError: the request or its input cannot be honoured.
        LoadError: the reference's framework cannot load it.
        WorkerError: the process that loads or runs the reference failed.
    """
    if match not in MATCHES:
        raise UnknownName.among("way to match", match, MATCHES)
    check_run(seed, (1,), timeout_seconds, memory_bytes)
    fix, allow = tuple(fix), tuple(allow)
    for noun, names, known in (("layout", (layout,), LAYOUTS), ("kind of operators", allow, FOREIGN)):
        for name in names:
            if name not in known:
                raise UnknownName.among(noun, name, known)
    path = Path(artifact)
    form = recognise(path)
    tapped = [name for item in TAPS for name in item.formats]
    if form.name not in tapped:
        raise UsageError(
            f"{path} is {form.title}, of which the inner tensors cannot be read",
            fix=f"blame an artifact of the same source in one of: {', '.join(sorted(tapped))}",
        )
    if base and (found := recognise(Path(base))).name != form.name:
        raise UsageError(f"--base {base} is {found.title}, and {path} is {form.title}", fix="give one of its format")
    source = identify(Path(reference))
    family = SOURCES[source.kind].family.name
    if family not in (name for item in TAPS for name in item.families):
        raise UsageError(
            f"{source.path} is {source.detail}, of which the inner tensors cannot be read",
            fix="give the model it was made from",
        )
    place = Path(out) if out else None
    if place is not None and place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"--out {place} is not empty", fix="give a new folder")
    specs = (input,) if isinstance(input, str) else tuple(input)
    user = read_user_file(Path(inputs)) if inputs else None
    options = LoadOptions(
        architecture, specs_from(specs), specs_of(user) if user else (), trust, signature, sizes_from(fix)
    )
    companions = form.companions(path)
    made = Artifact(str(path), form.name, "", Signature((), ()), *fingerprint(path, companions))
    with _scratch() as stages, Workers(stages, limits_of(timeout_seconds, memory_bytes)) as workers:
        say(f"loading {source.path}: {source.detail}")
        workers.warm(tap_for(form.name).environment)
        facts, _ = load_source(workers, source, options)
        say("running the reference")
        cases = first_cases(workers, facts.signature, seed=seed, user=user)
        baseline = run_source(workers, source, options, facts.signature, cases)
        say(f"running {path}")
        proof = prove(workers, baseline, made, form.name, match=match, allow=allow, layout=layout, base=str(base))
        attempt = proof.attempt("given", "made elsewhere", made)
        plain = Report(str(path), source.path, attempt.status, attempt.reason)
        if attempt.status is Status.PASS:
            return plain
        if proof.binding is None or proof.facts is None:
            return dataclasses.replace(plain, reason=f"no layer can be blamed: {attempt.reason}")
        made = dataclasses.replace(made, precision=proof.facts.precision)
        trial = _Trial(workers, baseline, source, options, family, made, proof.binding, str(base))
        try:
            return trial.run(plain, _worst_cases(baseline, proof), place, say)
        except LoadError as error:
            return dataclasses.replace(plain, reason=f"no layer can be blamed: {error.message}")


@dataclass(frozen=True, slots=True)
class _Trial:
    """One artifact that does not pass, and what it is held against."""

    workers: Workers
    baseline: Baseline
    source: SourceFile
    options: LoadOptions
    family: str
    artifact: Artifact
    binding: Binding
    base: str = ""  # the float artifact it was quantized from

    def run(self, report: Report, cases: tuple[str, ...], place: Path | None, say: Callable[[str], None]) -> Report:
        """Tap both sides, and name the layer; raises LoadError where either cannot be tapped."""
        say(f"looking at every tensor on {', '.join(cases)}")
        actual = self._artifact(cases)
        wide, narrow = self._source(actual.cases)
        common = tuple(case for case in actual.cases if case in wide.cases and (narrow is None or case in narrow.cases))
        if not common:
            raise LoadError("on each case other operators run than on the first")
        mine = self._bound(series(actual, common))
        exact = series(wide, common)
        native = series(narrow, common) if narrow is not None else None
        native = None if native is None else _aligned(native, exact)
        say("comparing them")
        taps: tuple[str, ...] = (f"artifact: {actual.how}", f"source: {wide.how}")
        alone, judged_by = self._alone(actual, common, say)
        taps += (judged_by,) if judged_by else ()
        found = divergence.blame_alone(mine, exact, alone, self.artifact.precision) if alone is not None else None
        if found is None or (found.guilty is None and not self.base):
            # NOTE: Why: without the float file it was made from, wrong weights are wrong in the ideal too.
            found = divergence.blame(mine, exact, native, self.artifact.precision)
        if actual.changed:
            taps = (*taps, f"tapping changed the artifact's output {actual.changed}: its curve is of the tapped run")
        report = dataclasses.replace(
            report,
            curve=tuple(_entry(point, mine, exact) for point in found.points if mine.values[point.position].operator),
            cases=common,
            basis="the source in float64" if self.baseline.outputs.oracle else "the source at its own precision",
            taps=taps,
        )
        if found.guilty is None:
            return dataclasses.replace(
                report,
                reason=f"no single layer introduces the error, which grows along the graph: {report.reason}",
            )
        report = dataclasses.replace(report, guilty=_guilt(found, mine, exact))
        if place is None:
            return report
        say("cutting the operator out")
        try:
            expected = _expected(found.guilty, exact, alone)
            return dataclasses.replace(report, reproduction=self._isolated(found.guilty, expected, common, place))
        except EdgeproofError as error:
            return dataclasses.replace(report, reproduction_reason=error.message)

    def _artifact(self, cases: tuple[str, ...]) -> Tapped:
        item = tap_for(self.artifact.format)
        job = Tapping(
            item.name,
            Subject(seen_as_file(self.artifact)),
            self.baseline.cases.path,
            str(self.workers.folder / "tap-artifact.npz"),
            cases,
            self.binding.feeds,
            MOST_BYTES,
        )
        return self.workers.run("tap-artifact", tap, job, item.environment).value

    def _source(self, cases: tuple[str, ...]) -> tuple[Tapped, Tapped | None]:
        """Tap the source in float64 and at its own precision; at that alone where it has no other."""
        item = tap_of(self.family)

        def run(stage: str, dtype: str) -> Tapped:
            out = str(self.workers.folder / f"{stage}.npz")
            job = Tapping(
                item.name,
                Subject(self.source, self.options, dtype),
                self.baseline.cases.path,
                out,
                cases,
                (),
                MOST_BYTES,
            )
            return self.workers.run(stage, tap, job, item.environment).value

        native = run("tap-source", "")
        if self.baseline.outputs.oracle is None:
            return native, None
        return run("tap-oracle", rounding.ORACLE), native

    def _bound(self, found: Series) -> Series:
        """Give an artifact's series with the source's names for its outputs."""
        names = {theirs: ours for ours, theirs in self.binding.outputs}
        return dataclasses.replace(found, outputs=tuple((names.get(name, name), at) for name, at in found.outputs))

    def _alone(self, actual: Tapped, cases: tuple[str, ...], say: Callable[[str], None]) -> tuple[Alone | None, str]:
        """Have the ideal of a reduced artifact compute every operator from the artifact's own numbers, and say how.

        None where the artifact is not reduced, or why that cannot be done.
        """
        import numpy as np

        item = tap_for(self.artifact.format)
        if self.artifact.precision == FP32 or item.step is None:
            return None, ""
        say("computing every operator from the artifact's own numbers")
        folder = self.workers.folder
        building = Building(
            self.artifact.format,
            self.artifact.precision,
            self.base,
            self.artifact.path,
            str(folder / "step" / Path(self.artifact.path).name),
        )
        names = tuple(value.name for value in actual.values)
        out = str(folder / "step.npz")
        job = Stepping(
            item.name, building, names, actual.path, self.baseline.cases.path, out, cases, self.binding.feeds
        )
        try:
            done = self.workers.run("step", step, job, item.environment).value
        except LoadError as error:
            return None, f"no operator is held against its ideal: {error.message}"
        with np.load(done.path) as arrays:
            answers = {at: [arrays[f"{case}/{at}"] for case in cases] for at in done.positions}
        how = "every operator is held against what its ideal makes of the artifact's own numbers"
        return Alone(answers, dict(zip(done.positions, done.steps, strict=True))), "; ".join((how, *done.notes))

    def _isolated(
        self, point: Point, arrays: Sequence[np.ndarray] | None, cases: tuple[str, ...], place: Path
    ) -> Reproduction:
        import numpy as np

        item = tap_for(self.artifact.format)
        partial = place.with_name(f".{place.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            job = Isolation(
                item.name,
                Subject(seen_as_file(self.artifact)),
                point.position,
                self.baseline.cases.path,
                cases[0],
                str(partial),
                self.binding.feeds,
            )
            cut = self.workers.run("isolate", isolate, job, item.environment).value
            answer = np.load(cut.answer)
            if arrays is None:
                raise LoadError("the source's answer is unknown")
            expected = _laid_out_as(arrays[0], answer, point)
            np.save(partial / "expected.npy", expected)
            error = divergence.error_of([answer], [expected], tuple(range(answer.ndim)))
            if place.exists():
                place.rmdir()
            partial.replace(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        artifact, fed = (str(place / Path(name).name) for name in (cut.path, cut.inputs))
        return Reproduction(artifact, fed, str(place / "expected.npy"), cut.operators, error)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder for jobs and arrays, which are many; it stays only where a process failed that may be repeated."""
    place = Path(tempfile.mkdtemp(prefix="edgeproof-blame-"))
    kept = False
    try:
        yield place
    except WorkerError:
        kept = True
        raise
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)


def _worst_cases(baseline: Baseline, proof: Proof) -> tuple[str, ...]:
    """Choose the cases on which the artifact errs most, the one that the verdict names first, then natural ones."""
    named = [output.worst.case for output in proof.parity.outputs if output.worst and output.status is not Status.PASS]
    usable = baseline.cases.fitting(dict(proof.binding.fixed)) if proof.binding else ()
    natural = [case for case in baseline.cases.evaluation if case in usable]
    first = [case for case in natural if case.startswith(("normal", "uniform", "user"))]
    kept = [case for case in dict.fromkeys((*named, *first, *natural, *usable)) if case in usable]
    return tuple(kept[:CASES])


def _aligned(native: Series, exact: Series) -> Series:
    """Bring a run's tensors into the order of another's of the same model; float32 may take other kernels."""
    places: dict[tuple[object, ...], int] = {}

    def keys(found: Series) -> list[tuple[object, ...]]:
        counts: dict[tuple[object, ...], int] = {}
        named = []
        for value in found.values:
            key = (value.operator, value.layers) if value.operator else (value.name,)
            counts[key] = counts.get(key, -1) + 1
            named.append((*key, counts[key]))
        return named

    places = {key: at for at, key in enumerate(keys(native))}
    arrays = []
    for key, theirs in zip(keys(exact), exact.arrays, strict=True):
        own = native.arrays[places[key]] if key in places else None
        fits = own is not None and theirs is not None and [a.shape for a in own] == [a.shape for a in theirs]
        arrays.append(own if fits else None)
    return Series(exact.values, arrays, exact.outputs)


def _expected(point: Point, exact: Series, alone: Alone | None) -> Sequence[np.ndarray] | None:
    """Give what the guilty operator should have answered: to its own inputs where that is known, else in the source."""
    if point.alone is not None and alone is not None:
        return alone.answers[point.position]
    return exact.arrays[point.reference]


def _laid_out_as(expected: np.ndarray, answer: np.ndarray, point: Point) -> np.ndarray:
    """Give the source's array with its axes in the artifact's order."""
    import numpy as np

    squeezed = np.squeeze(expected)
    if point.alone is None and point.axes and len(point.axes) == squeezed.ndim:
        squeezed = squeezed.transpose(np.argsort(point.axes))
    return squeezed.reshape(answer.shape)


def _layer(found: Series, at: int) -> str:
    return next(iter(found.values[at].layers), "")


def _entry(point: Point, mine: Series, exact: Series) -> Entry:
    value, other = mine.values[point.position], exact.values[point.reference]
    return Entry(
        value.name, value.operator, other.name, _layer(exact, point.reference), point.error, point.ratio, point.by
    )


def _guilt(found: Blame, mine: Series, exact: Series) -> Guilt:
    point = found.guilty
    if point is None:
        raise ValueError("nothing was found guilty")
    value, other = mine.values[point.position], exact.values[point.reference]
    layers = [_layer(exact, at) or exact.values[at].name for at in found.between]
    return Guilt(
        value.operator,
        value.name,
        _layer(exact, point.reference),
        other.name,
        value.line or other.line,
        tuple(dict.fromkeys(layers)),
        tuple(f"{mine.values[at].operator} {mine.values[at].name}" for at in found.through),
        found.before,
        point.error,
        point.alone,
        point.ratio,
        found.bound,
    )
