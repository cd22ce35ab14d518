"""A real source's own outputs, broken on purpose as numbers: each fault is caught, and nothing else is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from validators import parity
from validators.runtimes import REPEAT
from validators.structure import Binding
from validators.verdict import Status


@pytest.fixture(scope="session")
def answers(bench):
    """The source's own answers, by case and output."""
    return read(bench.baseline.outputs.native.path)


def read(path):
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as stored:
        for key in stored.files:
            case, _, output = key.partition("/")
            found.setdefault(case, {})[output] = stored[key]
    return found


def write(path, answers):
    np.savez(path, **{f"{case}/{name}": array for case, outputs in answers.items() for name, array in outputs.items()})
    return str(path)


@pytest.fixture
def judged(bench, tmp_path):
    """Judge answers as if an artifact had given them."""
    baseline = bench.baseline
    outputs = tuple((spec.name, spec.name) for spec in baseline.signature.outputs)

    def judge(answers, reference=baseline.outputs):
        artifact = dataclasses.replace(reference.native, path=write(tmp_path / "artifact.npz", answers))
        return parity.judge(reference, artifact, baseline.cases, Binding((), outputs, ()))

    return judge


def every(change):
    """Break the output `digit` in every case."""
    return lambda answers: {case: {**outputs, "digit": change(outputs["digit"])} for case, outputs in answers.items()}


def only(cases, change):
    """Break the output `digit` in some cases."""
    broken = every(change)
    return lambda answers: {
        case: outputs if case not in cases else broken(answers)[case] for case, outputs in answers.items()
    }


def drop(answers, name, cases=None):
    return {
        case: {n: a for n, a in outputs.items() if n != name or (cases and case not in cases)}
        for case, outputs in answers.items()
    }


def exchange_cases(answers):
    return {**answers, "normal-3": answers["normal-4"], "normal-4": answers["normal-3"]}


def answer_as_the_last_case(answers):
    last = next(reversed([case for case, outputs in answers.items() if outputs["digit"].shape[0] == 1]))
    return {case: answers[last] if outputs["digit"].shape[0] == 1 else outputs for case, outputs in answers.items()}


def one_element(a):
    a = a.copy()
    a.flat[-1] *= np.float32(1.001)
    return a


def one_nan(a):
    a = a.copy()
    a.flat[0] = np.nan
    return a


def only_the_first_row(a):
    return np.concatenate([a[:1], np.zeros_like(a[1:])])


BREAKAGES = {
    "dropped axis": every(lambda a: a.squeeze()),
    "dropped axis in one case": only({"uniform-2"}, lambda a: a.squeeze()),
    "added axis": every(lambda a: a[None]),
    "transposed": every(lambda a: np.ascontiguousarray(a.T)),
    "last axis reversed": every(lambda a: a[:, ::-1].copy()),
    "rows of a batch reversed": only({"batch-2", "batch-3", "batch-5"}, lambda a: a[::-1].copy()),
    "only the first row of a batch": every(only_the_first_row),
    "rows of a batch all alike": every(lambda a: np.repeat(a[:1], len(a), 0)),
    "one value for all": every(lambda a: a.mean(keepdims=True)),
    "widened": every(lambda a: a.astype("float64")),
    "narrowed": every(lambda a: a.astype("float16")),
    "integers": every(lambda a: np.rint(a).astype("int32")),
    "empty": every(lambda a: a[:0]),
    "empty in one case": only({"uniform-2"}, lambda a: a[:0]),
    "no axes": every(lambda a: np.float32(a.mean())),
    "all NaN": every(lambda a: np.full_like(a, np.nan)),
    "one NaN in one case": only({"uniform-2"}, one_nan),
    "all infinite": every(lambda a: np.full_like(a, np.inf)),
    "all zero": every(np.zeros_like),
    "off by a thousandth": every(lambda a: a * np.float32(1.001)),
    "off by a thousandth in one element of one case": only({"uniform-2"}, one_element),
    "off by a thousandth in batches": only({"batch-3"}, lambda a: a * np.float32(1.001)),
    "negated": every(np.negative),
    "missing": lambda answers: drop(answers, "digit"),
    "missing in one case": lambda answers: drop(answers, "digit", {"uniform-2"}),
    "no outputs": lambda answers: {},
    "two cases exchanged": exchange_cases,
    "every case answered as the last": answer_as_the_last_case,
    "outputs swapped": lambda answers: {
        case: {"digit": outputs["parity"], "parity": outputs["digit"]} for case, outputs in answers.items()
    },
    "another answer when run again": lambda answers: {**answers, REPEAT: every(one_element)(answers)[REPEAT]},
}


@pytest.mark.parametrize("broken", BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_output_is_never_a_pass(judged, answers, broken):
    verdict = judged(broken(answers))

    assert verdict.status is Status.FAIL
    assert verdict.reason


#: Errors below a ten-thousandth of the largest answer need the oracle to be seen; `tolerance.SCALED_MAX` says so.
NEEDS_FLOAT64 = "off by a thousandth in one element of one case"


@pytest.mark.parametrize("name", [name for name in BREAKAGES if name != NEEDS_FLOAT64])
def test_a_broken_output_is_never_a_pass_without_float64(judged, answers, bench, name):
    reference = dataclasses.replace(bench.baseline.outputs, oracle=None, oracle_reason="not asked for")

    assert judged(BREAKAGES[name](answers), reference).status is Status.FAIL


@pytest.mark.parametrize("name", ["dropped axis", "added axis", "widened", "empty", "rows of a batch all alike"])
def test_numpys_own_comparison_takes_it_for_agreement(answers, name):
    want, have = answers["normal-0"]["digit"], BREAKAGES[name](answers)["normal-0"]["digit"]

    assert np.allclose(want, have)


def test_nan_for_zero_is_caught(judged, answers, bench, tmp_path):
    def rectified(answers):
        return every(lambda a: np.maximum(a, 0))(answers)

    reference = dataclasses.replace(
        bench.baseline.outputs,
        native=dataclasses.replace(
            bench.baseline.outputs.native, path=write(tmp_path / "native.npz", rectified(answers))
        ),
        oracle=dataclasses.replace(
            bench.baseline.outputs.oracle,
            path=write(tmp_path / "oracle.npz", rectified(read(bench.baseline.outputs.oracle.path))),
        ),
    )
    broken = every(lambda a: np.where(a == 0, np.float32(np.nan), a))(rectified(answers))

    assert judged(rectified(answers), reference).status is Status.PASS
    verdict = judged(broken, reference)
    assert verdict.status is Status.FAIL
    assert "NaN in other places" in verdict.reason


def test_the_sources_own_answers_pass(judged, answers):
    verdict = judged(answers)

    assert verdict.status is Status.PASS
    assert [output.ratio for output in verdict.outputs] == [1, 1]


def test_the_sources_answers_in_float64_rounded_to_float32_pass(judged, bench):
    rounded = {
        case: {name: array.astype("float32") for name, array in outputs.items()}
        for case, outputs in read(bench.baseline.outputs.oracle.path).items()
    }

    assert judged(rounded).status is Status.PASS
