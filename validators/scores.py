"""Metrics of common tasks by their names: what a model's answers are worth, higher for better.

A metric is made for the source's answers and the labels, and then scores the answers of both models: by one number per
row, or by one for all rows where it is none of single ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from convert.errors import UnknownName, UsageError

if TYPE_CHECKING:
    import numpy as np

#: Answers of a model to all rows: by output, the rows along the leading axis.
Answers = dict[str, "np.ndarray"]
Labels = Mapping[str, "np.ndarray"]
Score = Callable[[Answers, Labels], "np.ndarray | float"]

LABELS_FORM = "an .npy or .npz of one right answer per row of the inputs file, or a .csv with one per line"

TOP1, TOP5, MIOU, PERPLEXITY, BOXES = "top1", "top5", "miou", "perplexity", "boxes"
TITLES = {
    TOP1: "top-1 accuracy",
    TOP5: "top-5 accuracy",
    MIOU: "mean IoU",
    PERPLEXITY: "1/perplexity",
    BOXES: "F1 of boxes",
}

#: Boxes whose overlap is at least this share of their union are the same (PASCAL VOC, 2010).
SAME_BOX = 0.5

#: Boxes with a lower score are no detections.
DETECTED = 0.3


def named(metric: str, expected: Answers, labels: Labels) -> tuple[str, Score, Labels]:
    """Make one of the known metrics: its title, itself, and what it scores answers by, which are rows too.

    Raises UsageError where labels or outputs do not fit it, UnknownName for a metric that is none.
    """
    if metric not in TITLES:
        raise UnknownName.among("metric", metric, TITLES)
    if metric == BOXES:
        return TITLES[metric], _boxes(expected, labels), expected
    if not labels:
        raise UsageError(f"--metric {metric} needs right answers", fix=f"add --labels: {LABELS_FORM}")
    made: dict[str, Callable[[Answers, Labels], Score]] = {
        TOP1: functools.partial(_top, 1),
        TOP5: functools.partial(_top, 5),
        MIOU: _mean_iou,
        PERPLEXITY: _inverse_perplexity,
    }
    return TITLES[metric], made[metric](expected, labels), labels


def _classifier(expected: Answers, labels: Labels) -> tuple[str, str]:
    """Choose the output that the labels are right answers to; gives its name and that of the labels.

    It has scores of classes for every label along its last axis, or is itself a class for every label.
    """
    name, right = _only(labels, expected)
    fix = f"give {LABELS_FORM}, or say how answers are scored with --metric"
    if right.dtype.kind not in "iu":
        raise UsageError(f"--labels: they are {right.dtype}, and numbers of classes are integers", fix=fix)
    fitting = [output for output, array in expected.items() if _answers_to(array, right)]
    if name in fitting:
        fitting = [name]
    if len(fitting) != 1:
        shapes = ", ".join(f"{output} {list(array.shape)}" for output, array in expected.items())
        which = "several outputs" if fitting else "no output"
        raise UsageError(
            f"--labels: {list(right.shape)} right answers fit {which} of {shapes}",
            fix=f"name the array in an .npz as its output: {', '.join(fitting)}" if fitting else fix,
        )
    output = fitting[0]
    classes = expected[output].shape[-1] if expected[output].dtype.kind == "f" else None
    if int(right.min()) < 0 or (classes is not None and int(right.max()) >= classes):
        limit = f"0..{classes - 1}" if classes is not None else "0 and above"
        raise UsageError(
            f"--labels: they hold {right.min()}..{right.max()}, and {output} has the classes {limit}",
            fix="count classes from 0, in the order of the output",
        )
    return output, name


def _only(labels: Labels, expected: Answers) -> tuple[str, np.ndarray]:
    """Give the labels, of several arrays the one that is named as an output."""
    if len(labels) == 1:
        return next(iter(labels.items()))
    named = [name for name in labels if name in expected]
    if len(named) != 1:
        raise UsageError(
            f"--labels: the file holds {len(labels)} arrays: {', '.join(labels) or 'none'}",
            fix="give one array, or name one as the output it belongs to, or score them with --metric",
        )
    return named[0], labels[named[0]]


def _answers_to(array: np.ndarray, right: np.ndarray) -> bool:
    """Whether an output has scores of classes for every label, or is a class for every label."""
    if array.dtype.kind == "f":
        return array.shape[:-1] == right.shape and array.ndim > 1 and array.shape[-1] > 1
    return array.shape == right.shape


def _top(count: int, expected: Answers, labels: Labels) -> Score:
    """Score by the share of right answers among the `count` best of every row."""
    output, name = _classifier(expected, labels)
    if expected[output].dtype.kind != "f" and count > 1:
        raise UsageError(
            f"--metric top{count} ranks scores, and {output} is one class", fix=f"leave it out, for {TITLES[TOP1]}"
        )

    def score(answers: Answers, right: Labels) -> np.ndarray:
        given, want = answers[output], right[name]
        if given.dtype.kind != "f":
            hit = given == want
        elif count == 1:
            hit = given.argmax(-1) == want
        else:
            best = given.argsort(axis=-1)[..., -count:]
            hit = (best == want[..., None]).any(axis=-1)
        shares: np.ndarray = hit.reshape(len(hit), -1).mean(axis=1)
        return shares

    return score


def _mean_iou(expected: Answers, labels: Labels) -> Score:
    """Score a segmentation: over the classes in the labels, the mean of |answered and right| / |answered or right|.

    The classes of the scores are their last axis, or the second one as PyTorch has it.
    """
    import numpy as np

    _, right = _only(labels, expected)
    second = {
        name
        for name, array in expected.items()
        if array.dtype.kind == "f" and array.shape[:1] + array.shape[2:] == right.shape != array.shape[:-1]
    }
    turned = {name: np.moveaxis(array, 1, -1) if name in second else array for name, array in expected.items()}
    output, name = _classifier(turned, labels)
    axis = 1 if output in second else -1

    def score(answers: Answers, answers_to: Labels) -> float:
        given, want = answers[output], answers_to[name]
        classes = given.argmax(axis) if given.dtype.kind == "f" else given
        shares = [
            float(((classes == label) & (want == label)).sum() / ((classes == label) | (want == label)).sum())
            for label in np.unique(want)
        ]
        return float(np.mean(shares))

    return score


def _inverse_perplexity(expected: Answers, labels: Labels) -> Score:
    """Score by the geometric mean of the probability that the right answers have, exp(-cross-entropy).

    The scores are logits, of which a softmax makes probabilities, or probabilities already.
    """
    import numpy as np

    output, name = _classifier(expected, labels)
    scores = expected[output]
    if scores.dtype.kind != "f":
        raise UsageError(f"--metric {PERPLEXITY} needs scores, and {output} is one class", fix="leave it out")
    sums = scores.sum(axis=-1)
    probable = bool((scores >= 0).all() and np.allclose(sums, 1, atol=1e-3))

    def score(answers: Answers, answers_to: Labels) -> float:
        given, want = answers[output].astype(np.float64), answers_to[name]
        right = np.take_along_axis(given, want[..., None], axis=-1)[..., 0]
        if probable:
            logs = np.log(np.maximum(right, np.finfo(np.float32).tiny))
        else:
            top = given.max(axis=-1)
            logs = right - top - np.log(np.exp(given - top[..., None]).sum(axis=-1))
        return float(np.exp(logs.mean()))

    return score


def _boxes(expected: Answers, _: Labels) -> Score:
    """Score detections against the source's own: per row, the F1 of boxes of one class that overlap enough.

    One output ends in the 4 corners of boxes; one has as many scores, or scores per class; one more may have classes.
    """
    told = ", ".join(f"{name} {list(array.shape)}" for name, array in expected.items())
    wanted = "an output [rows, boxes, 4] of corners and one [rows, boxes] or [rows, boxes, classes] of scores"
    fix = f"it takes {wanted}; score other forms with a callable"
    corners = [name for name, array in expected.items() if array.ndim == 3 and array.shape[-1] == 4]
    corners = [name for name in corners if expected[name].dtype.kind == "f"]
    if len(corners) != 1:
        raise UsageError(f"--metric {BOXES} finds no boxes, or several, among {told}", fix=fix)
    leading = expected[corners[0]].shape[:2]
    beside = [name for name, array in expected.items() if name != corners[0] and array.shape[:2] == leading]
    flat = [name for name in beside if expected[name].ndim == 2]
    classes = [name for name in flat if expected[name].dtype.kind in "iu"]
    if not classes and len(beside) > 1:
        # TFLite's own operator gives numbers of classes as whole floats.
        classes = [name for name in flat if (expected[name] == expected[name].round()).all()]
    scores = [name for name in beside if name not in classes]
    if len(scores) != 1 or len(classes) > 1:
        raise UsageError(f"--metric {BOXES} finds no scores of boxes, or several, among {told}", fix=fix)
    detect = functools.partial(_detections, corners[0], scores[0], classes[0] if classes else "")

    def score(answers: Answers, source: Labels) -> np.ndarray:
        import numpy as np

        pairs = zip(detect(source), detect(answers), strict=True)
        return np.array([_f1(*theirs, *mine) for theirs, mine in pairs])

    return score


def _detections(
    corners: str, scores: str, classes: str, answers: Mapping[str, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give each row's boxes that count as detections, and their classes, the best first."""
    import numpy as np

    found = []
    for row, boxes in enumerate(answers[corners]):
        held = answers[scores][row]
        best = held.max(axis=-1) if held.ndim > 1 else held
        alone = held.argmax(axis=-1) if held.ndim > 1 else np.zeros(len(boxes))
        kinds = answers[classes][row] if classes else alone
        order = np.argsort(-best, kind="stable")
        order = order[best[order] >= DETECTED]
        found.append((boxes[order], kinds[order]))
    return found


def _f1(theirs: np.ndarray, their_kinds: np.ndarray, mine: np.ndarray, my_kinds: np.ndarray) -> float:
    """Match boxes one to one, the best-scored first, each with the unmatched one it overlaps most; 1 where none are."""
    if not len(theirs) and not len(mine):
        return 1.0
    free = list(range(len(theirs)))
    matched = 0
    for box, kind in zip(mine, my_kinds, strict=True):
        overlaps = [(_overlap(box, theirs[other]), other) for other in free if their_kinds[other] == kind]
        share, other = max(overlaps, default=(0.0, -1))
        if share >= SAME_BOX:
            free.remove(other)
            matched += 1
    return 2 * matched / (len(theirs) + len(mine))


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Give the intersection of two boxes over their union; corners may come as x and y or as y and x."""
    import numpy as np

    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0
