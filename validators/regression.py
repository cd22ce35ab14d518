"""Is an artifact slower than the one released before it: both timed now, in turns; a stored number is no baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import EdgeproofError, UsageError
from convert.formats import FORMATS, recognise
from convert.spec import Artifact, TensorSpec
from convert.worker import Workers
from validators import pairs
from validators.entrants import entrant
from validators.verdict import Status
from validators.versus import Contested, contest

if TYPE_CHECKING:
    import numpy as np

#: By how much an artifact may be slower than its baseline where nothing is said.
MAX_REGRESSION = 0.05


@dataclass(frozen=True, slots=True)
class Regression:
    """An artifact against its baseline; NOT_RUN where there is none, or the interval has the limit in it."""

    baseline: str
    max_regression: float
    status: Status
    reason: str
    result: Contested | None = None


def applies(baseline: Path, form: str) -> bool:
    """Whether a baseline is for artifacts of a format; one that is missing is for those of its suffix, or for all.

    Raises UnknownSource where the file is no artifact.
    """
    if baseline.exists():
        return recognise(baseline).name == form
    owners = [one.name for one in FORMATS if one.suffix and baseline.name.endswith(one.suffix)]
    return form in owners or not owners


def check_baseline(baseline: str, max_regression: float | None, forms: tuple[str, ...]) -> None:
    """Raise UsageError for a baseline that is for none of the formats, or a limit without a baseline.

    A baseline that is missing is no usage error: what was to be held against it could not be judged.
    """
    if not baseline:
        if max_regression is not None:
            raise UsageError(
                "--max-regression has no meaning without something to compare with", fix="add --baseline FILE"
            )
        return
    path = Path(baseline)
    if path.exists() and not any(applies(path, form) for form in forms):
        raise UsageError(
            f"--baseline {baseline} is {recognise(path).title}, and {', '.join(forms)} is made or judged",
            fix="give the released artifact of the same format",
        )


def regress(
    workers: Workers,
    baseline: str,
    artifact: Artifact,
    max_regression: float | None,
    label: str,
    *,
    seed: int = 0,
    user: Mapping[str, np.ndarray] | None = None,
    made: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Regression | None:
    """Let an artifact and its baseline take turns, on one thread; whatever keeps them from it is NOT_RUN.

    None where the baseline is of another precision, and one of that is `made` too: it is for that one.
    """
    most = MAX_REGRESSION if max_regression is None else max_regression
    if not Path(baseline).exists():
        return Regression(baseline, most, Status.NOT_RUN, f"there is no baseline {baseline}")
    try:
        sides = [
            entrant(workers, Path(path), f"{label}-{side}", user)
            for side, path in (("baseline", baseline), ("new", artifact.path))
        ]
        workers.retire_all()
        if sides[0].precision != sides[1].precision and sides[0].precision in made:
            return None
        result = contest(workers, sides, seed=seed, user=_fitting(user, sides[0].signature.inputs), most=most, say=say)
    except EdgeproofError as error:
        workers.require_open()
        return Regression(baseline, most, Status.NOT_RUN, f"it cannot be compared with {baseline}: {error.message}")
    (one,) = result.others
    found = one.decided(result.clock)
    status = pairs.regression(found, one.detectable, most)
    return Regression(baseline, most, status, worded(status, found, one.detectable, most, baseline), result)


def _fitting(user: Mapping[str, np.ndarray] | None, inputs: Sequence[TensorSpec]) -> Mapping[str, np.ndarray] | None:
    """Give the user's inputs where the baseline calls its own the same; else seeded ones are made."""
    return user if user is not None and set(user) == {spec.name for spec in inputs} else None


def worded(status: Status, found: pairs.Interval, least: float, most: float, baseline: str) -> str:
    """Say what was found, and what it is held against."""
    ends = f"95 % interval {found.low:.3f} to {found.high:.3f}"
    takes = f"it takes {found.ratio:.3f} of the CPU time of {baseline} ({ends})"
    if status is Status.PASS:
        return f"{takes}, no more than {100 * most:g} % slower"
    if status is Status.FAIL:
        return f"{takes}, more than {100 * most:g} % slower"
    return (
        f"{takes}, so whether it is more than {100 * most:g} % slower cannot be told; "
        f"the baseline differs from itself by {least:.1%}"
    )
