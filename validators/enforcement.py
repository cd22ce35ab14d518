"""A policy enforced in a run: which file it is, and what is proven held against it, as `judge` does from a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from convert.errors import UsageError
from validators.budget import budgeted
from validators.policy import NAME, Policy, judge_answers, read_policy, require_outputs
from validators.report import TargetReport
from validators.verdict import Status


@dataclasses.dataclass(frozen=True, slots=True)
class Enforced:
    """The policy of a run, and the file it is from; an empty one where there is none."""

    policy: Policy = dataclasses.field(default_factory=Policy)
    path: str = ""


def found_policy(stated: str, *, ignored: bool) -> str:
    """Give the policy file that is stated, else the one in the working folder; none where a found one is `ignored`.

    Raises UsageError where one is stated and ignored.
    """
    if stated and ignored:
        raise UsageError("--policy and --no-policy exclude each other", fix="leave one of them out")
    return stated or (NAME if Path(NAME).exists() and not ignored else "")


def read_enforced(path: str) -> Enforced:
    """Read the policy of a run, an empty one where there is no path; raises UsageError where it cannot be read."""
    return Enforced(read_policy(Path(path)), path) if path else Enforced()


def enforce(enforced: Enforced, target: TargetReport) -> TargetReport:
    """Hold a proven target against the policy of a run; it is as good as the worst of both.

    What the tool's own bounds refuse, a policy does not acquit here: only what passed is held against it.
    """
    policy = enforced.policy
    if target.status is not Status.PASS or target.artifact is None:
        return target
    verdict = judge_answers(target, policy) if policy.on_answers else None
    budgets = budgeted(target, policy.limits(target.target, target.precision))
    held = [item for item in (verdict, *budgets) if item is not None]
    worst = Status.worst((Status.PASS, *(item.status for item in held)))
    reason = target.reason
    if worst is not Status.PASS:
        first = next(item.reason for item in held if item.status is worst)
        reason = f"against the policy {enforced.path}: {first}"
    return dataclasses.replace(target, policy=verdict, budgets=budgets, status=worst, reason=reason)


def require_known_outputs(enforced: Enforced, names: Iterable[str]) -> None:
    """Raise UsageError for a policy on outputs that the model does not have."""
    require_outputs(enforced.policy, set(names), "the model")
