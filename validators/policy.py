"""A policy: what a team holds artifacts against, in a TOML file, and a report judged again by it, without running.

[parity]                # of every precision
ratio = 4               # R, rmse over that of the source's own rounding
[parity.int8]           # of one
ratio = 1.15
distance = 0.2          # D, from the ideal
[outputs.logits]        # of one output, in its own unit
max_abs = 1e-3
sqnr_db = 60
[quality]               # of reduced precisions; [quality.int8] of one
min_sqnr_db = 30
min_agreement = 0.995
max_accuracy_drop = 0.005
[budget]                # of every artifact; [budget.tflite], [budget.int8], [budget.tflite.int8] of some
latency_ms = 5
memory_bytes = "30 MiB"
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from convert.errors import UsageError
from convert.formats import FORMATS
from convert.spec import PRECISIONS
from validators.budget import COUNT, KEYS, THREADS, Limit, budgeted, findings
from validators.decision import Bounds, bounds, decide
from validators.quality import Quality
from validators.report import Report, TargetReport
from validators.reports.json import read as read_report
from validators.verdict import Finding, OutputParity, Status, Verdict

PARITY = ("ratio", "case_factor", "floor", "scaled_max", "distance", "changed_share", "max_abs", "sqnr_db")
QUALITY = ("min_sqnr_db", "min_agreement", "max_accuracy_drop")
BUDGET = (*KEYS, THREADS)

#: The policy that is used where it lies in the working folder and nothing else is said.
NAME = "edgeproof.toml"

Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is held against instead of the built-in bounds: by section and, of one precision or output, by its name."""

    parity: Numbers = field(default_factory=dict)
    parity_of: Mapping[str, Numbers] = field(default_factory=dict)  # by precision
    outputs: Mapping[str, Numbers] = field(default_factory=dict)
    quality: Numbers = field(default_factory=dict)
    quality_of: Mapping[str, Numbers] = field(default_factory=dict)  # by precision
    budget: Mapping[str, Mapping[str, Limit]] = field(default_factory=dict)  # by "", target, precision, or both

    @property
    def on_answers(self) -> bool:
        """Whether it states anything about what an artifact answers, beside what it costs."""
        return any((self.parity, self.parity_of, self.outputs, self.quality, self.quality_of))

    def limits(self, target: str, precision: str) -> Mapping[str, Limit]:
        """Give what a target may cost; the nearest statement wins: that of both, of the target, of the precision."""
        return {
            key: limit
            for table in ("", precision, target, f"{target}.{precision}")
            for key, limit in self.budget.get(table, {}).items()
        }

    def bounds(self, precision: str, output: str, distance: float | None, *, elsewhere: bool = False) -> Bounds:
        """Give the bounds of one output; the nearest statement wins. `distance` is the bound on D that was used.

        `elsewhere`: on other kernels than those that proved the artifact, where a stated ratio is widened as ours is.
        """
        stated = {**self.parity, **self.parity_of.get(precision, {}), **self.outputs.get(output, {})}
        usual, wider = bounds(precision, distance), bounds(precision, distance, elsewhere=elsewhere)
        if "ratio" in stated:
            stated["ratio"] *= wider.ratio / usual.ratio
        return dataclasses.replace(wider, **stated)

    def quality_limits(self, precision: str) -> Numbers:
        """Give the thresholds of quality that are stated for a precision."""
        return {**self.quality, **self.quality_of.get(precision, {})}


def read_policy(path: Path) -> Policy:
    """Read a policy; raises UsageError for what is missing, no TOML, or states what is not known."""
    if not path.is_file():
        raise UsageError(f"there is no policy {path}", fix="write one as docs/parity.md shows")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}", fix="write it as docs/parity.md shows") from error
    _known(path, "", found, ("parity", "outputs", "quality", "budget"))
    parity, parity_of = _section(path, "parity", found, PARITY)
    quality, quality_of = _section(path, "quality", found, QUALITY)
    outputs = {
        name: _numbers(path, f"outputs.{name}", held, PARITY)
        for name, held in _table(path, "outputs", found.get("outputs", {})).items()
    }
    return Policy(parity, parity_of, outputs, quality, quality_of, _budget(path, found.get("budget", {})))


def _budget(path: Path, held: Any) -> dict[str, dict[str, Limit]]:
    """Read the limits of every artifact, of targets, of precisions, and of targets at a precision."""
    forms = tuple(FORMATS.names())
    found = {"": _limits(path, "budget", held, (*forms, *PRECISIONS))}
    for name, table in held.items():
        if name in KEYS or name == THREADS:
            continue
        place = f"budget.{name}"
        inner = PRECISIONS if name in forms else ()
        if (
            name in PRECISIONS
            and isinstance(table, dict)
            and (wrong := next((key for key in table if key in forms), ""))
        ):
            raise UsageError(f"{path}: [{place}] has no {wrong!r}", fix=f"write it as [budget.{wrong}.{name}]")
        found[name] = _limits(path, place, table, inner)
        for precision in inner:
            if precision in table:
                found[f"{name}.{precision}"] = _limits(path, f"{place}.{precision}", table[precision], ())
    return found


def _limits(path: Path, name: str, held: Any, tables: tuple[str, ...]) -> dict[str, Limit]:
    """Read the limits of one table, which may have others in it."""
    held = _table(path, name, held)
    _known(path, name, held, (*BUDGET, *tables))
    found = {}
    for key, value in held.items():
        if key not in BUDGET:
            continue
        unit = KEYS[key].unit if key in KEYS else COUNT
        number, stated = unit.read(value, f"{path}: {name}.{key}")
        if key == THREADS and (number < 1 or number != int(number)):
            raise UsageError(f"{path}: {name}.{key} is {value!r}", fix="give a whole number above zero")
        found[key] = Limit(number, stated, f"[{name}]")
    return found


def _section(
    path: Path, name: str, found: Mapping[str, Any], known: tuple[str, ...]
) -> tuple[Numbers, dict[str, Numbers]]:
    """Read a section: its numbers for every precision, and its tables, each for one."""
    held = _table(path, name, found.get(name, {}))
    _known(path, name, held, (*known, *PRECISIONS))
    common = {key: value for key, value in held.items() if key in known}
    each: dict[str, Numbers] = {
        key: _numbers(path, f"{name}.{key}", _table(path, f"{name}.{key}", value), known)
        for key, value in held.items()
        if key in PRECISIONS
    }
    return _numbers(path, name, common, known), each


def _table(path: Path, name: str, held: Any) -> dict[str, Any]:
    if not isinstance(held, dict):
        raise UsageError(f"{path}: {name} is {held!r}, and is a table", fix=f"write [{name}] on a line of its own")
    return held


def _numbers(path: Path, name: str, held: Any, known: tuple[str, ...]) -> dict[str, float]:
    held = _table(path, name, held)
    _known(path, name, held, known)
    for key, value in held.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"{path}: {name}.{key} is {value!r}, and is a number", fix="give a finite number")
        if value < 0 and not key.endswith("sqnr_db"):
            raise UsageError(f"{path}: {name}.{key} is {value!r}", fix="give a number from 0 up")
    return {key: float(value) for key, value in held.items()}


def _known(path: Path, section: str, held: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in held:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            place = f"[{section}] " if section else ""
            raise UsageError(
                f"{path}: {place}has no {key!r}",
                fix=f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}",
            )


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one target of a report."""

    label: str
    before: Status
    verdict: Verdict


def read_back(path: Path) -> Report:
    """Read a report; raises UsageError where it is missing or none of this version."""
    if path.is_dir():
        path = path / "report.json"
    fix = "give the report.json of a run"
    if not path.is_file():
        raise UsageError(f"there is no report {path}", fix=fix)
    try:
        return read_report(path.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no report of this version: {error}", fix=fix) from error


def judge(report: Report, policy: Policy) -> tuple[Judged, ...]:
    """Judge every target of a report again, from its numbers alone, by a policy.

    What was not a matter of numbers (the contract, NaN in other places, a crash) stays as it was. Raises UsageError for
    a policy on an output that no artifact of the report has.
    """
    known = {
        output.name
        for target in report.targets
        for attempt in target.attempts
        for output in (attempt.parity.outputs if attempt.parity else ())
    }
    require_outputs(policy, known, "the report")
    return tuple(Judged(target.label, target.status, _target(target, policy)) for target in report.targets)


def require_outputs(policy: Policy, known: AbstractSet[str], holder: str) -> None:
    """Raise UsageError for a policy on an output that is not among the `known` ones, where there are any."""
    for name in policy.outputs:
        if known and name not in known:
            raise UsageError(
                f"the policy is on the output {name!r}, and {holder} has {', '.join(sorted(known))}",
                fix="name the outputs as the report does",
            )


def _target(target: TargetReport, policy: Policy) -> Verdict:
    """Judge the kept attempt of a target, and what it costs."""
    answers = judge_answers(target, policy)
    costs = findings(budgeted(target, policy.limits(target.target, target.precision)))
    if not costs or target.artifact is None:
        return answers
    found = Verdict.of((*answers.findings, *costs), answers.outputs, passed=answers.reason)
    status = Status.worst((answers.status, found.status))
    said = found if found.status is status and answers.status is not status else answers
    return dataclasses.replace(found, status=status, reason=said.reason)


def judge_answers(target: TargetReport, policy: Policy) -> Verdict:
    """Judge what the kept attempt of a target answers."""
    attempt = target.attempts[target.kept] if target.kept is not None else None
    if attempt is None or attempt.structure is None or attempt.parity is None:
        return Verdict.failed("made", target.reason)
    if attempt.structure.status is not Status.PASS:
        return attempt.structure
    outputs = [_output(output, policy, target.precision) for output in attempt.parity.outputs]
    # What other kernel paths gave is judged again too; a finding on one says no more than its own does.
    findings = [finding for finding in attempt.parity.findings if finding.check != "path"]
    for path in attempt.parity.paths:
        if path.status is not Status.NOT_RUN:
            judged = (_output(output, policy, target.precision, elsewhere=True) for output in path.outputs)
            found = Verdict.of(path.findings, judged)
            findings.append(Finding("path", found.status, f"on {path.title}: {found.reason or 'within the policy'}"))
    if attempt.quality is not None:
        findings += _quality(attempt.quality, policy.quality_limits(target.precision))
    if not outputs and not findings:
        findings.append(Finding("parity", attempt.parity.status, attempt.parity.reason))
    return Verdict.of(findings, outputs, passed="every number of the report is within the policy")


def _output(output: OutputParity, policy: Policy, precision: str, *, elsewhere: bool = False) -> OutputParity:
    """Judge one output by its figures, where a number could change anything."""
    if output.elements == 0 or (output.basis == "equality" and output.status is Status.NOT_RUN):
        return output
    limits = policy.bounds(precision, output.name, output.distance_bound, elsewhere=elsewhere)
    status, reason = decide(output, limits, precision)
    return dataclasses.replace(output, status=status, reason=reason, bound=limits.ratio)


def _quality(quality: Quality, stated: Numbers) -> Iterator[Finding]:
    """Hold the figures of quality against what is stated, else against what they were held against."""
    if not quality.outputs:
        yield Finding("quality", quality.status, quality.reason)
        return
    sqnr = stated.get("min_sqnr_db", quality.min_sqnr_db)
    share = stated.get("min_agreement", quality.min_agreement)
    for output in quality.outputs:
        if output.broken:
            yield Finding("quality", Status.FAIL, output.reason, output.name)
        if sqnr is not None and output.sqnr_db is not None:
            words = f"{output.name}: SQNR {output.sqnr_db:.1f} dB, at least {sqnr:g}"
            yield Finding("quality", Status.PASS if output.sqnr_db >= sqnr else Status.FAIL, words, output.name)
        agreed = output.agreement
        if agreed is not None and agreed.judged and share is not None:
            # One changed answer proves no rate, where nobody stated what is wanted.
            free = "min_agreement" not in stated and output.status is not Status.FAIL
            words = f"{output.name}: top answers agree on {agreed.share:.2%}, at least {share:.2%}"
            yield Finding("quality", Status.PASS if agreed.share >= share or free else Status.FAIL, words, output.name)
    drop = stated.get("max_accuracy_drop", quality.max_accuracy_drop)
    if quality.metric is not None and drop is not None:
        words = f"{quality.metric}, at least {1 - drop:.1%} wanted"
        yield Finding("quality", Status.PASS if quality.metric.kept_at_least >= 1 - drop else Status.FAIL, words)
