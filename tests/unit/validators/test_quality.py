"""Quality of reduced artifacts: what is measured, what is judged on which rows, and with how much certainty."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from convert.spec import QualityGate
from validators import parity, tolerance
from validators.confidence import lower_ratio, resampled, upper_share
from validators.inputs import GENERATED, CaseSet
from validators.quality import Quality, judge
from validators.runtimes import Outputs
from validators.structure import Binding
from validators.verdict import Status

ROWS = 100
RNG = np.random.default_rng(0)
#: Scores of ten classes, the top one well ahead.
SCORES = RNG.standard_normal((ROWS, 10)) + 6 * np.eye(10)[RNG.integers(0, 10, ROWS)]
NO_GATE = QualityGate()


def flipped(scores: np.ndarray, rows: int) -> np.ndarray:
    """Swap the two largest scores of the first rows."""
    changed = scores.copy()
    for row in changed[:rows]:
        first, second = row.argsort()[::-1][:2]
        row[[first, second]] = row[[second, first]]
    return changed


@pytest.fixture
def judged(tmp_path):
    """Judge made-up outputs, by name an array whose first axis is the rows; each row is a case of batch 1."""

    def store(name: str, outputs: dict[str, np.ndarray], failures=()) -> Outputs:
        rows = len(next(iter(outputs.values())))
        arrays = {f"user-{i}/{key}": array[i : i + 1] for key, array in outputs.items() for i in range(rows)}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return Outputs(
            str(tmp_path / f"{name}.npz"), tuple(f"user-{i}" for i in range(rows)), tuple(outputs), tuple(failures)
        )

    def run(
        source,
        artifact,
        *,
        precision="int8",
        gate=NO_GATE,
        oracle=None,
        data="the inputs file",
        fixed=(),
        evaluation=None,
        failures=(),
        source_failures=(),
        rows=None,
    ) -> Quality:
        source, artifact = ({"out": o} if isinstance(o, np.ndarray) else o for o in (source, artifact))
        oracle = {"out": oracle} if isinstance(oracle, np.ndarray) else oracle
        names = tuple(f"user-{i}" for i in range(len(next(iter(source.values())))))
        cases = CaseSet(
            "",
            tuple((name, (("batch", 1),)) for name in names),
            evaluation=names if evaluation is None else evaluation,
            data=data,
            rows=len(names) if rows is None else rows,
        )
        native = {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in source.items()
        }
        actual = {
            name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in artifact.items()
        }
        reference = parity.Reference(
            store("source", native, source_failures), store("oracle", oracle or source) if oracle is not False else None
        )
        binding = Binding((), tuple((name, name) for name in source), fixed)
        return judge(reference, store("artifact", actual, failures), cases, binding, precision, gate)

    return run


def noisy(signal: np.ndarray, decibels: float) -> np.ndarray:
    """Add noise of which the signal has this SQNR."""
    noise = np.random.default_rng(1).standard_normal(signal.shape)
    return signal + noise * np.sqrt((signal**2).sum() / (noise**2).sum() / 10 ** (decibels / 10))


# SQNR


@pytest.mark.parametrize("decibels", [5.0, 19.0, 21.0, 60.0])
def test_the_sqnr_is_the_power_of_the_signal_over_that_of_the_error(judged, decibels):
    found = judged(SCORES, noisy(SCORES, decibels))

    assert found.outputs[0].sqnr_db == pytest.approx(decibels, abs=0.01)
    assert found.sqnr_db == found.outputs[0].sqnr_db


def test_the_error_is_measured_against_float64_where_it_runs(judged):
    off = SCORES * 1.01

    assert judged(off, SCORES, oracle=SCORES).outputs[0].sqnr_db > 120
    assert judged(off, SCORES, oracle=False).outputs[0].sqnr_db == pytest.approx(40, abs=0.2)
    assert judged(off, SCORES, oracle=False).outputs[0].basis == "the source at its own precision"


@pytest.mark.parametrize("precision", tolerance.MIN_SQNR_DB)
def test_every_precision_has_its_least_sqnr(judged, precision):
    least = tolerance.MIN_SQNR_DB[precision]

    assert judged(SCORES, noisy(SCORES, least + 0.5), precision=precision).status is Status.PASS
    failed = judged(SCORES, noisy(SCORES, least - 0.5), precision=precision)
    assert failed.status is Status.FAIL
    assert f"at least {least:g}" in failed.reason


def test_a_stated_sqnr_replaces_that_of_the_precision(judged):
    artifact = noisy(SCORES, 30)

    assert judged(SCORES, artifact, gate=QualityGate(min_sqnr_db=31)).status is Status.FAIL
    assert judged(SCORES, noisy(SCORES, 15), gate=QualityGate(min_sqnr_db=14, min_agreement=0)).status is Status.PASS


def test_the_worst_output_decides(judged):
    found = judged({"good": SCORES, "bad": SCORES}, {"good": SCORES, "bad": noisy(SCORES, 3)})

    assert [output.status for output in found.outputs] == [Status.PASS, Status.FAIL]
    assert found.status is Status.FAIL
    assert found.reason.startswith("quantization loss: bad: SQNR 3.0 dB")


def test_the_worst_case_is_named(judged):
    artifact = noisy(SCORES, 40)
    artifact[7] += 3

    found = judged(SCORES, artifact).outputs[0]

    assert found.worst_case == "user-7"
    assert found.worst_db < found.sqnr_db


def test_no_error_at_all_passes_without_a_number(judged):
    exact = SCORES.astype(np.float32)
    found = judged(exact, exact, oracle=exact)

    assert found.status is Status.PASS
    assert found.sqnr_db is None
    assert "no error at all" in found.reason


def test_an_error_where_the_source_is_zero_fails(judged):
    zeros = np.zeros((ROWS, 1))

    assert judged(zeros, zeros).status is Status.PASS
    assert "zero everywhere" in judged(zeros, zeros + 1).reason


def test_infinities_of_the_source_count_as_no_error(judged):
    masked = SCORES.copy()
    masked[:, 3] = -np.inf
    artifact = noisy(SCORES, 30)
    artifact[:, 3] = -np.inf

    assert judged(masked, artifact, oracle=masked).status is Status.PASS


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_fails(judged, value):
    artifact = SCORES.copy()
    artifact[5, 0] = value

    found = judged(SCORES, artifact)

    assert found.status is Status.FAIL
    assert "is not finite on case user-5" in found.reason


def test_another_shape_or_kind_of_number_fails(judged):
    assert "has the shape [1, 9]" in judged(SCORES, SCORES[:, :9]).reason
    assert "is int8 on case user-0, expected float64" in judged(SCORES, SCORES.astype(np.int8)).reason


def test_a_missing_answer_fails(judged):
    found = judged({"out": SCORES, "more": SCORES}, {"out": SCORES})

    assert found.status is Status.FAIL
    assert "more: is missing" in found.reason


# Top answers


def test_one_changed_answer_alone_is_no_failure_and_two_of_a_hundred_are(judged):
    statuses = [judged(SCORES, flipped(SCORES, rows), gate=QualityGate(min_sqnr_db=0)).status for rows in (0, 1, 2)]

    assert statuses == [Status.PASS, Status.PASS, Status.FAIL]


def test_what_so_few_rows_prove_is_said(judged):
    assert "0 flips in 100 is at most 3.0% at 95%" in judged(SCORES, noisy(SCORES, 50)).reason


def test_a_stated_agreement_is_taken_at_its_word(judged):
    def run(agreement, rows):
        return judged(SCORES, flipped(SCORES, rows), gate=QualityGate(min_agreement=agreement, min_sqnr_db=0)).status

    assert (run(1.0, 0), run(1.0, 1)) == (Status.PASS, Status.FAIL)
    assert (run(0.9, 10), run(0.9, 11)) == (Status.PASS, Status.FAIL)


def test_rows_that_the_sources_own_noise_decides_do_not_count(judged):
    tied = SCORES.copy()
    tied[:30, :2] = 20  # two classes equal
    own = tied.copy()
    own[:30, 0] += 1e-3
    artifact = tied.copy()
    artifact[:30, 1] += 1e-3

    found = judged(own, artifact, oracle=tied)

    assert found.outputs[0].agreement.rows == 70
    assert found.outputs[0].agreement.flips == 0
    assert found.status is Status.PASS


def test_without_an_oracle_a_tolerance_stands_for_the_noise(judged):
    tied = SCORES.copy()
    tied[:30, 0], tied[:30, 1] = 20, 20.001

    assert judged(tied, tied, oracle=False).outputs[0].agreement.rows == 70


def test_on_generated_inputs_agreement_is_told_and_not_judged(judged):
    found = judged(SCORES, flipped(SCORES, 50), data=GENERATED, gate=QualityGate(min_sqnr_db=0))

    assert found.status is Status.PASS
    assert found.outputs[0].agreement.flips == 50
    assert found.agreement is None
    assert any("50 flips in 100" in note and "generated inputs" in note for note in found.notes)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (RNG.standard_normal((ROWS, 64)), "no scores of classes"),
        (np.tanh(3 * RNG.standard_normal((ROWS, 64))), "no scores of classes"),
        (np.tile(SCORES[:, None], (1, 5, 1)), "more than two axes"),
    ],
    ids=["embedding", "pooled", "sequence"],
)
def test_outputs_that_are_no_scores_of_classes_are_not_judged_by_agreement(judged, output, why):
    changed = flipped(output.reshape(-1, output.shape[-1]), 50).reshape(output.shape)

    found = judged(output, changed, gate=QualityGate(min_sqnr_db=0))
    stated = judged(output, changed, gate=QualityGate(min_sqnr_db=0, min_agreement=0.99))

    assert found.status is Status.PASS
    assert why in found.outputs[0].agreement.why_not
    assert stated.status is Status.FAIL


def test_outputs_of_one_number_have_no_top_answer(judged):
    assert judged(SCORES[:, :1], noisy(SCORES[:, :1], 30)).outputs[0].agreement is None


def test_few_rows_are_judged_by_their_sqnr_alone(judged):
    found = judged(SCORES[:19], noisy(SCORES[:19], 40))

    assert found.status is Status.PASS
    assert found.outputs[0].agreement.why_not == "19 rows are too few"


def test_integers_of_one_per_row_are_answers(judged):
    answers = SCORES.argmax(axis=1)
    wrong = answers.copy()
    wrong[:2] += 1

    assert judged(answers, answers).status is Status.PASS
    assert judged(answers, wrong).status is Status.FAIL
    assert judged(answers, wrong, data=GENERATED).status is Status.NOT_RUN


def test_integers_of_many_per_row_are_told_only(judged):
    answers = (SCORES * 10).astype(np.int64)

    found = judged(answers, answers + 1)

    assert found.status is Status.NOT_RUN
    assert found.outputs[0].agreement.share == 0


# What cannot be judged


def test_without_rows_nothing_is_judged(judged):
    assert judged(SCORES, SCORES, evaluation=()).status is Status.NOT_RUN
    found = judged(SCORES, SCORES, fixed=(("batch", 4),))
    assert found.status is Status.NOT_RUN
    assert "fixed to (batch=4)" in found.reason


def test_only_the_rows_for_judging_count(judged):
    artifact = SCORES.copy()
    artifact[0] += 1000

    assert judged(SCORES, artifact, evaluation=tuple(f"user-{i}" for i in range(1, ROWS))).status is Status.PASS


def test_cases_that_do_not_run_are_no_pass(judged):
    failed = judged(SCORES, SCORES, failures=[("user-3", "boom")])
    broken = judged(SCORES, SCORES, source_failures=[("user-3", "boom")])

    assert (failed.status, broken.status) == (Status.FAIL, Status.NOT_RUN)
    assert "user-3: boom" in failed.reason


def test_the_result_survives_its_way_out_of_a_worker(judged):
    found = judged(SCORES, noisy(SCORES, 30))

    assert msgspec.json.decode(msgspec.json.encode(found), type=Quality) == found
    assert dataclasses.is_dataclass(found)


# Confidence


@pytest.mark.parametrize(
    ("found", "rows", "bound"),
    # The 95 % quantile of the beta distribution with found + 1 and rows - found, as SciPy gives it.
    [
        (0, 1, 0.95),
        (0, 64, 0.045729702),
        (1, 64, 0.071989755),
        (5, 50, 0.198833003),
        (64, 64, 1.0),
        (300, 1000, 0.324753613),
    ],
)
def test_the_bound_on_a_share_is_clopper_and_pearsons(found, rows, bound):
    assert upper_share(found, rows) == pytest.approx(bound, abs=1e-8)


def test_the_bootstraps_bound_is_near_the_normal_one_and_the_same_every_time():
    rng = np.random.default_rng(3)
    above, below = 1 + 0.1 * rng.standard_normal(400), np.ones(400)

    expected = above.mean() - 1.645 * above.std() / 20
    assert lower_ratio(above, below) == pytest.approx(expected, abs=0.002)
    assert lower_ratio(above, below) == lower_ratio(above, below)
    assert resampled(400, lambda rows: float(above[rows].mean())) == pytest.approx(expected, abs=0.003)


def test_the_bound_is_of_pairs_so_what_both_lack_costs_nothing():
    right = (np.arange(50) % 3 == 0).astype(float)

    assert lower_ratio(right, right) == 1
