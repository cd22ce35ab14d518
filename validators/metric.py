"""What is left of a task's metric: one of those known by name, or whatever the user's own callable scores.

Metrics are higher for better answers. What is kept is judged by its lower bound over resamplings of the rows, the same
rows for both models.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert import callables
from convert.errors import UsageError
from convert.worker import summary
from validators import tolerance
from validators.confidence import lower_ratio, resampled, upper_share
from validators.scores import LABELS_FORM, TOP1, Answers, Labels, Score, named

if TYPE_CHECKING:
    import numpy as np

METRIC_FORM = (
    "it is called with a dictionary of output arrays, rows first, and the labels, and returns a number for all rows or "
    "an array of one number per row, zero or above, higher for better"
)

#: What reading a damaged file of labels raises.
DAMAGE = (ValueError, OSError, EOFError, OverflowError, zipfile.BadZipFile, zlib.error, csv.Error)


@dataclass(frozen=True, slots=True)
class Scoring:
    """What answers are scored with: the user's labels and metric, and which rows of the inputs file were answered."""

    labels: str
    metric: str
    total: int  # cases in the inputs file
    cases: tuple[int, ...]  # the numbers of those that were answered, in order


@dataclass(frozen=True, slots=True)
class MetricQuality:
    """What is left of the float model's metric.

    `kept` is the artifact's share of it, `kept_at_least` the lower bound of that at 95 %. `unseen` is the share of rows
    on which something can go wrong that shows on none of so few, at 95 % too.
    """

    name: str
    rows: int
    expected: float  # the source's
    actual: float  # the artifact's
    kept: float
    kept_at_least: float
    unseen: float

    def __str__(self) -> str:
        return (
            f"{self.name} {self.actual:.4g} of the source's {self.expected:.4g} on {self.rows} rows: {self.kept:.2%} "
            f"kept, at {tolerance.CONFIDENCE:.0%} at least {self.kept_at_least:.2%} "
            f"(what befalls less than {self.unseen:.1%} of inputs need not show on {self.rows})"
        )


def joined(name: str, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Join one output's answers to all rows; raises UsageError where they are of several sizes."""
    import numpy as np

    shapes = sorted({array.shape for array in rows})
    if len(shapes) > 1:
        raise UsageError(
            f"output {name} has several sizes over the rows, {list(shapes[0])} and {list(shapes[1])}, and a metric "
            "takes one array of all",
            fix="give --inputs of one size, or leave --labels and --metric out",
        )
    return np.concatenate(rows) if rows[0].ndim else np.stack(rows)


def measure(expected: Answers, actual: Answers, scoring: Scoring) -> MetricQuality:
    """Score the source's and the artifact's answers; raises UsageError where labels or metric do not fit."""
    labels = _labels(expected, scoring)
    if ":" in scoring.metric:
        name, score = _users(scoring.metric)
    else:
        name, score, labels = named(scoring.metric or TOP1, expected, labels)
    source, artifact = score(expected, labels), score(actual, labels)
    rows = _rows(expected)
    had, has = _mean(source), _mean(artifact)
    if not had > 0:
        raise UsageError(
            f"{name} of the source itself is {had:g}, of which no share can be kept",
            fix="check that the labels belong to the rows of --inputs, or give a --metric that is above zero",
        )
    if isinstance(source, float):
        least = resampled(rows, lambda drawn: _ratio_of(score, expected, actual, labels, drawn))
    else:
        least = lower_ratio(artifact, source)  # type: ignore[arg-type]
    return MetricQuality(name, rows, had, has, has / had, least, upper_share(0, rows))


def _mean(score: np.ndarray | float) -> float:
    return score if isinstance(score, float) else float(score.mean())


def _rows(answers: Answers) -> int:
    return len(next(iter(answers.values())))


def _ratio_of(score: Score, expected: Answers, actual: Answers, labels: Labels, drawn: np.ndarray) -> float:
    """Give what is kept on a drawing of rows."""
    had, has = (
        _mean(score({name: array[drawn] for name, array in answers.items()}, {k: v[drawn] for k, v in labels.items()}))
        for answers in (expected, actual)
    )
    return has / had if had > 0 else 1.0


def _labels(expected: Answers, scoring: Scoring) -> Labels:
    """Read the labels of the rows that were answered."""
    import numpy as np

    if not scoring.labels:
        return {}
    path = Path(scoring.labels)
    per_case, odd = divmod(_rows(expected), len(scoring.cases))
    if odd:
        raise UsageError(
            f"--labels: the model answers {_rows(expected)} rows to {len(scoring.cases)} inputs", fix="leave it out"
        )
    rows = np.concatenate([np.arange(case * per_case, (case + 1) * per_case) for case in scoring.cases])
    found = {}
    for name, array in read_labels(path).items():
        if len(array) != scoring.total * per_case:
            raise UsageError(
                f"--labels: {path} has {len(array)} rows, and the inputs file has {scoring.total * per_case}",
                fix="give one right answer for every row of --inputs, in the same order",
            )
        found[name] = array[rows]
    return found


def read_labels(path: Path) -> dict[str, np.ndarray]:
    """Read right answers: the arrays of an `.npz` by name, or one array called `labels`.

    Raises UsageError where the file is missing, damaged or empty, or holds anything but finite numbers.
    """
    import numpy as np

    if not path.is_file():
        raise UsageError(f"--labels: there is no file {path}", fix=f"give {LABELS_FORM}")
    try:
        if path.suffix == ".csv":
            arrays = {"labels": _column(path)}
        else:
            with path.open("rb") as stream:
                loaded: Any = np.load(stream, allow_pickle=False)  # an array, or an archive of some
                whole = isinstance(loaded, np.ndarray)
                arrays = {"labels": loaded} if whole else {key: loaded[key] for key in loaded.files}
    except DAMAGE as error:
        raise UsageError(f"--labels: cannot read {path}: {error}", fix=f"give {LABELS_FORM}") from error
    if not arrays:
        raise UsageError(f"--labels: {path} holds no arrays", fix=f"give {LABELS_FORM}")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise UsageError(f"--labels: {name!r} in {path} holds {array.dtype}, no numbers", fix=f"give {LABELS_FORM}")
        if not array.ndim or not array.size:
            raise UsageError(f"--labels: {name!r} in {path} has no rows", fix=f"give {LABELS_FORM}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(f"--labels: {name!r} in {path} holds NaN or infinity", fix="every row needs its answer")
    return arrays


def _column(path: Path) -> np.ndarray:
    """Read a CSV file of one column, whose first line may be its title; integers stay integers."""
    import numpy as np

    with path.open(newline="", encoding="utf-8-sig") as stream:
        lines = [(number, row) for number, row in enumerate(csv.reader(stream), 1) if row]
    values: list[float | int] = []
    for number, row in lines:
        if len(row) != 1:
            raise ValueError(f"line {number} has {len(row)} columns, and one is read")
        try:
            values.append(int(row[0]))
        except ValueError:
            try:
                values.append(float(row[0]))
            except ValueError:
                if number != lines[0][0]:
                    raise ValueError(f"line {number} is no number: {row[0]!r}") from None
    return np.array(values)


def _users(text: str) -> tuple[str, Score]:
    """Import the user's metric, and check what it returns whenever it is called."""
    import numpy as np

    metric, name = callables.find(text, "--metric")

    def score(answers: Answers, labels: Labels) -> np.ndarray | float:
        given: Any = None
        if labels:
            given = dict(labels) if len(labels) > 1 else next(iter(labels.values()))
        try:
            returned = np.asarray(metric(dict(answers), given), np.float64)
        except Exception as error:
            raise UsageError(
                f"--metric: {name}(outputs, labels) failed: {type(error).__name__}: {summary(error)}", fix=METRIC_FORM
            ) from error
        rows = _rows(answers)
        if returned.shape not in ((), (rows,)):
            raise UsageError(
                f"--metric: {name} returned an array {list(returned.shape)} for {rows} rows", fix=METRIC_FORM
            )
        if not np.isfinite(returned).all() or (returned < 0).any():
            raise UsageError(f"--metric: {name} returned a number that is negative or not finite", fix=METRIC_FORM)
        return returned if returned.ndim else float(returned)

    return name, score
