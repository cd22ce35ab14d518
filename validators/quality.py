"""How good is a reduced artifact beside its source? Judged on the rows that resemble what it will be used on.

With right answers (`--labels`) or a metric of the user's (`--metric`) the metric decides, on the lower bound of what
the rows prove. Without, the power of the error against that of the signal, and whether top answers stay the same where
the source itself is sure of them. See `tolerance.py` for the thresholds and their reasons. That the artifact computes
rightly is another question: see `parity`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convert.callables import FORM
from convert.errors import UsageError
from convert.spec import FP32, QualityGate
from convert.worker import Environment, Workers
from validators import tolerance
from validators.confidence import upper_share
from validators.inputs import GENERATED, CaseSet
from validators.metric import MetricQuality, Scoring, joined, measure, read_labels
from validators.parity import Reference
from validators.runtimes import Outputs
from validators.scores import TITLES, Answers
from validators.structure import Binding
from validators.verdict import Status

if TYPE_CHECKING:
    import numpy as np

Stored = Mapping[str, "np.ndarray"]

#: The worker that runs a metric of the user's.
ENVIRONMENT = Environment("metric", ("numpy",))

#: Shares that differ by less are equal.
ROUNDING = 1e-9

#: What makes rows no proof of agreement.
NOT_REAL = "generated inputs, on which top answers are not judged"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the top answer of an output is the source's, over rows on which the source's own noise cannot flip it.

    `at_most` bounds the share of changed answers at 95 % confidence. `judged` says whether a threshold was held against
    it; `why_not` gives the reason where none was.
    """

    rows: int
    flips: int
    share: float
    at_most: float
    judged: bool
    why_not: str = ""

    def __str__(self) -> str:
        return f"{self.flips} flips in {self.rows} is at most {self.at_most:.1%} at {tolerance.CONFIDENCE:.0%}"


@dataclass(frozen=True, slots=True)
class OutputQuality:
    """How one output compares with the source's over the rows quality is judged on.

    `sqnr_db` is 10 log10 of the signal's power over the error's, None where there is no error or no signal; `worst_db`
    that of the worst single case, `worst_case`.
    """

    name: str
    status: Status
    reason: str
    basis: str  # what the error is measured against: float64 or the source at its own precision
    elements: int
    sqnr_db: float | None = None
    worst_db: float | None = None
    worst_case: str = ""
    agreement: Agreement | None = None
    broken: bool = False  # whether it is no answer that could be compared


@dataclass(frozen=True, slots=True)
class Quality:
    """What judging the quality of one artifact gave, and the thresholds it was held against; None: not judged.

    `sqnr_db` is the worst output's, None where nothing was lost; `agreement` the least share of equal top answers among
    the outputs judged by it, None where none was.
    """

    status: Status
    reason: str
    data: str  # what it was judged on, for people
    cases: int
    sqnr_db: float | None = None
    agreement: float | None = None
    outputs: tuple[OutputQuality, ...] = ()
    min_sqnr_db: float | None = None
    min_agreement: float | None = None
    metric: MetricQuality | None = None
    max_accuracy_drop: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the outputs are held against; None where something is told and not judged."""

    sqnr_db: float | None
    agreement: float | None
    free_flips: int  # that never fail alone
    any_rows: bool  # whether agreement is judged however few the rows and whatever the output looks like


def thresholds(precision: str, gate: QualityGate) -> Thresholds:
    """Give what outputs are held against: what the user stated, else the precision's, else nothing beside a metric."""
    by_metric = bool(gate.labels or gate.metric)
    sqnr = gate.min_sqnr_db
    agreement = gate.min_agreement
    stated = agreement is not None
    if not by_metric:
        sqnr = tolerance.MIN_SQNR_DB.get(precision) if sqnr is None else sqnr
        agreement = tolerance.MIN_AGREEMENT if agreement is None else agreement
    return Thresholds(sqnr, agreement, 0 if stated else tolerance.FREE_FLIPS, stated)


def judge(
    reference: Reference, artifact: Outputs, cases: CaseSet, binding: Binding, precision: str, gate: QualityGate
) -> Quality:
    """Judge the quality of a reduced artifact that ran on all cases it can.

    FAIL where an output, or the metric, keeps too little; NOT_RUN where nothing could be judged. A metric of the user's
    is imported: see `assess`. Raises UsageError for labels or a metric that do not fit.
    """
    fitting = set(cases.fitting(dict(binding.fixed)))
    usable = tuple(case for case in cases.evaluation if case in fitting)
    refused = _refusal(reference, artifact, usable, binding)
    if refused is not None:
        return Quality(refused[0], refused[1], cases.data, len(usable))
    import numpy as np

    if (gate.labels or gate.metric) and not cases.rows:
        option = "--labels" if gate.labels else "--metric"
        raise UsageError(
            f"{option} needs real inputs to score", fix="add the rows it belongs to with --inputs FILE.npz"
        )
    limits = thresholds(precision, gate)
    real = cases.data != GENERATED
    oracle = reference.oracle.path if reference.oracle else reference.native.path
    with np.load(reference.native.path) as native, np.load(artifact.path) as actual, np.load(oracle) as wide:
        outputs = tuple(
            _output(
                _Series(expected, found, usable, native, wide, actual, exact=reference.oracle is not None),
                limits,
                real=real,
            )
            for expected, found in binding.outputs
        )
        scored = (gate.labels or gate.metric) and not any(output.broken for output in outputs)
        answers = _answers(usable, native, actual, binding) if scored else None
    shares = [output.agreement.share for output in outputs if output.agreement and output.agreement.judged]
    found = Quality(
        Status.NOT_RUN,
        "; ".join(f"{output.name}: {output.reason}" for output in outputs) or "there is no output to judge",
        cases.data,
        len(usable),
        min((output.sqnr_db for output in outputs if output.sqnr_db is not None), default=None),
        min(shares, default=None),
        outputs,
        limits.sqnr_db,
        limits.agreement,
        notes=_notes(outputs),
    )
    verdicts = [(output.status, f"{output.name}: {output.reason}") for output in outputs]
    if answers is not None:
        found, verdict = _by_metric(found, answers, cases, usable, gate)
        verdicts.append(verdict)
    verdicts = [verdict for verdict in verdicts if verdict[0] is not Status.NOT_RUN]
    if not verdicts:
        return found
    status = Status.worst(status for status, _ in verdicts)
    words = "; ".join(reason for each, reason in verdicts if each is status)
    return replace(found, status=status, reason=f"quantization loss: {words}" if status is Status.FAIL else words)


def _answers(usable: Sequence[str], native: Stored, actual: Stored, binding: Binding) -> tuple[Answers, Answers]:
    """Join the answers of all rows, the source's and the artifact's, under the source's names."""
    source = {e: joined(e, [native[f"{case}/{e}"] for case in usable]) for e, _ in binding.outputs}
    artifact = {e: joined(e, [actual[f"{case}/{found}"] for case in usable]) for e, found in binding.outputs}
    return source, artifact


def _by_metric(
    found: Quality, answers: tuple[Answers, Answers], cases: CaseSet, usable: Sequence[str], gate: QualityGate
) -> tuple[Quality, tuple[Status, str]]:
    """Hold the task's metric against what may be lost of it."""
    rows = [int(case.rpartition("-")[2]) for case in usable]
    metric = measure(answers[0], answers[1], Scoring(gate.labels, gate.metric, cases.rows, tuple(rows)))
    drop = tolerance.MAX_ACCURACY_DROP if gate.max_accuracy_drop is None else gate.max_accuracy_drop
    status = Status.PASS if metric.kept_at_least >= 1 - drop - ROUNDING else Status.FAIL
    return replace(found, metric=metric, max_accuracy_drop=drop), (status, f"{metric}, at least {1 - drop:.1%} wanted")


@dataclass(frozen=True, slots=True)
class Judging:
    """The quality of one artifact to judge; travels to a worker where the user's own code is needed."""

    reference: Reference
    artifact: Outputs
    cases: CaseSet
    binding: Binding
    precision: str
    gate: QualityGate


def perform(job: Judging) -> Quality:
    """Judge the quality of an artifact, in a worker."""
    return judge(job.reference, job.artifact, job.cases, job.binding, job.precision, job.gate)


def assess(
    workers: Workers,
    reference: Reference,
    artifact: Outputs,
    cases: CaseSet,
    binding: Binding,
    precision: str,
    gate: QualityGate,
    label: str,
) -> Quality:
    """Judge the quality of an artifact: here, or in a worker where a metric of the user's is to be imported.

    Raises what `judge` raises, or a WorkerError where the user's metric ends its process.
    """
    job = Judging(reference, artifact, cases, binding, precision, gate)
    return workers.run(f"metric-{label}", perform, job, ENVIRONMENT).value if ":" in gate.metric else perform(job)


def check_gate(gate: QualityGate, *, inputs: bool) -> None:
    """Raise UsageError, before anything is made, for a gate that cannot be meant; runs nobody's code.

    `inputs` says whether the user gave an inputs file, to whose rows labels belong.
    """
    for option, share in (("--min-agreement", gate.min_agreement), ("--max-accuracy-drop", gate.max_accuracy_drop)):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"{option} {share:g} is no share", fix="give a number from 0 to 1, such as 0.99 or 0.01")
    if gate.min_sqnr_db is not None and not math.isfinite(gate.min_sqnr_db):
        raise UsageError(f"--min-sqnr-db {gate.min_sqnr_db:g} is no threshold", fix="give decibels, such as 20")
    if gate.max_accuracy_drop is not None and not (gate.labels or gate.metric):
        raise UsageError("--max-accuracy-drop has no metric to judge", fix="add --labels FILE, or leave it out")
    if gate.labels and not inputs:
        raise UsageError(
            "--labels are right answers to rows of --inputs, and none are given", fix="add --inputs FILE.npz"
        )
    if gate.labels:
        read_labels(Path(gate.labels))
    if gate.metric and ":" not in gate.metric and gate.metric not in TITLES:
        fix = f"name one of {', '.join(TITLES)}, or write a callable as {FORM}"
        raise UsageError(f"cannot read --metric {gate.metric!r}", fix=fix)


def rehearse(workers: Workers, reference: Reference, cases: CaseSet, gate: QualityGate) -> None:
    """Score the source's answers alone, so that labels and metrics that do not fit show before anything is made.

    Raises what `assess` raises; does nothing without labels and metric.
    """
    if gate.labels or gate.metric:
        same = Binding((), tuple((name, name) for name in reference.native.names), ())
        assess(workers, reference, reference.native, cases, same, FP32, gate, "source")


def _refusal(
    reference: Reference, artifact: Outputs, usable: Sequence[str], binding: Binding
) -> tuple[Status, str] | None:
    """Say why nothing can be judged at all."""
    if not usable:
        sizes = ", ".join(f"{name}={size}" for name, size in binding.fixed)
        where = f" at the sizes the artifact is fixed to ({sizes})" if sizes else ""
        return Status.NOT_RUN, f"there are no rows to judge quality on{where}"
    for outputs, status, who in (
        (reference.native, Status.NOT_RUN, "the source itself"),
        (artifact, Status.FAIL, "the artifact"),
    ):
        failed = [(case, why) for case, why in outputs.failures if case in usable]
        if failed:
            return status, f"{who} fails on case {failed[0][0]}: {failed[0][1]}"
    return None


def _notes(outputs: Sequence[OutputQuality]) -> tuple[str, ...]:
    """Say what agreement was measured and not judged."""
    return tuple(
        f"{output.name}: {output.agreement}; not judged: {output.agreement.why_not}"
        for output in outputs
        if output.agreement is not None and not output.agreement.judged and output.agreement.rows
    )


@dataclass(frozen=True, slots=True)
class _Series:
    """One output over all rows: the source's at its own precision, in float64 where it runs, and the artifact's."""

    expected: str
    found: str
    cases: tuple[str, ...]
    native: Stored
    wide: Stored
    actual: Stored
    exact: bool

    @property
    def basis(self) -> str:
        return "float64" if self.exact else "the source at its own precision"

    def row(self, case: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Give one case: what is right, what the source says, and what the artifact says, None where it is missing."""
        key = f"{case}/{self.expected}"
        return self.wide[key], self.native[key], self.actual.get(f"{case}/{self.found}")


@dataclass(slots=True)
class _Tally:
    """Running sums over the rows of one output."""

    elements: int = 0
    signal: float = 0.0
    error: float = 0.0
    worst: tuple[float, str] = (math.inf, "")
    rows: int = 0
    flips: int = 0
    leads: list[float] = field(default_factory=list)  # of the top answers, in spreads of their rows
    changed: int = 0  # integers that differ
    wrong: str = ""  # what makes the output no answer at all


def _output(series: _Series, limits: Thresholds, *, real: bool) -> OutputQuality:
    """Compare and judge one output."""
    tally = _Tally()
    floats = scores = whole = False
    for case in series.cases:
        basis, native, actual = series.row(case)
        floats = basis.dtype.kind == "f"
        tally.wrong = tally.wrong or _unusable(basis, actual, case)
        if actual is None or tally.wrong:
            break
        scores = floats and basis.ndim > 1 and basis.shape[-1] > 1
        whole = basis.ndim == 2 if floats else basis.size == (basis.shape[0] if basis.ndim else 1)
        if floats:
            _add(tally, case, basis, actual)
        else:
            tally.elements += basis.size
            tally.changed += int((basis != actual).sum())
        if scores:
            _compare_tops(tally, basis, native, actual, exact=series.exact)
    if tally.wrong:
        return OutputQuality(series.expected, Status.FAIL, tally.wrong, series.basis, tally.elements, broken=True)
    agreement = None
    if scores:
        agreement = _agreement(tally.rows, tally.flips, _why_not(tally, limits, real=real, whole=whole))
    elif not floats:
        agreement = _agreement(tally.elements, tally.changed, _why_not_equal(tally, limits, real=real, whole=whole))
    return _judged(series, tally, agreement, limits, floats=floats)


def _unusable(basis: np.ndarray, actual: np.ndarray | None, case: str) -> str:
    """Say why an answer cannot be compared with the source's; that NaN are in the source's places, parity looks at."""
    import numpy as np

    if actual is None:
        return f"is missing on case {case}"
    if actual.shape != basis.shape:
        return f"has the shape {list(actual.shape)} on case {case}, expected {list(basis.shape)}"
    if actual.dtype.kind != basis.dtype.kind and "f" in (actual.dtype.kind, basis.dtype.kind):
        return f"is {actual.dtype} on case {case}, expected {basis.dtype}"
    if basis.dtype.kind == "f" and not np.isfinite(actual[np.isfinite(basis)]).all():
        return f"is not finite on case {case}, where the source is"
    return ""


def _add(tally: _Tally, case: str, basis: np.ndarray, actual: np.ndarray) -> None:
    """Add one case's error and signal to the sums."""
    import numpy as np

    finite = np.isfinite(basis) & np.isfinite(actual)
    want, have = (np.where(finite, array, 0).astype(np.float64) for array in (basis, actual))
    signal, error = float(np.square(want).sum()), float(np.square(have - want).sum())
    tally.elements += int(finite.sum())
    tally.signal += signal
    tally.error += error
    if signal and error:
        tally.worst = min(tally.worst, (decibels(signal, error), case))


def _compare_tops(tally: _Tally, basis: np.ndarray, native: np.ndarray, actual: np.ndarray, *, exact: bool) -> None:
    """Compare the top answers of all rows on which the source's lead exceeds what its own rounding can move."""
    import numpy as np

    want, own, have = (array.reshape(-1, array.shape[-1]).astype(np.float64) for array in (basis, native, actual))
    finite = np.isfinite(want).all(axis=1) & np.isfinite(own).all(axis=1)
    want, own, have = want[finite], own[finite], have[finite]
    top = np.partition(want, -2, axis=1)[:, -2:]
    lead = top[:, 1] - top[:, 0]
    # Both the first and the second may move, towards each other. Without an oracle the usual tolerance stands in.
    noise = 2 * np.abs(own - want).max(axis=1) if exact else tolerance.SCALED_MAX["fp32"] * np.abs(want).max(axis=1)
    sure = lead > noise
    spread = want.std(axis=1)
    tally.rows += int(sure.sum())
    tally.flips += int((want.argmax(1) != have.argmax(1))[sure].sum())
    tally.leads += (lead[spread > 0] / spread[spread > 0]).tolist()


def _why_not(tally: _Tally, limits: Thresholds, *, real: bool, whole: bool) -> str:
    """Say why the agreement of top answers is told and not judged; empty where it is judged."""
    import numpy as np

    if limits.agreement is None:
        return "the metric decides"
    if not real:
        return NOT_REAL
    if not tally.rows:
        return "the source is sure of no row"
    if limits.any_rows:
        return ""
    if not whole:
        return "an output of more than two axes need not be scores of classes; --min-agreement judges it all the same"
    lead = float(np.median(tally.leads))
    if lead < tolerance.DECISIVE:
        return f"its top answer leads by {lead:.2g} of its spread, as numbers that are no scores of classes do"
    if tally.rows < tolerance.AGREEMENT_ROWS:
        return f"{tally.rows} rows are too few"
    return ""


def _why_not_equal(tally: _Tally, limits: Thresholds, *, real: bool, whole: bool) -> str:
    """Say why the share of equal integers is told and not judged; empty where it is judged."""
    if limits.agreement is None:
        return "the metric decides"
    if not real:
        return NOT_REAL
    if limits.any_rows:
        return ""
    if not whole:
        return "integers of more than one per row need not be answers; --min-agreement judges them all the same"
    return f"{tally.elements} rows are too few" if tally.elements < tolerance.AGREEMENT_ROWS else ""


def _agreement(rows: int, flips: int, why_not: str) -> Agreement:
    share = 1 - flips / rows if rows else 1.0
    return Agreement(rows, flips, share, upper_share(flips, rows), not why_not, why_not)


def _judged(
    series: _Series, tally: _Tally, agreement: Agreement | None, limits: Thresholds, *, floats: bool
) -> OutputQuality:
    """Hold what was measured against the thresholds."""
    sqnr = decibels(tally.signal, tally.error) if tally.signal and tally.error else None
    kept: list[str] = []
    lost: list[str] = []
    if floats and limits.sqnr_db is not None:
        if sqnr is not None:
            (kept if sqnr >= limits.sqnr_db else lost).append(f"SQNR {sqnr:.1f} dB, at least {limits.sqnr_db:g}")
        elif tally.error:
            lost.append("errs where the source is zero everywhere")
        else:
            kept.append("no error at all")
    if agreement is not None and agreement.judged and limits.agreement is not None:
        allowed = max(limits.free_flips, math.floor((1 - limits.agreement) * agreement.rows + ROUNDING))
        words = f"top answers agree on {agreement.share:.1%} ({agreement}), at least {limits.agreement:.1%}"
        (kept if agreement.flips <= allowed else lost).append(words)
    status = Status.FAIL if lost else Status.PASS if kept else Status.NOT_RUN
    nothing = "the metric decides" if floats else "integers are judged on real rows of one number each"
    worst_db, worst_case = tally.worst if tally.worst[1] else (None, "")
    return OutputQuality(
        series.expected,
        status,
        "; ".join(lost or kept) or nothing,
        series.basis,
        tally.elements,
        sqnr,
        worst_db,
        worst_case,
        agreement,
    )


def decibels(signal: float, error: float) -> float:
    """Give 10 log10 of a signal's power over an error's, both above zero."""
    return 10 * math.log10(signal / error)
