"""Numerical parity, on answers of networks that are computed here: what passes, what fails, what proves nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from validators import parity
from validators.verdict import Status

RNG = np.random.default_rng(0)
CASES = tuple(f"case-{i}" for i in range(16))
INPUTS = {case: RNG.standard_normal((1, 64)) for case in CASES}
HIDDEN, LAST = RNG.standard_normal((64, 32)) / 8, RNG.standard_normal((32, 10)) / 6


def answer(inputs=INPUTS, dtype="float32", *, weights=1.0, order=1, shift=0.0):
    """Run a network of two layers: `order` of the sums, `weights` that are off, and a `shift` added and taken away."""
    answers = {}
    for case, x in inputs.items():
        hidden = np.maximum(x.astype(dtype)[:, ::order] @ (HIDDEN * weights).astype(dtype)[::order], 0)
        logits = hidden[:, ::order] @ (LAST * weights).astype(dtype)[::order]
        answers[case] = {"logits": (logits + np.array(shift, dtype)) - np.array(shift, dtype)}
    return answers


def changed(answers, change, cases=CASES, output="logits"):
    """Copy answers with `change` applied to one output of some cases."""
    return {
        case: {
            name: np.asarray(change(array)) if case in cases and name == output else array
            for name, array in outputs.items()
        }
        for case, outputs in answers.items()
    }


def beside(answers, name, array):
    """Copy answers with one more output, the same in every case."""
    return {case: {**outputs, name: array} for case, outputs in answers.items()}


SOURCE = answer()
ORACLE = answer(dtype="float64")
RIGHT = answer(order=-1)  # sums in the other order: rounds differently, computes the same


def findings(verdict, check):
    return [finding for finding in verdict.findings if finding.check == check]


# What is right


def test_equal_answers_pass(judge):
    verdict = judge(SOURCE, SOURCE, ORACLE)

    assert verdict.status is Status.PASS
    assert verdict.outputs[0].ratio == 1


def test_the_answers_used_here_do_round_differently():
    assert any((SOURCE[case]["logits"] != RIGHT[case]["logits"]).any() for case in CASES)


def test_float32_rounding_in_another_order_passes(judge):
    verdict = judge(SOURCE, RIGHT, ORACLE)

    assert verdict.status is Status.PASS
    assert 0.5 < verdict.outputs[0].ratio < 2
    assert "16 cases, judged by R against float64" in verdict.reason


def test_weights_that_are_off_by_a_thousandth_fail(judge):
    verdict = judge(SOURCE, answer(weights=1.001), ORACLE)

    assert verdict.status is Status.FAIL
    assert verdict.outputs[0].ratio > 1000


def test_weights_that_are_off_by_a_hundred_thousandth_fail(judge):
    assert judge(SOURCE, answer(weights=1.00001), ORACLE).status is Status.FAIL


def test_an_ill_conditioned_source_passes_at_its_own_noise(judge):
    source, artifact = answer(shift=3e4), answer(order=-1, shift=2.9e4)

    verdict = judge(source, artifact, ORACLE)

    (logits,) = verdict.outputs
    assert logits.scaled_max > 1e-4, "a fixed tolerance would refuse this one"
    assert verdict.status is Status.PASS


def test_an_ill_conditioned_source_fails_at_a_hundred_times_its_noise(judge):
    source = answer(shift=3e4)
    noise = math.sqrt(np.mean([np.square(source[c]["logits"] - ORACLE[c]["logits"]).mean() for c in CASES]))
    rng = np.random.default_rng(1)
    artifact = changed(source, lambda a: (a + 100 * noise * rng.standard_normal(a.shape)).astype("float32"))

    verdict = judge(source, artifact, ORACLE)

    assert verdict.status is Status.FAIL
    assert 50 < verdict.outputs[0].ratio < 200


def test_a_source_without_any_rounding_of_its_own_allows_some(judge):
    whole = {case: {"logits": np.round(ORACLE[case]["logits"] * 100).astype("float32")} for case in CASES}
    oracle = changed(whole, lambda a: a.astype("float64"))
    artifact = changed(whole, lambda a: np.nextafter(a, np.float32(np.inf), where=a != 0, out=a.copy()))

    verdict = judge(whole, artifact, oracle)

    assert verdict.outputs[0].reference_noise_rmse == 0
    assert verdict.outputs[0].ratio is None
    assert verdict.status is Status.PASS


def test_a_source_without_any_rounding_of_its_own_allows_no_fault(judge):
    whole = {case: {"logits": np.round(ORACLE[case]["logits"] * 100).astype("float32")} for case in CASES}
    oracle = changed(whole, lambda a: a.astype("float64"))

    assert judge(whole, changed(whole, lambda a: a * np.float32(1.0001)), oracle).status is Status.FAIL


def test_outputs_are_found_under_the_artifacts_own_names(judge):
    artifact = {case: {"Identity": outputs["logits"]} for case, outputs in RIGHT.items()}

    verdict = judge(SOURCE, artifact, ORACLE, renamed={"logits": "Identity"})

    assert verdict.status is Status.PASS
    assert verdict.outputs[0].name == "logits"


# Faults that hide


def test_a_fault_in_one_case_of_small_scale_is_caught(judge):
    inputs = {**INPUTS, "case-7": INPUTS["case-7"] * 1e-4}
    source, oracle, right = answer(inputs), answer(inputs, "float64"), answer(inputs, order=-1)
    artifact = changed(right, lambda a: a * np.float32(1.002), cases=("case-7",))

    verdict = judge(source, artifact, oracle)

    assert judge(source, right, oracle).status is Status.PASS
    assert verdict.outputs[0].rmse < 1e-6 * verdict.outputs[0].reference_rms, "small beside the other cases"
    assert verdict.status is Status.FAIL
    assert "case-7" in verdict.reason


def test_a_fault_in_one_element_is_caught_and_located(judge):
    def break_one(a):
        a = a.copy()
        a[0, 3] += 0.01
        return a

    verdict = judge(SOURCE, changed(RIGHT, break_one, cases=("case-5",)), ORACLE)

    assert verdict.status is Status.FAIL
    worst = verdict.outputs[0].worst
    assert (worst.case, worst.index) == ("case-5", (0, 3))
    assert worst.expected == ORACLE["case-5"]["logits"][0, 3]
    assert worst.actual == pytest.approx(worst.expected + 0.01, abs=1e-6)


def test_a_fault_in_the_second_output_is_not_hidden_by_the_first(judge):
    def twice(answers):
        return {case: {"logits": o["logits"], "scores": o["logits"] * 2} for case, o in answers.items()}

    broken = changed(twice(RIGHT), lambda a: a * np.float32(1.001), output="scores")

    verdict = judge(twice(SOURCE), broken, twice(ORACLE))

    assert [output.status for output in verdict.outputs] == [Status.PASS, Status.FAIL]
    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("scores: ")


# Cases on which the source itself is chaotic


def drowned(answers, cases, seed):
    """Add an error as large as the answers to some cases, as networks do that divide by almost nothing."""
    rng = np.random.default_rng(seed)
    return changed(answers, lambda a: (a + rng.standard_normal(a.shape)).astype("float32"), cases)


def test_a_chaotic_case_is_set_aside_and_said(judge):
    verdict = judge(drowned(SOURCE, ["case-5"], 1), drowned(RIGHT, ["case-5"], 2), ORACLE)

    assert verdict.status is Status.PASS
    (said,) = findings(verdict, "chaos")
    assert "case-5" in said.message


def test_a_chaotic_case_does_not_drown_a_fault_in_the_others(judge):
    broken = drowned(answer(weights=1.0001), ["case-5"], 2)

    assert judge(drowned(SOURCE, ["case-5"], 1), broken, ORACLE).status is Status.FAIL


def test_a_fault_far_beyond_the_chaos_is_caught(judge):
    broken = changed(RIGHT, lambda a: a + np.float32(100), ["case-5"])

    verdict = judge(drowned(SOURCE, ["case-5"], 1), broken, ORACLE)

    assert verdict.status is Status.FAIL
    assert "case-5" in verdict.reason


def test_a_source_that_is_chaotic_on_many_cases_has_none_set_aside(judge):
    many = CASES[:6]

    verdict = judge(drowned(SOURCE, many, 1), drowned(RIGHT, many, 2), ORACLE)

    assert not findings(verdict, "chaos")
    assert verdict.outputs[0].ratio == pytest.approx(1, rel=0.5)


def test_an_artifact_that_is_chaotic_where_its_source_is_not_fails(judge):
    assert judge(SOURCE, drowned(RIGHT, ["case-5"], 2), ORACLE).status is Status.FAIL


# One case that holds most of the source's rounding


def off(answers, cases, size, seed):
    """Add normal errors of a size to some cases."""
    rng = np.random.default_rng(seed)
    return changed(answers, lambda a: (a + size * rng.standard_normal(a.shape)).astype("float32"), cases)


def test_one_case_that_holds_most_of_the_sources_rounding_does_not_decide_the_ratio(judge):
    verdict = judge(off(SOURCE, ["case-5"], 1e-4, 1), off(RIGHT, ["case-5"], 4e-3, 2), ORACLE)

    assert verdict.status is Status.PASS
    assert verdict.outputs[0].set_aside == ("case-5",)
    assert verdict.outputs[0].ratio < 2
    assert "case-5" in findings(verdict, "chaos")[0].message


def test_such_a_case_is_still_held_against_the_bound_of_a_single_one(judge):
    verdict = judge(off(SOURCE, ["case-5"], 1e-4, 1), off(RIGHT, ["case-5"], 4e-2, 2), ORACLE)

    assert verdict.status is Status.FAIL
    assert "case-5" in verdict.reason


def test_such_a_case_does_not_excuse_a_fault_in_the_others(judge):
    broken = off(answer(weights=1.0001), ["case-5"], 4e-3, 2)

    assert judge(off(SOURCE, ["case-5"], 1e-4, 1), broken, ORACLE).status is Status.FAIL


def test_a_case_on_which_only_the_artifact_errs_is_not_set_aside(judge):
    verdict = judge(SOURCE, off(RIGHT, ["case-5"], 2e-5, 2), ORACLE)

    assert verdict.status is Status.FAIL
    assert verdict.outputs[0].set_aside == ()


# Constant inputs, on which the source may round by luck to nothing

TWIN = {"case-5": "beside-case-5"}


def exact(size):
    """Give a source without any error on case 5, and with one of a size one rounding beside it, and its oracle."""
    source, oracle = dict(SOURCE), dict(ORACLE)
    oracle["case-5"] = {"logits": SOURCE["case-5"]["logits"].astype("float64")}
    oracle[TWIN["case-5"]] = oracle["case-5"]
    source[TWIN["case-5"]] = off(SOURCE, ["case-5"], size, 3)["case-5"]
    return source, oracle


def test_a_source_that_is_exact_by_luck_is_measured_one_rounding_beside(judge):
    source, oracle = exact(1e-4)
    artifact = off(RIGHT, ["case-5"], 2e-4, 2)

    assert judge(source, artifact, oracle).status is Status.FAIL
    assert judge(source, artifact, oracle, twins=TWIN).status is Status.PASS


def test_a_fault_on_a_constant_input_is_caught_where_the_source_is_as_exact_beside(judge):
    source, oracle = exact(1e-7)

    assert judge(source, off(RIGHT, ["case-5"], 2e-4, 2), oracle, twins=TWIN).status is Status.FAIL


def test_a_constant_case_on_which_only_the_artifact_errs_counts_by_itself(judge):
    artifact = off(RIGHT, ["case-5"], 1e-5, 2)
    twin = {case: {**answers, TWIN["case-5"]: answers["case-5"]} for case, answers in (("s", SOURCE), ("o", ORACLE))}

    assert judge(SOURCE, artifact, ORACLE).status is Status.FAIL
    assert judge(twin["s"], artifact, twin["o"], twins=TWIN).outputs[0].set_aside == ("case-5",)


def test_what_the_source_errs_beside_a_constant_input_does_not_drown_a_fault_in_the_others(judge):
    source, oracle = exact(1e-2)

    assert judge(source, answer(weights=1.00001), oracle, twins=TWIN).status is Status.FAIL


# Without float64


def test_without_float64_a_named_tolerance_applies_and_is_said(judge):
    verdict = judge(SOURCE, RIGHT)

    assert verdict.status is Status.PASS
    (logits,) = verdict.outputs
    assert (logits.basis, logits.ratio) == ("scaled_max_fp32", None)
    assert logits.bound == 1e-4
    assert "tolerance, because float64 does not run here" in verdict.reason


@pytest.mark.parametrize(("factor", "status"), [(1 + 5e-5, Status.PASS), (1 + 5e-4, Status.FAIL)])
def test_without_float64_the_largest_error_is_held_against_the_largest_magnitude(judge, factor, status):
    assert judge(SOURCE, changed(SOURCE, lambda a: a * np.float32(factor))).status is status


def test_without_float64_weights_that_are_off_by_a_thousandth_fail(judge):
    assert judge(SOURCE, answer(weights=1.001)).status is Status.FAIL


# Integers


def labels(answers, dtype="int64"):
    return {case: {"label": o["logits"].argmax(-1).astype(dtype)} for case, o in answers.items()}


def test_equal_integers_pass(judge):
    verdict = judge(labels(SOURCE), labels(RIGHT), labels(ORACLE))

    assert verdict.status is Status.PASS
    assert verdict.outputs[0].basis == "equality"


def test_one_integer_that_is_off_by_one_fails(judge):
    artifact = changed(labels(SOURCE), lambda a: a + 1, cases=("case-3",), output="label")

    verdict = judge(labels(SOURCE), artifact, labels(ORACLE))

    assert verdict.status is Status.FAIL
    assert "1 of 16 integers differ" in verdict.reason
    assert verdict.outputs[0].worst.case == "case-3"


def test_an_integer_on_which_the_sources_own_precisions_disagree_decides_nothing(judge):
    oracle = changed(labels(ORACLE), lambda a: a + 1, cases=("case-3",), output="label")

    assert judge(labels(SOURCE), changed(labels(SOURCE), lambda a: a + 2, ("case-3",), "label"), oracle).status is (
        Status.PASS
    )


def places(answers):
    """Give the places of the ten largest of each case, as a detector gives its boxes."""
    return {case: {"places": np.argsort(-o["logits"], axis=-1)} for case, o in answers.items()}


def tied(answers, cases, count):
    """Shift the first `count` of ten places around, as a choice among equals may."""
    return changed(answers, lambda a: np.concatenate([np.roll(a[:, :count], 1, 1), a[:, count:]], 1), cases, "places")


def test_among_ties_an_artifact_may_change_as_many_others_as_rounding_does(judge):
    source, oracle = places(SOURCE), tied(places(SOURCE), ["case-3"], 4)
    artifact = changed(source, lambda a: np.concatenate([a[:, :6], np.roll(a[:, 6:], 1, 1)], 1), ["case-3"], "places")

    verdict = judge(source, artifact, oracle)

    assert verdict.status is Status.PASS
    assert "4 that the source's own rounding decides" in verdict.outputs[0].reason


def test_among_ties_an_artifact_may_not_change_more_than_rounding_does(judge):
    source, oracle = places(SOURCE), tied(places(SOURCE), ["case-3"], 2)
    artifact = changed(source, lambda a: np.concatenate([a[:, :6], np.roll(a[:, 6:], 1, 1)], 1), ["case-3"], "places")

    assert judge(source, artifact, oracle).status is Status.FAIL


def test_ties_in_one_case_excuse_no_other(judge):
    source, oracle = places(SOURCE), tied(places(SOURCE), ["case-3"], 8)

    assert judge(source, tied(source, ["case-4"], 2), oracle).status is Status.FAIL


@pytest.mark.parametrize("count", range(11))
def test_integers_that_are_all_off_by_one_never_pass_however_many_ties_there_are(judge, count):
    source, oracle = places(SOURCE), tied(places(SOURCE), CASES, count)
    wrong = changed(source, lambda a: a + 1, output="places")

    assert judge(source, wrong, oracle).status is not Status.PASS


def test_integers_that_rounding_decides_for_the_most_part_prove_nothing(judge):
    source = places(SOURCE)

    assert judge(source, source, tied(source, CASES, 5)).status is Status.NOT_RUN
    assert judge(source, source, tied(source, CASES, 4)).status is Status.PASS


def test_integers_narrowed_to_32_bits_are_still_compared(judge):
    assert judge(labels(SOURCE), labels(RIGHT, "int32"), labels(ORACLE)).status is Status.PASS
    wrong = changed(labels(RIGHT, "int32"), lambda a: a + 1, output="label")
    assert judge(labels(SOURCE), wrong, labels(ORACLE)).status is Status.FAIL


def test_booleans_are_compared_exactly(judge):
    def positive(answers):
        return {case: {"mask": o["logits"] > 0} for case, o in answers.items()}

    flipped = changed(positive(SOURCE), np.logical_not, cases=("case-9",), output="mask")

    assert judge(positive(SOURCE), positive(RIGHT), positive(ORACLE)).status is Status.PASS
    assert judge(positive(SOURCE), flipped, positive(ORACLE)).status is Status.FAIL


def test_integers_that_never_change_prove_nothing(judge):
    same = {case: {"label": np.zeros(1, "int64")} for case in CASES}

    assert judge(same, same, same).status is Status.NOT_RUN


# NaN and infinity


def put(value, at=(0, 0)):
    def change(a):
        a = a.copy()
        a[at] = value
        return a

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_the_same_places_on_both_sides_passes(judge, value):
    sides = [changed(answers, put(value)) for answers in (SOURCE, RIGHT, ORACLE)]

    assert judge(*sides).status is Status.PASS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_the_artifact_only_fails(judge, value):
    verdict = judge(SOURCE, changed(RIGHT, put(value, (0, 4)), cases=("case-2",)), ORACLE)

    assert verdict.status is Status.FAIL
    assert "in other places" in verdict.reason
    assert "[0, 4]" in verdict.reason
    assert "case-2" in verdict.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_the_source_only_fails(judge, value):
    assert judge(changed(SOURCE, put(value)), RIGHT, ORACLE).status is Status.FAIL


def test_an_infinity_of_the_other_sign_fails(judge):
    sides = (changed(SOURCE, put(np.inf)), changed(RIGHT, put(-np.inf)), changed(ORACLE, put(np.inf)))

    assert judge(*sides).status is Status.FAIL


def test_nan_against_infinity_fails(judge):
    sides = (changed(SOURCE, put(np.inf)), changed(RIGHT, put(np.nan)), changed(ORACLE, put(np.inf)))

    assert judge(*sides).status is Status.FAIL


def test_all_nan_on_both_sides_is_no_agreement(judge):
    nothing = changed(SOURCE, lambda a: np.full_like(a, np.nan))

    assert judge(nothing, nothing, changed(ORACLE, lambda a: np.full_like(a, np.nan))).status is not Status.PASS


def test_all_nan_beside_an_output_that_varies_is_no_agreement(judge):
    def with_nan(answers):
        return beside(answers, "scores", np.full((1, 10), np.nan, answers["case-0"]["logits"].dtype))

    assert judge(with_nan(SOURCE), with_nan(RIGHT), with_nan(ORACLE)).status is not Status.PASS


def test_an_output_that_float64_could_not_compute_is_not_taken_for_agreement(judge):
    def twice(answers):
        return {case: {**o, "scores": o["logits"] * 2} for case, o in answers.items()}

    oracle = changed(twice(ORACLE), lambda a: np.full_like(a, np.nan), output="scores")
    broken = changed(twice(RIGHT), lambda a: a * 2, output="scores")

    assert judge(twice(SOURCE), broken, oracle).status is not Status.PASS


def test_an_output_that_float64_could_not_compute_is_judged_by_tolerance_and_not_called_constant(judge):
    verdict = judge(SOURCE, RIGHT, changed(ORACLE, lambda a: np.full_like(a, np.nan)))

    assert verdict.status is Status.PASS
    assert verdict.outputs[0].basis == "scaled_max_fp32"
    assert not findings(verdict, "vacuity")


def test_one_element_that_float64_could_not_compute_is_not_taken_for_agreement(judge):
    oracle = changed(ORACLE, put(np.nan, (0, 4)))

    assert judge(SOURCE, changed(RIGHT, lambda a: put(a[0, 4] + 1, (0, 4))(a)), oracle).status is not Status.PASS


# Outputs that prove nothing


def test_outputs_that_never_change_prove_nothing(judge):
    same = {case: {"logits": np.full((1, 10), 0.5, "float32")} for case in CASES}

    verdict = judge(same, same, changed(same, lambda a: a.astype("float64")))

    assert verdict.status is Status.NOT_RUN
    assert "vacuous" in verdict.reason


def test_outputs_that_differ_only_in_their_sizes_prove_nothing(judge):
    same = {case: {"logits": np.full((1 + (i == 9), 10), 0.5, "float32")} for i, case in enumerate(CASES)}

    assert judge(same, same, changed(same, lambda a: a.astype("float64"))).status is Status.NOT_RUN


def test_outputs_that_vary_by_rounding_only_prove_nothing(judge):
    rng = np.random.default_rng(2)
    flat = changed(ORACLE, lambda a: 0.5 + 1e-12 * a)
    source = changed(flat, lambda a: (a + 1e-8 * rng.standard_normal(a.shape)).astype("float32"))

    assert judge(source, source, flat).status is Status.NOT_RUN


def test_outputs_that_vary_less_than_their_own_noise_prove_nothing(judge):
    source = answer(shift=1e7)

    verdict = judge(source, source, ORACLE)

    assert verdict.status is Status.NOT_RUN
    assert "vacuous" in verdict.reason


def test_outputs_without_elements_prove_nothing(judge):
    sides = [changed(answers, lambda a: a[:0]) for answers in (SOURCE, RIGHT, ORACLE)]

    assert judge(*sides).status is not Status.PASS


def test_a_constant_output_beside_one_that_varies_passes_and_is_said(judge):
    sides = [beside(answers, "anchors", np.arange(4, dtype="float32")) for answers in (SOURCE, RIGHT)]
    oracle = beside(ORACLE, "anchors", np.arange(4, dtype="float64"))

    verdict = judge(*sides, oracle)

    assert verdict.status is Status.PASS
    (said,) = findings(verdict, "vacuity")
    assert said.tensor == "anchors"
    assert "constant" in said.message


def test_a_constant_output_with_another_value_fails(judge):
    source = beside(SOURCE, "anchors", np.arange(4, dtype="float32"))
    artifact = beside(RIGHT, "anchors", np.arange(4, dtype="float32") + np.float32(0.01))

    verdict = judge(source, artifact, beside(ORACLE, "anchors", np.arange(4, dtype="float64")))

    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("anchors: ")


def test_an_output_of_rounding_noise_beside_one_that_varies_is_not_green(judge):
    rng = np.random.default_rng(3)

    def with_noise(answers, dtype):
        return {c: {**o, "noise": (0.5 + 1e-8 * rng.standard_normal(4)).astype(dtype)} for c, o in answers.items()}

    source = with_noise(SOURCE, "float32")
    oracle = {c: {**o, "noise": 0.5 + 1e-12 * rng.standard_normal(4)} for c, o in ORACLE.items()}
    artifact = {c: {**o, "noise": source[c]["noise"]} for c, o in RIGHT.items()}

    verdict = judge(source, artifact, oracle)

    assert verdict.status is Status.NOT_RUN
    assert "noise varies no more than its rounding noise" in verdict.reason


# Answers that depend on more than the input


def ulp_later(answers):
    first = next(iter(answers))
    return {**answers, "repeat": changed(answers, lambda a: np.nextafter(a, np.float32(9)))[first]}


def test_a_source_that_answers_otherwise_when_run_again_cannot_be_judged_against(judge):
    verdict = judge(ulp_later(SOURCE), RIGHT, ORACLE)

    assert verdict.status is Status.NOT_RUN
    assert "another answer when run again" in verdict.reason


def test_an_artifact_that_answers_otherwise_when_run_again_fails(judge):
    verdict = judge(SOURCE, ulp_later(RIGHT), ORACLE)

    assert verdict.status is Status.FAIL
    assert "differs when the artifact is run again" in verdict.reason


def test_nan_that_comes_again_is_the_same_answer(judge):
    sides = [changed(answers, put(np.nan)) for answers in (SOURCE, RIGHT, ORACLE)]

    assert not findings(judge(*sides), "determinism")


# Inputs that are ignored


def probed(answers, probe):
    return {**answers, "probe-right": probe}


def test_an_input_that_the_artifact_ignores_fails_however_little_it_weighs(judge):
    def nudged(dtype, size):
        return {"logits": (SOURCE["case-0"]["logits"].astype(dtype) * (1 + size)).astype(dtype)}

    source = probed(SOURCE, nudged("float32", 2e-7))
    oracle = probed(ORACLE, {"logits": ORACLE["case-0"]["logits"] * (1 + 2e-7)})
    ignoring = probed(RIGHT, RIGHT["case-0"])

    verdict = judge(source, ignoring, oracle, probes={"right": "probe-right"})

    assert [output.status for output in verdict.outputs] == [Status.PASS], "too small for the numbers to tell"
    assert verdict.status is Status.FAIL
    assert "input right changes logits of the source and nothing of the artifact" in verdict.reason


def test_an_input_that_the_source_ignores_too_is_said_and_passes(judge):
    verdict = judge(
        probed(SOURCE, SOURCE["case-0"]),
        probed(RIGHT, RIGHT["case-0"]),
        probed(ORACLE, ORACLE["case-0"]),
        probes={"right": "probe-right"},
    )

    assert verdict.status is Status.PASS
    assert [f.message for f in findings(verdict, "influence")] == ["input right changes no output of the source"]


def test_an_input_that_both_follow_needs_no_words(judge):
    verdict = judge(
        probed(SOURCE, SOURCE["case-1"]),
        probed(RIGHT, RIGHT["case-1"]),
        probed(ORACLE, ORACLE["case-1"]),
        probes={"right": "probe-right"},
    )

    assert verdict.status is Status.PASS
    assert not findings(verdict, "influence")


# Cases that did not run


def without(answers, *cases):
    return {case: outputs for case, outputs in answers.items() if case not in cases}


def test_a_case_on_which_the_artifact_fails_fails_with_its_reason(judge):
    verdict = judge(SOURCE, without(RIGHT, "case-4"), ORACLE, artifact_failures={"case-4": "RuntimeError: no kernel"})

    assert verdict.status is Status.FAIL
    assert "case case-4: RuntimeError: no kernel" in verdict.reason


def test_more_cases_on_which_the_artifact_fails_are_counted(judge):
    failed = dict.fromkeys(("case-4", "case-5", "case-6"), "boom")

    assert "(and 2 more cases)" in judge(SOURCE, without(RIGHT, *failed), ORACLE, artifact_failures=failed).reason


def test_an_artifact_that_fails_only_when_run_again_fails(judge):
    assert judge(SOURCE, RIGHT, ORACLE, artifact_failures={"repeat": "boom"}).status is Status.FAIL


def test_a_case_on_which_the_source_fails_leaves_nothing_to_judge_by(judge):
    verdict = judge(without(SOURCE, "case-4"), RIGHT, without(ORACLE, "case-4"), source_failures={"case-4": "boom"})

    assert verdict.status is Status.NOT_RUN
    assert "the source itself fails on case case-4: boom" in verdict.reason


def test_a_case_of_a_size_the_artifact_does_not_take_is_left_out(judge):
    sizes = {case: {"batch": 1} for case in CASES} | {"case-9": {"batch": 2}}

    verdict = judge(
        SOURCE,
        without(RIGHT, "case-9"),
        ORACLE,
        sizes=sizes,
        fixed={"batch": 1},
        artifact_failures={"case-9": "wrong batch"},
    )

    assert verdict.status is Status.PASS
    assert "15 cases" in verdict.reason


def test_a_single_case_is_not_run_and_not_blamed_on_the_source(judge):
    sizes = {case: {"batch": 1} for case in CASES} | {"case-9": {"batch": 2}}

    verdict = judge(SOURCE, RIGHT, ORACLE, sizes=sizes, fixed={"batch": 2})

    assert verdict.status is Status.NOT_RUN
    assert "trained weights" not in verdict.reason


def test_no_case_of_the_artifacts_size_is_not_run(judge):
    verdict = judge(SOURCE, RIGHT, ORACLE, sizes={case: {"batch": 1} for case in CASES}, fixed={"batch": 4})

    assert verdict.status is Status.NOT_RUN
    assert "no case has the sizes the artifact is fixed to; add --fix batch=" in verdict.reason


def test_no_case_of_the_artifacts_size_is_not_run_although_it_failed_on_the_others(judge):
    failed = dict.fromkeys((*CASES, "repeat"), "RuntimeError: wrong batch")

    verdict = judge(
        SOURCE, {}, ORACLE, sizes={case: {"batch": 1} for case in CASES}, fixed={"batch": 4}, artifact_failures=failed
    )

    assert verdict.status is Status.NOT_RUN


# What is measured


def test_the_measures_are_those_of_the_textbooks(judge):
    artifact = answer(weights=1.01)

    (found,) = judge(SOURCE, artifact, ORACLE).outputs

    want, have, ref = (
        np.concatenate([answers[case]["logits"] for case in CASES]).astype("float64")
        for answers in (ORACLE, artifact, SOURCE)
    )
    error, noise = have - want, ref - want
    assert found.elements == want.size
    assert found.max_abs == pytest.approx(np.abs(error).max())
    assert found.scaled_max == pytest.approx(np.abs(error).max() / np.abs(want).max())
    assert found.rmse == pytest.approx(np.sqrt(np.square(error).mean()))
    assert found.reference_rms == pytest.approx(np.sqrt(np.square(want).mean()))
    assert found.reference_noise_rmse == pytest.approx(np.sqrt(np.square(noise).mean()))
    assert found.ratio == pytest.approx(found.rmse / found.reference_noise_rmse)
    assert found.sqnr_db == pytest.approx(10 * np.log10(np.square(want).sum() / np.square(error).sum()))
    assert found.cosine == pytest.approx((want * have).sum() / np.linalg.norm(want) / np.linalg.norm(have))
    assert found.top1_agreement == np.mean(want.argmax(1) == have.argmax(1))


def test_top1_agreement_counts_rows(judge):
    artifact = changed(RIGHT, lambda a: -a, cases=CASES[:4])

    assert judge(SOURCE, artifact, ORACLE).outputs[0].top1_agreement == 12 / 16


def test_measures_that_are_undefined_are_left_out(judge):
    exact = {case: {"sum": np.array([[float(i)]], "float32")} for i, case in enumerate(CASES)}

    (found,) = judge(exact, exact, changed(exact, lambda a: a.astype("float64"), output="sum")).outputs

    assert (found.sqnr_db, found.top1_agreement) == (None, None)
    assert (found.max_abs, found.ratio) == (0, 0)


# Reduced precisions, held against an ideal


COARSE = 0.05  # a step of quantization that costs thousands of times what float32 rounds by


def coarse(answers, *, weights=1.0, seed=0):
    """Copy answers with the noise of a quantization added, and the gain of a scale that is wrong."""
    rng = np.random.default_rng(seed)
    return changed(answers, lambda a: (a * weights + COARSE * (rng.random(a.shape) - 0.5)).astype("float32"))


def test_the_loss_of_a_precision_is_no_fault(judge):
    verdict = judge(SOURCE, coarse(SOURCE, seed=1), ORACLE, precision="int8", ideal=coarse(SOURCE, seed=2))

    assert verdict.status is Status.PASS
    assert verdict.outputs[0].ratio == pytest.approx(1, abs=0.15)
    assert "ideal int8 simulation" in verdict.reason


def test_the_same_loss_without_its_precision_is_a_fault(judge):
    assert judge(SOURCE, coarse(SOURCE), ORACLE).status is Status.FAIL


def test_an_artifact_that_errs_more_than_its_ideal_has_a_conversion_fault(judge):
    wrong = coarse(SOURCE, weights=1.2, seed=1)
    verdict = judge(SOURCE, wrong, ORACLE, precision="int8", ideal=coarse(SOURCE, seed=2))

    assert verdict.status is Status.FAIL
    assert "conversion fault" in verdict.reason


def test_a_reduced_precision_needs_no_float64_for_its_ratio(judge):
    verdict = judge(SOURCE, coarse(SOURCE, weights=1.2), precision="int8", ideal=coarse(SOURCE, seed=2))

    assert verdict.status is Status.FAIL
    assert verdict.outputs[0].basis == "the source itself"


def test_an_input_that_the_precision_itself_loses_is_no_conversion_fault(judge):
    source = probed(SOURCE, {"logits": SOURCE["case-0"]["logits"] + np.float32(1e-4)})
    oracle = probed(ORACLE, {"logits": ORACLE["case-0"]["logits"] + 1e-4})
    answers, ideal = coarse(SOURCE, seed=1), coarse(SOURCE, seed=2)
    ignoring, as_ideal = probed(answers, answers["case-0"]), probed(ideal, ideal["case-0"])
    probes = {"right": "probe-right"}

    verdict = judge(source, ignoring, oracle, probes=probes, precision="int8", ideal=as_ideal)
    assert verdict.status is Status.PASS, verdict.reason
    assert "nor of its ideal" in findings(verdict, "influence")[0].message

    follows = probed(ideal, {"logits": ideal["case-0"]["logits"] + np.float32(1e-4)})
    verdict = judge(source, ignoring, oracle, probes=probes, precision="int8", ideal=follows)
    assert verdict.status is Status.FAIL
    assert "nothing of the artifact" in verdict.reason


def test_an_error_of_the_ideals_size_that_is_another_error_is_a_fault_where_distance_is_judged(judge):
    """R is near 1 on both; only D sees that what was lost is not what the ideal loses."""
    ideal = coarse(SOURCE, seed=2)
    near = changed(ideal, lambda a: a + np.float32(1e-3))
    other = coarse(SOURCE, seed=1)
    told = {"precision": "int8", "ideal": ideal, "farthest": 0.25}

    assert judge(SOURCE, near, ORACLE, **told).status is Status.PASS
    verdict = judge(SOURCE, other, ORACLE, **told)
    (found,) = verdict.outputs
    assert verdict.status is Status.FAIL
    assert "conversion fault" in verdict.reason
    assert "(D), bound 0.25; R 0.9" in verdict.reason
    assert found.distance == pytest.approx(math.sqrt(2), abs=0.2)
    assert (found.distance_bound, found.ratio) == (0.25, pytest.approx(1, abs=0.15))
    assert parity.in_doubt(verdict)
    assert judge(SOURCE, other, ORACLE, precision="int8", ideal=ideal).status is Status.PASS


def test_an_ideal_that_answers_otherwise_when_nudged_acquits_what_is_as_far_from_it(judge):
    other, ideal = coarse(SOURCE, seed=1), coarse(SOURCE, seed=2)
    told = {"precision": "int8", "ideal": ideal, "farthest": 0.25}

    chaotic = judge(SOURCE, other, ORACLE, **told, nudged=coarse(SOURCE, seed=3))
    assert chaotic.status is Status.PASS, chaotic.reason
    assert chaotic.outputs[0].distance < chaotic.outputs[0].distance_bound

    steady = judge(SOURCE, other, ORACLE, **told, nudged=changed(ideal, lambda a: a + np.float32(1e-4)))
    assert steady.status is Status.FAIL


def test_a_fault_that_the_ratio_shows_is_not_in_doubt(judge):
    verdict = judge(
        SOURCE, coarse(SOURCE, weights=1.2), ORACLE, precision="int8", ideal=coarse(SOURCE, seed=2), farthest=0.25
    )

    assert verdict.status is Status.FAIL
    assert not parity.in_doubt(verdict)


def test_an_ideal_that_does_not_run_decides_nothing(judge):
    verdict = judge(
        SOURCE, coarse(SOURCE), ORACLE, precision="int8", ideal=coarse(SOURCE), ideal_failures={"case-3": "no kernel"}
    )

    assert verdict.status is Status.NOT_RUN
    assert "no kernel" in verdict.reason


def test_inputs_beyond_the_calibrated_ranges_do_not_drown_a_fault(judge):
    """Where activations saturate, ideal and artifact both lose everything."""
    saturated = CASES[8:]
    lost = lambda a: 0 * a  # noqa: E731
    ideal = changed(coarse(SOURCE, seed=2), lost, saturated)
    wrong = changed(coarse(SOURCE, weights=1.2, seed=1), lost, saturated)

    assert judge(SOURCE, wrong, ORACLE, precision="int8", ideal=ideal, real=CASES[:8]).status is Status.FAIL
    assert judge(SOURCE, ideal, ORACLE, precision="int8", ideal=ideal, real=CASES[:8]).status is Status.PASS
    assert judge(SOURCE, wrong, ORACLE, precision="int8-dynamic", ideal=ideal, real=CASES[:8]).outputs[0].ratio < 1.2


def test_a_class_that_flips_as_it_does_in_the_ideal_is_no_fault(judge):
    flipped = changed(labels(SOURCE), lambda a: a + 1, CASES[:4], "label")

    assert judge(labels(SOURCE), flipped, precision="int8", ideal=flipped).status is Status.PASS
    assert judge(labels(SOURCE), flipped, precision="int8", ideal=labels(SOURCE)).status is Status.FAIL


# Extreme cases, which count one by one

WILD = ("case-5",)


def far(answers):
    """Give answers to an input of a thousand times the usual size, with the rounding that belongs to it."""
    return changed(answers, lambda a: a * np.array(1000, a.dtype), WILD)


def test_an_extreme_case_does_not_drown_a_fault_in_the_others(judge):
    """Its squares are a million times theirs, and this source rounds in proportion."""
    noisy = off(far(SOURCE), WILD, 0.1, 1)
    broken = off(far(RIGHT), WILD, 0.1, 2)
    broken = changed(broken, lambda a: a * np.float32(1.00002), tuple(set(CASES) - set(WILD)))

    assert judge(noisy, broken, far(ORACLE)).status is Status.PASS, "judged as one of all it does"
    assert judge(noisy, broken, far(ORACLE), extremes=WILD).status is Status.FAIL


def test_an_extreme_case_is_held_against_the_bound_of_a_single_one(judge):
    right, wrong = off(far(RIGHT), WILD, 1e-3, 2), off(far(RIGHT), WILD, 10, 2)

    assert judge(far(SOURCE), right, far(ORACLE), extremes=WILD).status is Status.PASS
    verdict = judge(far(SOURCE), wrong, far(ORACLE), extremes=WILD)
    assert verdict.status is Status.FAIL
    assert "case-5" in verdict.reason


def test_without_float64_an_extreme_case_is_held_against_its_own_magnitude(judge):
    def wrong(factor):
        return changed(far(SOURCE), lambda a: a * np.float32(factor), WILD)

    assert judge(far(SOURCE), wrong(1 + 5e-4), extremes=WILD).status is Status.PASS
    assert judge(far(SOURCE), wrong(1 + 1e-2), extremes=WILD).status is Status.FAIL


def test_without_float64_an_extreme_case_does_not_widen_the_tolerance_of_the_others(judge):
    broken = changed(far(SOURCE), lambda a: a * np.float32(1 + 5e-4), ("case-3",))

    assert judge(far(SOURCE), broken).status is Status.PASS, "judged as one of all it does"
    assert judge(far(SOURCE), broken, extremes=WILD).status is Status.FAIL


def test_outputs_that_change_on_extreme_inputs_alone_prove_nothing(judge):
    same = {case: {"logits": np.full((1, 10), 0.5, "float32")} for case in CASES}
    source = changed(same, lambda a: a + np.arange(10, dtype="float32"), WILD)

    assert judge(source, source, changed(source, np.float64), extremes=WILD).status is Status.NOT_RUN


def tiny(answers):
    return changed(answers, lambda a: (a.astype("float64") * 1e-40).astype(a.dtype), WILD)


def test_an_artifact_may_flush_denormal_answers_to_zero(judge):
    flushed = changed(RIGHT, np.zeros_like, WILD)

    assert judge(tiny(SOURCE), flushed, tiny(ORACLE), extremes=WILD).status is Status.PASS


def test_an_artifact_may_not_answer_denormal_answers_with_others(judge):
    assert judge(tiny(SOURCE), RIGHT, tiny(ORACLE), extremes=WILD).status is Status.FAIL


def test_an_answer_that_is_small_and_no_denormal_number_keeps_its_own_scale(judge):
    def small(answers):
        return changed(answers, lambda a: (a.astype("float64") * 1e-30).astype(a.dtype), WILD)

    flushed = changed(small(RIGHT), np.zeros_like, WILD)

    assert judge(small(SOURCE), flushed, small(ORACLE), extremes=WILD).status is Status.FAIL


def test_half_precision_is_not_judged_beyond_its_range(judge):
    source, oracle = far(SOURCE), far(ORACLE)
    ideal = changed(source, lambda a: a.astype("float16").astype("float32"))
    overflown = changed(ideal, lambda a: np.full_like(a, np.inf), WILD)

    assert judge(source, overflown, oracle, precision="fp16", ideal=ideal).status is Status.FAIL
    assert judge(source, overflown, oracle, precision="fp16", ideal=ideal, extremes=WILD).status is Status.PASS


# Rows of a batch

BATCH = (("batch-3", CASES[:3]),)


def batched(answers):
    """Add a batch of the first three cases."""
    names = next(iter(answers.values()))
    rows = {name: np.concatenate([answers[case][name] for case in CASES[:3]]) for name in names}
    return {**answers, "batch-3": rows}


def mixing(answers):
    """Let every row of the batch have some of the next."""
    return changed(answers, lambda a: (a + np.roll(a, 1, 0) / 100).astype(a.dtype), ("batch-3",))


def test_a_batch_that_is_its_rows_passes_and_is_said(judge):
    verdict = judge(batched(SOURCE), batched(RIGHT), batched(ORACLE), batches=BATCH)

    assert verdict.status is Status.PASS
    assert [f.message for f in findings(verdict, "rows")] == ["batch-3 was compared with its 3 rows run alone"]


@pytest.mark.parametrize("oracle", [batched(ORACLE), None], ids=["float64", "tolerance"])
def test_an_artifact_that_mixes_the_rows_of_a_batch_fails(judge, oracle):
    verdict = judge(batched(SOURCE), mixing(batched(RIGHT)), oracle, batches=BATCH)

    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("the artifact mixes the rows of a batch")


def test_a_source_that_mixes_the_rows_of_a_batch_is_followed_and_told(judge):
    sides = [mixing(batched(answers)) for answers in (SOURCE, RIGHT, ORACLE)]

    verdict = judge(*sides, batches=BATCH)

    assert verdict.status is Status.PASS
    assert "the source itself mixes the rows" in findings(verdict, "rows")[0].message


def test_an_artifact_of_reduced_precision_may_share_a_scale_among_rows(judge):
    reduced = mixing(batched(RIGHT))

    verdict = judge(batched(SOURCE), reduced, batched(ORACLE), batches=BATCH, precision="int8-dynamic", ideal=reduced)

    assert verdict.status is Status.PASS
    assert any("share what is quantized" in finding.message for finding in findings(verdict, "rows"))


def test_a_batch_that_an_artifact_cannot_run_is_not_compared(judge):
    sizes = {case: {"batch": 1} for case in CASES} | {"batch-3": {"batch": 3}}

    verdict = judge(batched(SOURCE), RIGHT, batched(ORACLE), batches=BATCH, sizes=sizes, fixed={"batch": 1})

    assert verdict.status is Status.PASS
    assert not findings(verdict, "rows")


# NaN and infinity in an input

NAN = {"nan-x": {"logits": np.full((1, 10), np.nan, "float32")}}


def test_nan_that_spreads_as_in_the_source_is_told(judge):
    verdict = judge(SOURCE, {**RIGHT, **NAN}, ORACLE, spread=NAN)

    assert verdict.status is Status.PASS
    assert "the same places" in findings(verdict, "propagation")[0].message


def test_nan_that_an_artifact_swallows_is_told_and_decides_nothing(judge):
    swallowed = {"nan-x": {"logits": np.zeros((1, 10), "float32")}}

    verdict = judge(SOURCE, {**RIGHT, **swallowed}, ORACLE, spread=NAN)

    assert verdict.status is Status.PASS
    (said,) = findings(verdict, "propagation")
    assert "10 in the source and 0 in the artifact" in said.message


def test_an_artifact_that_refuses_nan_is_told(judge):
    failures = {"nan-x": "no NaN, please"}

    verdict = judge(SOURCE, RIGHT, ORACLE, spread=NAN, artifact_failures=failures)

    assert verdict.status is Status.PASS
    assert "no NaN, please" in findings(verdict, "propagation")[0].message


# Sources with a state


def summed(answers, *, forgetful=False):
    """Give the running sum of answers, and what comes when the first input comes again at the end."""
    total, found = 0, {}
    for case, outputs in {**answers, "repeat": answers["case-0"]}.items():
        total = outputs["logits"] + (0 if forgetful else total)
        found[case] = {"logits": total}
    return found


def test_steps_of_a_sequence_that_agree_pass_and_the_state_is_told(judge):
    verdict = judge(summed(SOURCE), summed(RIGHT), summed(ORACLE), steps=True)

    assert verdict.status is Status.PASS
    assert "16 steps from a fresh start" in verdict.reason
    assert "the source keeps a state" in findings(verdict, "state")[0].message


def test_an_artifact_that_loses_the_state_fails_by_that_name(judge):
    verdict = judge(summed(SOURCE), summed(RIGHT, forgetful=True), summed(ORACLE), steps=True)

    assert verdict.status is Status.FAIL
    assert verdict.reason.startswith("the artifact loses the state of its source")


def test_an_artifact_whose_state_goes_wrong_later_fails(judge):
    late = {
        case: o if int(case[5:] or 0) < 8 else changed({case: o}, lambda a: a * np.float32(1.001), (case,))[case]
        for case, o in summed(RIGHT).items()
        if case != "repeat"
    }
    late["repeat"] = summed(RIGHT)["repeat"]

    assert judge(summed(SOURCE), late, summed(ORACLE), steps=True).status is Status.FAIL


def test_a_source_that_is_random_proves_nothing_whatever_the_artifact_does(judge):
    def random(answers):
        return {**answers, "repeat": {"logits": answers["case-1"]["logits"]}}

    for artifact in (RIGHT, random(RIGHT)):
        assert judge(random(SOURCE), artifact, ORACLE).status is Status.NOT_RUN
