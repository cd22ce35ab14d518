"""The report: everything one run asked for, tried, measured and decided, as frozen data."""

from __future__ import annotations

import dataclasses
import datetime
import time
from dataclasses import dataclass
from enum import Enum

from convert.formats import Foreign
from convert.recipe import Calibration, Recipe
from convert.spec import FP32, Artifact, ModelFacts, SourceFile
from validators.budget import Budgeted
from validators.costs import Costs
from validators.environment import machine, versions
from validators.latency import Measurement
from validators.profiles import Profile
from validators.quality import Quality
from validators.regression import Regression
from validators.self_test import SelfTest
from validators.swept import Swept
from validators.verdict import Status, Verdict
from validators.where import Where

SCHEMA_VERSION = 1


class Stage(Enum):
    """How far an attempt got."""

    CONVERT = "convert"
    STRUCTURE = "structure"
    PARITY = "parity"
    QUALITY = "quality"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class StageRun:
    """One stage's process: its wall time and the command that repeats it."""

    stage: str
    seconds: float
    command: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One candidate: which routes, how far it got, and why no further."""

    plan: str
    title: str
    reached: Stage
    reason: str
    fix: str = ""
    artifact: Artifact | None = None
    operators: tuple[tuple[str, int], ...] = ()
    structure: Verdict | None = None
    parity: Verdict | None = None
    stages: tuple[StageRun, ...] = ()
    runtime: str = ""  # that it was run with
    requires: tuple[str, ...] = ()  # the least a runtime must be to run it
    foreign: tuple[Foreign, ...] = ()  # operators a stock runtime lacks
    fixed: tuple[tuple[str, int], ...] = ()  # free dimensions of the source that the artifact fixes
    latency: Measurement | None = None  # as measured in a race
    unraced: str = ""  # why a race could not measure it
    quality: Quality | None = None  # of a reduced precision
    recipe: Recipe | None = None  # how it was quantized

    @property
    def status(self) -> Status:
        """PASS when structure, parity and quality passed; the worst of them otherwise; FAIL when nothing was made."""
        if self.artifact is None:
            return Status.FAIL
        judged = (self.structure, self.parity, self.quality)
        verdicts = [verdict.status for verdict in judged if verdict is not None]
        return Status.worst(verdicts if self.reached is Stage.DONE else [*verdicts, Status.NOT_RUN])


@dataclass(frozen=True, slots=True)
class Beside:
    """The proven float artifact that a reduced one was made of, on the same machine in the same run."""

    file_bytes: int
    latency: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One way of quantizing that a search measured."""

    recipe: Recipe
    passed: bool
    sqnr_db: float | None
    agreement: float | None
    file_bytes: int
    latency_seconds: float | None = None
    where: Where = Where.HOST  # that latency was measured
    kept: bool = False
    front: bool = False  # whether no other point is at least as good in size, latency and quality, and better in one
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """One layer that a search left in a higher precision, and what the network keeps where it alone is quantized.

    `gains` says what it was given up for: quality, or latency.
    """

    layer: str
    operator: str
    precision: str
    alone_sqnr_db: float | None
    gains: str = "quality"


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What became of one requested format at one precision.

    `artifact` is what was kept: the proven file, or, where no candidate passed, the best unproven one, which lies in
    the folder `unproven` and replaces nothing. `kept` is the index of its attempt. A reduced precision has the float
    artifact it was made of `beside` it, the `points` that a search for a mixed precision measured, and the file of its
    recipe.
    """

    target: str
    precision: str
    status: Status
    reason: str
    artifact: Artifact | None
    attempts: tuple[Attempt, ...]
    kept: int | None = None
    latency: tuple[Measurement, ...] = ()
    latency_reason: str = ""  # why there is no latency at all
    stages: tuple[StageRun, ...] = ()
    beside: Beside | None = None
    points: tuple[Point, ...] = ()
    given_up: tuple[GivenUp, ...] = ()
    recipe_path: str = ""
    self_test: SelfTest | None = None  # of what is proven, where it was asked for
    golden: str = ""  # the index of its golden vectors
    regression: Regression | None = None  # against the artifact released before, where one was given
    policy: Verdict | None = None  # by a policy that states something of answers
    budgets: tuple[Budgeted, ...] = ()  # what it may cost by a policy, each limit with what became of it
    sweeps: tuple[Swept, ...] = ()  # what was measured at other sizes and numbers of threads; they decide nothing
    remarks: tuple[str, ...] = ()
    costs: Costs | None = None  # that do not vary, of what was kept
    profile: Profile | None = None  # where the time of an inference goes, where that was asked for

    @property
    def label(self) -> str:
        """How stages and progress name it."""
        return label_of(self.target, self.precision)


def held_against(target: TargetReport, found: Regression) -> TargetReport:
    """Add how a target compares with its baseline; it is as good as the worse of both."""
    worse = found.status is not Status.PASS
    return dataclasses.replace(
        target,
        regression=found,
        status=Status.worst((target.status, found.status)),
        reason=f"against the baseline: {found.reason}" if worse else target.reason,
    )


def label_of(target: str, precision: str) -> str:
    """Name a target at a precision, as stages, progress and golden vectors do."""
    return target if precision == FP32 else f"{target}-{precision}"


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """How the source itself was run."""

    runtime: str
    oracle: str  # "float64", or why there is none
    cases: int
    seed: int
    notes: tuple[str, ...] = ()
    stages: tuple[StageRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the tool."""

    schema_version: int
    command: str
    created: str  # ISO 8601, UTC
    seconds: float
    source: SourceFile
    model: ModelFacts
    reference: ReferenceReport
    targets: tuple[TargetReport, ...]
    versions: dict[str, str]
    machine: dict[str, str]
    path: str = ""  # of report.json
    calibration: Calibration | None = None
    policy: str = ""  # the file that artifacts were held against

    @property
    def exit_code(self) -> int:
        """0 when every target passed; 3 when nothing was made; 1 otherwise."""
        if self.targets and all(target.status is Status.PASS for target in self.targets):
            return 0
        return 1 if any(target.artifact is not None for target in self.targets) else 3


def assemble(
    *,
    command: str,
    started: float,
    source: SourceFile,
    model: ModelFacts,
    reference: ReferenceReport,
    targets: tuple[TargetReport, ...],
    path: str,
    calibration: Calibration | None = None,
    policy: str = "",
) -> Report:
    """Put a report together; `started` is the monotonic time at which the run began."""
    return Report(
        schema_version=SCHEMA_VERSION,
        command=command,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=time.monotonic() - started,
        source=source,
        model=model,
        reference=reference,
        targets=targets,
        versions=versions(),
        machine=machine(),
        path=path,
        calibration=calibration,
        policy=policy,
    )
