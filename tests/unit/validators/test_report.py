"""The report: exit codes, JSON there and back, and the table that says every reason."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from convert.errors import UnknownName
from convert.recipe import Kept, Recipe
from convert.spec import Artifact, ModelFacts, Signature, SourceFile, TensorSpec
from validators.latency import Measurement
from validators.report import (
    SCHEMA_VERSION,
    Attempt,
    GivenUp,
    ReferenceReport,
    Report,
    Stage,
    StageRun,
    TargetReport,
    assemble,
    machine,
    versions,
)
from validators.reports import RENDERINGS
from validators.reports.json import read, schema
from validators.verdict import Finding, OutputParity, Status, Verdict, Worst

SIGNATURE = Signature(
    (TensorSpec("ids", "int64", ("batch", 16), 0, 99),), (TensorSpec("logits", "float32", ("batch", 10)),)
)
ARTIFACT = Artifact("build/m/m.onnx", "onnx", "fp32", SIGNATURE, "ab" * 32, 35_000, ("batch is fixed to 1",))
KEPT = Verdict.of([Finding("contract", Status.PASS, "1 input(s) and 1 output(s) as promised")], passed="as promised")


def output(status=Status.PASS, reason="errs 1.2 times what its source does", **measures):
    return OutputParity("logits", status, reason, "float64", 430, **measures)


GOOD = output(
    ratio=1.23,
    bound=4.0,
    max_abs=1e-5,
    scaled_max=1.5e-7,
    rmse=1e-6,
    reference_rms=90.0,
    reference_noise_rmse=1e-6,
    sqnr_db=137.0,
    cosine=1.0,
    top1_agreement=1.0,
    worst=Worst("large-1", (0, 1), -313.5, -313.6),
)
BAD = output(Status.FAIL, "errs 9876 times what its source does, bound 4", ratio=9876.0, bound=4.0, sqnr_db=40.0)


def attempt(plan="torch-onnx", *outputs, structure=KEPT, artifact=ARTIFACT):
    parity = Verdict.of([], outputs, passed="36 cases, judged by R against float64")
    done = structure.status is Status.PASS and parity.status is Status.PASS
    stage = Stage.DONE if done else Stage.PARITY
    reason = parity.reason if structure.status is Status.PASS else structure.reason
    run = StageRun("run-onnx", 0.25, "python -m convert.worker run.json")
    return Attempt(plan, "torch.onnx", stage, reason, "", artifact, (("Conv", 2),), structure, parity, (run,))


NOT_CONVERTED = Attempt("tf2onnx", "tf2onnx", Stage.CONVERT, "the process was killed by SIGABRT:\n  | log", "repeat it")
STEADY = Measurement(1, 0.04, 0.01, 300, 0.0021, 0.0025, 0.1, 11 << 20)
SHAKY = Measurement(2, 0.04, 0.01, 300, None, None, None, 11 << 20, withheld="not stable: the middle half spreads")


def target(status=Status.PASS, name="onnx", *, attempts=None, artifact=ARTIFACT, reason="36 cases", **rest):
    attempts = (attempt("torch-onnx", GOOD),) if attempts is None else attempts
    kept = next((i for i, a in enumerate(attempts) if a.artifact is not None), None)
    return TargetReport(name, "fp32", status, reason, artifact, attempts, kept, **rest)


def report(*targets):
    return Report(
        SCHEMA_VERSION,
        "python -m convert m.pt --to onnx",
        "2025-01-01T00:00:00+00:00",
        12.5,
        SourceFile("m.pt", "torchscript", "TorchScript archive", "cd" * 32, 12_000),
        ModelFacts(SIGNATURE, 6154, ("was saved in training mode",)),
        ReferenceReport("PyTorch", "float64", 36, 0, ("ids has no stated range",)),
        targets,
        {"python": "3.11"},
        {"cores": "2"},
        "build/m/report.json",
    )


def shown(*targets):
    return RENDERINGS["terminal"].render(report(*targets))


# Exit codes

MADE = dict.fromkeys(Status, ARTIFACT)


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        ([target()], 0),
        ([target(), target(name="tflite")], 0),
        ([target(), target(Status.FAIL, "tflite")], 1),
        ([target(), target(Status.FAIL, "tflite", artifact=None)], 1),
        ([target(Status.FAIL)], 1),
        ([target(Status.NOT_RUN)], 1),
        ([target(), target(Status.NOT_RUN, "tflite")], 1),
        ([target(Status.FAIL, artifact=None)], 3),
        ([target(Status.FAIL, artifact=None), target(Status.FAIL, "tflite", artifact=None)], 3),
        ([], 3),
    ],
)
def test_the_exit_code_is_0_only_when_all_passed_and_3_only_when_nothing_was_made(targets, code):
    assert report(*targets).exit_code == code


# Attempts


def test_an_attempt_that_passed_everything_passes():
    assert attempt("torch-onnx", GOOD).status is Status.PASS


def test_an_attempt_that_made_nothing_fails():
    assert NOT_CONVERTED.status is Status.FAIL


def test_an_attempt_whose_parity_failed_fails():
    assert attempt("torch-onnx", GOOD, BAD).status is Status.FAIL


def test_an_attempt_that_was_not_judged_at_all_is_not_green():
    assert Attempt("p", "t", Stage.CONVERT, "", artifact=ARTIFACT).status is Status.NOT_RUN


def test_an_attempt_that_says_done_without_any_verdict_is_not_green():
    assert Attempt("p", "t", Stage.DONE, "", artifact=ARTIFACT).status is Status.NOT_RUN


def test_an_attempt_that_did_not_come_to_the_end_is_not_green_whatever_passed():
    assert dataclasses.replace(attempt("torch-onnx", GOOD), reached=Stage.PARITY).status is Status.NOT_RUN


# JSON


def test_a_report_comes_back_from_json_as_it_was():
    whole = report(
        target(latency=(STEADY, SHAKY), stages=(StageRun("time", 1.0, "python"),)),
        target(
            Status.FAIL,
            "tflite",
            attempts=(NOT_CONVERTED, attempt("litert-torch", GOOD, BAD)),
            reason="errs",
            latency_reason="not proven",
        ),
        target(Status.FAIL, "torchscript", attempts=(NOT_CONVERTED,), artifact=None),
    )

    assert read(RENDERINGS["json"].render(whole)) == whole


def test_a_verdict_on_real_answers_comes_back_from_json_as_it_was(judge):
    import numpy as np

    zero = {
        f"case-{i}": {"y": np.zeros((1, 2), "float32"), "n": np.full((1, 2), float(i), "float32")} for i in range(4)
    }
    off = {case: {name: array + 1 for name, array in outputs.items()} for case, outputs in zero.items()}
    verdict = judge(zero, off)
    whole = report(target(Status.FAIL, attempts=(dataclasses.replace(attempt("torch-onnx", BAD), parity=verdict),)))

    assert verdict.status is Status.FAIL
    assert read(RENDERINGS["json"].render(whole)) == whole


def test_json_that_is_no_report_is_refused():
    with pytest.raises(msgspec.ValidationError):
        read('{"schema_version": 1}')


def test_the_schema_describes_the_report():
    assert schema()["$ref"].endswith("Report")


def test_the_status_is_written_as_a_word():
    found = msgspec.json.decode(RENDERINGS["json"].render(report(target(Status.NOT_RUN))))

    assert found["targets"][0]["status"] == "NOT_RUN"
    assert found["targets"][0]["attempts"][0]["structure"]["status"] == "PASS"


# The table


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} fp32")]
    return [cell.strip() for cell in line.split("│")]


def test_a_target_that_passed_shows_its_numbers():
    text = shown(target(latency=(STEADY,)))

    cells = row(text, "onnx")
    assert {"PASS", "torch-onnx", "1.23", "1.5e-07", "137", "2.5 ms", "+11.0 MiB", "34.2 KiB"} <= set(cells)
    assert any(cell.startswith("2.1 ms") for cell in cells)
    assert "build/m/m.onnx" in text


def test_the_heading_says_what_the_model_is_and_how_it_was_run():
    text = shown(target())

    assert "m.pt: TorchScript archive, 6,154 parameters" in text
    assert "(ids:int64[batch,16]=0..99) -> (logits:float32[batch,10])" in text
    assert "36 cases, reference PyTorch, oracle float64" in text


@pytest.mark.parametrize("status", [Status.FAIL, Status.NOT_RUN])
def test_the_reason_of_what_did_not_pass_is_shown(status):
    text = shown(target(status, reason="the dog [ate] it"))

    assert f"onnx {status.value}: the dog [ate] it" in text


def test_a_failed_candidate_is_shown_with_its_stage_reason_and_fix():
    text = shown(target(attempts=(NOT_CONVERTED, attempt("second", BAD), attempt("third", GOOD))))

    assert "candidate tf2onnx could not convert: the process was killed by SIGABRT: ..." in text
    assert "fix: repeat it" in text


def test_a_candidate_that_was_made_and_failed_is_shown_with_the_stage_it_reached():
    attempts = (attempt("first", BAD), attempt("second", GOOD))

    text = RENDERINGS["terminal"].render(report(dataclasses.replace(target(attempts=attempts), kept=1)))

    assert "candidate first failed at parity: logits: errs 9876 times what its source does" in text
    assert row(text, "onnx")[2] == "second"


def test_latency_that_was_withheld_is_shown_with_its_reason():
    text = shown(target(latency=(STEADY, SHAKY)))

    assert "latency at 2 thread(s) withheld: not stable: the middle half spreads" in text
    assert "2 threads" in text
    assert "withheld" in row(shown(target(latency=(SHAKY,))), "onnx")


def test_latency_that_was_not_measured_is_shown_with_its_reason():
    assert "onnx: no latency: not proven" in shown(target(Status.FAIL, latency_reason="not proven"))


def test_what_changed_in_the_contract_of_a_proven_artifact_is_shown():
    fixed = Verdict.of([Finding("free dimensions", Status.PASS, "")], passed="batch is fixed to 1")

    assert "onnx: batch is fixed to 1" in shown(target(attempts=(attempt("torch-onnx", GOOD, structure=fixed),)))


def test_notes_of_the_model_and_of_the_reference_are_shown():
    text = shown(target())

    assert "note: was saved in training mode" in text
    assert "note: ids has no stated range" in text


def test_the_worst_output_is_the_one_in_the_row():
    text = shown(target(Status.FAIL, attempts=(attempt("torch-onnx", GOOD, BAD),)))

    assert row(text, "onnx")[3] == "9.88e+03"


def test_integers_that_differ_are_not_called_exact():
    wrong = output(Status.FAIL, "3 of 36 integers differ", max_abs=7.0, worst=Worst("normal-0", (0,), 1, 8))

    assert "exact" not in row(shown(target(Status.FAIL, attempts=(attempt("torch-onnx", wrong),))), "onnx")


def test_an_error_on_outputs_of_zeros_is_not_called_exact():
    wrong = output(Status.FAIL, "errs", max_abs=1.0, scaled_max=1.0, rmse=1.0, reference_rms=0.0, sqnr_db=None)

    assert "exact" not in row(shown(target(Status.FAIL, attempts=(attempt("torch-onnx", wrong),))), "onnx")


def test_outputs_without_any_error_are_called_exact():
    assert "exact" in row(shown(target(attempts=(attempt("torch-onnx", output(ratio=0.0)),))), "onnx")


def test_words_are_shown_as_they_are():
    words = "conv.cc:100: no kernel [/bold] for :key: in it"

    assert words in shown(target(Status.FAIL, reason=words))


def test_the_table_has_no_colours_where_nobody_looks(capsys):
    assert "\x1b" not in shown(target(Status.FAIL))


# Putting it together


def test_a_report_says_when_where_and_with_what_it_was_made():
    made = assemble(
        command="c",
        started=0.0,
        source=report().source,
        model=report().model,
        reference=report().reference,
        targets=(target(),),
        path="p",
    )

    assert made.schema_version == SCHEMA_VERSION
    assert made.seconds > 0
    assert made.created.endswith("+00:00")
    assert made.versions["numpy"]
    assert int(made.machine["cores"]) >= 1


def test_versions_of_what_is_not_installed_are_left_out():
    assert versions(("numpy", "no-such-distribution")).keys() == {"python", "numpy"}


def test_the_machine_is_described_in_words_and_bytes():
    assert int(machine()["memory_bytes"]) > 1 << 28


def test_an_unknown_rendering_is_answered_with_the_known_ones():
    with pytest.raises(UnknownName, match="terminal"):
        RENDERINGS["xml"]


def raced(plan, measured=None, *, unraced="", **changes):
    return dataclasses.replace(attempt(plan, GOOD), latency=measured, unraced=unraced, **changes)


def test_a_race_shows_every_candidate_with_its_time_size_and_what_it_fixes():
    text = shown(
        target(
            attempts=(
                raced("a-tool", STEADY),
                raced("b-tool", STEADY, fixed=(("batch", 1),)),
                raced("c-tool", SHAKY),
                raced("d-tool", unraced="the process of stage time was killed"),
            )
        )
    )
    assert "onnx: race: a-tool 2.1 ms ±5%, 34.2 KiB (kept)" in text
    assert "onnx: race: b-tool 2.1 ms ±5%, 34.2 KiB, batch fixed to 1\n" in text
    assert "onnx: race: c-tool not timed: not stable" in text
    assert "onnx: race: d-tool not timed: the process of stage time was killed" in text


def test_rescues_and_what_a_runtime_must_be_are_shown():
    made = dataclasses.replace(ARTIFACT, rescues=("Erfc rewritten as 1 - Erf",))
    kept = dataclasses.replace(attempt("torch-onnx", GOOD), requires=("ONNX opset 18",))
    text = shown(target(attempts=(kept,), artifact=made))
    assert "onnx: rescue: Erfc rewritten as 1 - Erf" in text
    assert "build/m/m.onnx, ONNX opset 18" in text


def test_a_layer_whose_name_tells_nothing_is_shown_with_its_operator():
    names = {"arith.constant12;": "FULLY_CONNECTED", "block/conv2d_1": "CONV_2D", "head": "linear 10x32"}
    recipe = Recipe("tflite", "int8", "ai-edge-quantizer", kept=tuple(Kept(name, "fp32") for name in names))
    given_up = tuple(GivenUp(name, operator, "fp32", None) for name, operator in names.items())
    made = dataclasses.replace(attempt("litert-torch", GOOD), recipe=recipe)

    text = shown(target(attempts=(made,), given_up=given_up))
    assert "kept in fp32: arith.constant12; (FULLY_CONNECTED), block/conv2d_1, head (linear)" in text
    assert "kept in fp32: arith.constant12;, block/conv2d_1, head" in shown(target(attempts=(made,)))


def test_an_artifact_that_failed_says_how_to_see_it_again():
    failed = dataclasses.replace(attempt("torch-onnx", BAD), fix="see it again with: python -m convert.worker run.json")
    assert "fix: see it again with" in shown(target(Status.FAIL, attempts=(failed,)))


def test_what_a_passing_check_found_of_one_tensor_is_shown_and_what_it_found_in_order_is_not():
    findings = [
        Finding("rows", Status.PASS, "batch-3 was compared with its 3 rows run alone"),
        Finding("propagation", Status.PASS, "with one NaN in x, 1 in the source and 0 in the artifact", "logits"),
        Finding("propagation", Status.PASS, "with one +infinity in x, 2 and 0", "logits"),
        Finding("state", Status.PASS, "the source keeps a state between runs", "logits"),
    ]
    told = dataclasses.replace(attempt("torch-onnx", GOOD), parity=Verdict.of(findings, [GOOD], passed="36 cases"))
    text = shown(target(attempts=(told,)))

    assert "onnx: with one NaN in x, 1 in the source and 0 in the artifact (and 1 more, see the report)" in text
    assert "onnx: the source keeps a state between runs" in text
    assert "run alone" not in text
