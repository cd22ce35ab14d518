"""What judging an artifact gives: findings with numbers, and a status that is never better than its worst finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """PASS, FAIL, or NOT_RUN, which is never green."""

    PASS = "PASS"  # noqa: S105  a verdict, not a password
    NOT_RUN = "NOT_RUN"
    FAIL = "FAIL"

    @classmethod
    def worst(cls, statuses: Iterable[Status]) -> Status:
        """Give the worst of `statuses`; NOT_RUN where there are none, since nothing was judged."""
        order = list(cls)
        return max(statuses, key=order.index, default=cls.NOT_RUN)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what, with which result, in words."""

    check: str
    status: Status
    message: str
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Worst:
    """The element that differs most."""

    case: str
    index: tuple[int, ...]
    expected: float
    actual: float


@dataclass(frozen=True, slots=True)
class OutputParity:
    """How one output of an artifact compares with the reference's, over all cases.

    `ratio` is rmse(artifact, float64) / rmse(ideal, float64), the ideal of fp32 being the reference itself; None where
    there is nothing to divide by. Errors are in the
    output's own unit against `basis`; `scaled_max` is the largest error over the largest magnitude. `sqnr_db` and
    `cosine` are None where they are undefined (no error at all, or no signal).
    """

    name: str
    status: Status
    reason: str
    basis: str  # "float64" or the name of the tolerance used in its place
    elements: int
    ratio: float | None = None
    bound: float | None = None
    max_abs: float = 0.0
    scaled_max: float = 0.0
    rmse: float = 0.0
    reference_rms: float = 0.0
    reference_noise_rmse: float | None = None
    ideal_rmse: float | None = None  # of the simulation that a reduced precision is judged by
    case_ratio: float | None = None  # the same of the worst single case, or over the floor there
    case: str = ""
    changed: int | None = None  # integers that differ and that rounding does not decide
    distance: float | None = None  # D = rmse(artifact, ideal) / ideal_rmse, of a reduced precision
    distance_bound: float | None = None  # None where D is not judged
    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    worst: Worst | None = None
    set_aside: tuple[str, ...] = ()  # cases on which the source itself is chaotic, judged by the per-case bound only


@dataclass(frozen=True, slots=True)
class PathParity:
    """How an artifact compares on other kernels than those that proved it; NOT_RUN where it does not run on them."""

    name: str  # of the runtime
    title: str
    status: Status
    reason: str
    cases: int = 0
    findings: tuple[Finding, ...] = ()
    outputs: tuple[OutputParity, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one stage of judging: never better than its worst finding, and NOT_RUN without any."""

    status: Status
    reason: str
    findings: tuple[Finding, ...] = ()
    outputs: tuple[OutputParity, ...] = ()
    paths: tuple[PathParity, ...] = ()  # other kernels that parity was judged on, of which each may decide

    @classmethod
    def of(cls, findings: Iterable[Finding], outputs: Iterable[OutputParity] = (), *, passed: str = "") -> Verdict:
        """Judge by the worst of what was found; `passed` says in words what a PASS rests on."""
        findings, outputs = tuple(findings), tuple(outputs)
        status = Status.worst([found.status for found in findings] + [output.status for output in outputs])
        if status is Status.PASS:
            return cls(status, passed, findings, outputs)
        reasons = [f.message for f in findings if f.status is status]
        reasons += [f"{output.name}: {output.reason}" for output in outputs if output.status is status]
        return cls(status, reasons[0] if reasons else "nothing was judged", findings, outputs)

    @classmethod
    def not_run(cls, reason: str) -> Verdict:
        """Say why a stage was not judged."""
        return cls(Status.NOT_RUN, reason, (Finding("run", Status.NOT_RUN, reason),))

    @classmethod
    def failed(cls, check: str, reason: str) -> Verdict:
        """Say that a stage failed as a whole."""
        return cls(Status.FAIL, reason, (Finding(check, Status.FAIL, reason),))
