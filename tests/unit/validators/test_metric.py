"""The task's metric: what is kept of it, how sure that is, and labels and metrics that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from convert.errors import LoadError, UsageError
from convert.spec import QualityGate
from convert.worker import Limits, Workers
from validators import parity
from validators.inputs import GENERATED, LABELLED_ROWS, CaseSet, collect
from validators.metric import Scoring, measure, read_labels
from validators.quality import assess, check_gate, judge, rehearse
from validators.runtimes import Outputs
from validators.structure import Binding
from validators.verdict import Status

ROWS = 400
RIGHT = np.arange(ROWS) % 10


def scores(wrong: range | tuple[int, ...] = ()) -> np.ndarray:
    """Give confident scores of ten classes, right on all rows but these."""
    answers = RIGHT.copy()
    answers[list(wrong)] = (answers[list(wrong)] + 1) % 10
    return (10 * np.eye(10)[answers]).astype(np.float32)


@pytest.fixture
def labels(tmp_path):
    def save(array=RIGHT, name="labels.npy", **arrays):
        path = tmp_path / name
        if arrays:
            np.savez(path, **arrays)
        else:
            np.save(path, array)
        return str(path)

    return save


def scored(source, artifact, labels="", metric="", *, total=None, cases=None):
    source, artifact = ({"out": o} if isinstance(o, np.ndarray) else o for o in (source, artifact))
    rows = len(next(iter(source.values())))
    return measure(source, artifact, Scoring(labels, metric, total or rows, cases or tuple(range(rows))))


# Right answers


def test_the_accuracy_of_both_models_is_told(labels):
    found = scored(scores(range(20)), scores(range(30)), labels())

    assert (found.expected, found.actual) == (0.95, 0.925)
    assert found.kept == pytest.approx(0.925 / 0.95)
    assert found.rows == ROWS
    assert "top-1 accuracy 0.925 of the source's 0.95 on 400 rows" in str(found)
    assert "what befalls less than 0.7% of inputs need not show on 400" in str(found)


def test_the_bound_is_below_what_was_measured_and_equal_answers_have_none(labels):
    changed = scored(scores(range(20)), scores(range(22)), labels())
    same = scored(scores(range(20)), scores(range(20)), labels())

    assert changed.kept_at_least < changed.kept < 1
    assert same.kept_at_least == same.kept == 1


def test_rows_that_only_one_model_gets_right_count_for_and_against(labels):
    found = scored(scores(range(20)), scores(range(10, 30)), labels())

    assert found.kept == 1
    assert 0.95 < found.kept_at_least < 1


def test_labels_of_every_word_are_scored_by_row(labels):
    words = np.stack([scores(), scores(range(ROWS))], axis=1)

    assert scored(words, words, labels(np.stack([RIGHT, RIGHT], axis=1))).expected == 0.5


def test_a_model_that_gives_classes_itself_is_scored_too(labels):
    assert scored(RIGHT.copy(), (RIGHT + (np.arange(ROWS) < 40)) % 10, labels()).actual == 0.9


def test_only_the_labels_of_rows_that_were_answered_count(labels):
    found = scored(scores()[5:9], scores()[5:9], labels(), total=ROWS, cases=(5, 6, 7, 8))

    assert (found.expected, found.rows) == (1, 4)


def test_a_batch_of_several_rows_per_case_takes_as_many_labels(labels):
    assert scored(scores(), scores(), labels(), total=200, cases=tuple(range(200))).expected == 1


def test_labels_named_as_an_output_belong_to_it(labels):
    outputs = {"other": scores(range(ROWS)), "digit": scores()}
    path = labels(name="l.npz", digit=RIGHT)

    assert scored(outputs, outputs, path).expected == 1
    with pytest.raises(UsageError, match="fit several outputs") as caught:
        scored(outputs, outputs, labels())
    assert "name the array in an .npz as its output: other, digit" in caught.value.fix


@pytest.mark.parametrize("title", ["", "label\n"])
def test_labels_may_be_one_column_of_a_table(tmp_path, title):
    (tmp_path / "l.csv").write_text(title + "".join(f"{n}\n" for n in RIGHT))

    assert scored(scores(), scores(), str(tmp_path / "l.csv")).expected == 1


# Labels that do not fit


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (RIGHT[:-1], "has 399 rows, and the inputs file has 400"),
        (RIGHT + 1, r"they hold 1..10, and out has the classes 0..9"),
        (RIGHT - 1, r"they hold -1..8"),
        (RIGHT.astype(np.float32), "they are float32, and numbers of classes are integers"),
        (np.where(RIGHT == 3, np.nan, 1.0), "holds NaN or infinity"),
        (np.eye(10, dtype=np.int64)[RIGHT], "fit no output"),
        (np.array(5), "has no rows"),
        (np.zeros((0,), np.int64), "has no rows"),
        (RIGHT.astype("U1"), "no numbers"),
    ],
    ids=lambda value: "" if isinstance(value, np.ndarray) else value[:25],
)
def test_labels_that_do_not_fit_are_refused(labels, array, words):
    with pytest.raises(UsageError, match=words) as caught:
        scored(scores(), scores(), labels(array))

    assert caught.value.fix


def test_several_arrays_of_labels_need_a_name_or_a_metric(labels):
    with pytest.raises(UsageError, match="holds 2 arrays: a, b"):
        scored(scores(), scores(), labels(name="l.npz", a=RIGHT, b=RIGHT))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.npy", None, "there is no file"),
        ("text.npy", "hello", "cannot read"),
        ("cut.npz", "PK\x03\x04 and no more", "cannot read"),
        ("two.csv", "1,2\n3,4\n", "line 1 has 2 columns"),
        ("word.csv", "1\nzebra\n", "line 2 is no number: 'zebra'"),
        ("empty.csv", "", "has no rows"),
        ("title.csv", "label\n", "has no rows"),
    ],
)
def test_files_that_hold_no_labels_are_refused(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(UsageError, match=words) as caught:
        read_labels(tmp_path / name)

    assert caught.value.fix


def test_a_source_that_is_never_right_has_nothing_to_keep(labels):
    with pytest.raises(UsageError, match="top-1 accuracy of the source itself is 0"):
        scored(scores(range(ROWS)), scores(), labels())


# Metrics of the user's own


@pytest.fixture
def metric(tmp_path):
    def write(body, name="scoring"):
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\ndef metric(outputs, labels):\n    {body}\n")
        return f"{tmp_path / name}.py:metric"

    return write


@pytest.mark.parametrize(
    "body",
    [
        "return (outputs['out'].argmax(1) == labels).astype(float)",
        "return float((outputs['out'].argmax(1) == labels).mean())",
    ],
    ids=["by row", "of all rows"],
)
def test_a_metric_by_row_or_of_all_rows_is_bounded_alike(labels, metric, body):
    own = scored(scores(range(20)), scores(range(26)), labels(), metric(body))
    ours = scored(scores(range(20)), scores(range(26)), labels())

    assert (own.expected, own.actual) == (ours.expected, ours.actual)
    assert own.kept_at_least == pytest.approx(ours.kept_at_least, abs=0.003)
    assert own.name == "metric"


def test_a_metric_needs_no_labels_and_gets_all_there_are(labels, metric):
    assert scored(scores(), scores(), "", metric("assert labels is None; return 1.0")).expected == 1
    both = labels(name="l.npz", a=RIGHT, b=RIGHT)
    assert scored(scores(), scores(), both, metric("return float(len(labels['a']) / len(labels['b']))")).expected == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return outputs['nothing']", r"metric\(outputs, labels\) failed: KeyError"),
        ("return None", "not finite"),
        ("return 'good'", "failed: ValueError"),
        ("return float('nan')", "negative or not finite"),
        ("return -1.0", "negative or not finite"),
        ("return np.ones(3)", r"returned an array \[3\] for 400 rows"),
        ("return 0.0", "metric of the source itself is 0"),
    ],
)
def test_metrics_that_do_not_work_are_refused(labels, metric, body, words):
    with pytest.raises(UsageError, match=words) as caught:
        scored(scores(), scores(), labels(), metric(body))

    assert caught.value.fix


def test_a_metric_that_is_not_there_is_refused(labels, metric):
    good = metric("return 1.0")
    with pytest.raises(UsageError, match="--metric: there is no module 'nowhere_at_all'"):
        scored(scores(), scores(), labels(), "nowhere_at_all:metric")
    with pytest.raises(UsageError, match="has no callable 'other'"):
        scored(scores(), scores(), labels(), good.replace(":metric", ":other"))
    with pytest.raises(LoadError, match=r"--metric: importing .* failed: SyntaxError"):
        scored(scores(), scores(), labels(), metric("return ("))


# The gate


@pytest.fixture
def gated(tmp_path):
    """Judge an artifact by a gate, each row a case; in a worker where `workers` are given."""

    def store(name, answers):
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{f"user-{i}/out": answers[i : i + 1] for i in range(len(answers))})
        return Outputs(str(path), tuple(f"user-{i}" for i in range(len(answers))), ("out",))

    def run(source, artifact, gate, workers=None, data="the inputs file"):
        names = tuple(f"user-{i}" for i in range(len(source)))
        rows = 0 if data == GENERATED else len(source)
        cases = CaseSet("", tuple((name, ()) for name in names), evaluation=names, data=data, rows=rows)
        job = (parity.Reference(store("source", source), None), store("artifact", artifact), cases)
        binding = Binding((), (("out", "out"),), ())
        if workers is None:
            return judge(*job, binding, "int8", gate)
        return assess(workers, *job, binding, "int8", gate, "tflite-int8")

    return run


def test_the_lower_bound_decides_not_the_mean(gated, labels):
    """Three of 380 right answers lost is 0.8 %, and no proof of less than 1 %."""
    lost = gated(scores(range(20)), scores(range(23)), QualityGate(labels=labels()))
    few = gated(scores(range(20)), scores(range(21)), QualityGate(labels=labels()))

    assert lost.metric.kept > 0.99
    assert lost.status is Status.FAIL
    assert lost.reason.startswith("quantization loss: top-1 accuracy 0.9425 of the source's 0.95")
    assert few.status is Status.PASS


def test_the_drop_that_is_allowed_can_be_stated(gated, labels):
    artifact = scores(range(60))

    assert gated(scores(range(20)), artifact, QualityGate(labels=labels())).status is Status.FAIL
    assert gated(scores(range(20)), artifact, QualityGate(labels=labels(), max_accuracy_drop=0.2)).status is Status.PASS


def test_with_labels_sqnr_and_agreement_are_told_and_only_judged_where_stated(gated, labels):
    loud = scores() * 3  # every answer right, and 2 dB away from the source's numbers

    by_labels = gated(scores(), loud, QualityGate(labels=labels()))
    stated = gated(scores(), loud, QualityGate(labels=labels(), min_sqnr_db=20))

    assert by_labels.status is Status.PASS
    assert by_labels.sqnr_db < 0
    assert by_labels.min_sqnr_db is None
    assert by_labels.outputs[0].agreement.flips == 0
    assert stated.status is Status.FAIL
    assert "SQNR" in stated.reason


def test_an_artifact_whose_answers_are_broken_fails_before_any_metric(gated, labels):
    found = gated(scores(), np.full_like(scores(), np.nan), QualityGate(labels=labels()))

    assert found.status is Status.FAIL
    assert found.metric is None


def test_generated_inputs_have_no_right_answers(gated, labels):
    with pytest.raises(UsageError, match="--labels needs real inputs"):
        gated(scores(), scores(), QualityGate(labels=labels()), data=GENERATED)


def test_the_users_metric_runs_in_a_process_of_its_own(gated, metric, tmp_path):
    import sys

    body = "return (outputs['out'].argmax(1) == np.arange(400) % 10).astype(float)"
    gate = QualityGate(metric=metric(body, "nowhere_else"))
    with Workers(tmp_path / "stages", Limits(60, 2**31)) as workers:
        found = gated(scores(range(20)), scores(range(40)), gate, workers)

    assert found.metric.actual == 0.9
    assert found.status is Status.FAIL
    assert not any("nowhere_else" in name for name in sys.modules)


def test_a_metric_that_ends_its_process_is_an_error_of_its_stage(gated, metric, tmp_path):
    from convert.errors import WorkerCrashed

    with (
        Workers(tmp_path / "stages", Limits(60, 2**31)) as workers,
        pytest.raises(WorkerCrashed, match="metric-tflite"),
    ):
        gated(scores(), scores(), QualityGate(metric=metric("import os; os._exit(3)")), workers)


def test_labels_and_metrics_that_do_not_fit_show_before_anything_is_made(tmp_path, labels, metric):
    np.savez(tmp_path / "source.npz", **{f"user-{i}/out": scores()[i : i + 1] for i in range(ROWS)})
    names = tuple(f"user-{i}" for i in range(ROWS))
    reference = parity.Reference(Outputs(str(tmp_path / "source.npz"), names, ("out",)), None)
    cases = CaseSet("", tuple((name, ()) for name in names), evaluation=names, data="the inputs file", rows=ROWS)

    with Workers(tmp_path / "stages", Limits(60, 2**31)) as workers:
        rehearse(workers, reference, cases, QualityGate())
        rehearse(workers, reference, cases, QualityGate(labels=labels()))
        with pytest.raises(UsageError, match="has 399 rows"):
            rehearse(workers, reference, cases, QualityGate(labels=labels(RIGHT[1:])))
        with pytest.raises(UsageError, match="failed: KeyError"):
            rehearse(workers, reference, cases, QualityGate(metric=metric("return outputs['nothing']")))


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"min_agreement": 99.0}, "--min-agreement 99 is no share"),
        ({"min_agreement": float("nan")}, "--min-agreement nan is no share"),
        ({"max_accuracy_drop": -0.1, "metric": "a:b"}, "--max-accuracy-drop -0.1 is no share"),
        ({"max_accuracy_drop": 0.1}, "has no metric to judge"),
        ({"min_sqnr_db": float("inf")}, "--min-sqnr-db inf is no threshold"),
        ({"metric": "scoring"}, "cannot read --metric 'scoring'"),
        ({"labels": "nothing.npy"}, r"there is no file nothing\.npy"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(gate, words):
    with pytest.raises(UsageError, match=words) as caught:
        check_gate(QualityGate(**gate), inputs=True)

    assert caught.value.fix


def test_labels_belong_to_rows_of_an_inputs_file(labels):
    gate = QualityGate(labels=labels(), max_accuracy_drop=0.0)

    check_gate(gate, inputs=True)
    with pytest.raises(UsageError, match="right answers to rows of --inputs"):
        check_gate(gate, inputs=False)


# Rows


def test_with_labels_more_rows_of_the_inputs_file_are_run(tmp_path):
    from convert.spec import Signature, TensorSpec

    which = Signature((TensorSpec.parse("x:float32[batch,2]"),), ())
    user = {"x": np.arange(4000, dtype=np.float32).reshape(2000, 2)}

    few = collect(which, 0, user, tmp_path / "few.npz")
    many = collect(which, 0, user, tmp_path / "many.npz", most=LABELLED_ROWS)

    assert (len(few.evaluation), len(many.evaluation)) == (256, 1024)
    assert few.rows == many.rows == 2000
    assert collect(which, 0, None, tmp_path / "none.npz").rows == 0
