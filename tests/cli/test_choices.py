"""What a user can choose: layouts, sizes, candidates, and the fastest of them."""

from __future__ import annotations

import json

import pytest


def report_of(ran):
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_plan_lists_the_candidates_in_order_and_runs_nothing(command, samples, tmp_path):
    ran = command(samples / "digits.pt", "--to", "tflite,onnx", "--plan")
    assert ran.returncode == 0, ran.stderr
    lines = [line.strip() for line in ran.stdout.splitlines()]
    assert lines[0] == "tflite:"
    assert lines[1].startswith("1. litert-torch (")
    assert "onnx:" in lines
    assert ran.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_what_a_conversion_tries(command, samples):
    plan = json.loads(command(samples / "digits.keras", "--to", "torchscript", "--plan", "--json").stdout)
    assert plan["torchscript"][0]["name"] == "keras-torch-trace"
    assert all(candidate["why"] for candidate in plan["torchscript"])


def test_a_fixed_dimension_has_its_size_in_the_artifact(command, samples):
    report = report_of(
        command(samples / "digits.pt", "--to", "torchscript", "--fix", "batch=2", "--json", "--out", "o")
    )
    (target,) = report["targets"]
    assert [spec["shape"] for spec in target["artifact"]["signature"]["inputs"]] == [[2, 1, 8, 8]]
    assert "--fix batch=2" in report["command"]


def test_a_size_for_a_dimension_that_is_not_there_is_refused(command, refused, samples):
    refused(command(samples / "digits.pt", "--inspect", "--fix", "steps=3"), 2, "its free dimensions are: batch")


@pytest.mark.parametrize(
    ("sample", "layout", "shape"), [("digits.pt", "nhwc", [8, 8, 1]), ("digits.keras", "nchw", [1, 8, 8])]
)
def test_a_layout_is_in_the_artifact_in_the_report_and_in_the_proof(command, samples, sample, layout, shape):
    made = command(samples / sample, "--to", "tflite", "--layout", layout, "--json", "--out", "o")
    (target,) = report_of(made)["targets"]
    (image,) = target["artifact"]["signature"]["inputs"]
    assert (image["shape"], image["layout"]) == (["batch", *shape], layout)
    assert f"image is {layout.upper()}" in target["attempts"][target["kept"]]["structure"]["reason"]
    # The file says it itself, so whoever validates it need not know how it was made.
    again = command("o/digits.tflite", "--reference", samples / sample, "--json", module="validators")
    assert report_of(again)["targets"][0]["status"] == "PASS"


def test_a_race_times_every_candidate_that_passes_and_keeps_the_fastest(command, samples):
    (target,) = report_of(command(samples / "digits.pt", "--to", "torchscript", "--race", "--json", "--out", "o"))[
        "targets"
    ]
    raced = {attempt["plan"]: attempt["latency"] for attempt in target["attempts"]}
    assert set(raced) >= {"torch-script", "torch-trace"}
    assert all(latency["runs"] for latency in raced.values())
    kept = target["attempts"][target["kept"]]
    fastest = min(latency["median_seconds"] for latency in raced.values())
    spread = max(latency["spread"] for latency in raced.values())
    assert kept["latency"]["median_seconds"] <= fastest * (1 + spread) / (1 - spread / 2)
    assert target["latency"] == [kept["latency"]]


def test_a_candidate_can_be_chosen(command, samples):
    (target,) = report_of(
        command(samples / "digits.pt", "--to", "torchscript", "--via", "torch-trace", "--json", "--out", "o")
    )["targets"]
    assert [attempt["plan"] for attempt in target["attempts"]] == ["torch-trace"]
