"""`--profile` shows where the time goes, and says why where it cannot."""

from __future__ import annotations

import json

import pytest


def test_a_profile_is_in_the_report_and_in_a_table(command, samples, tmp_path):
    words = [samples / "digits.tflite", "--reference", samples / "digits.keras", "--out", tmp_path / "out"]
    ran = command(*words, "--protocol", "quick", "--profile", "--quiet", module="validators")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    for words in ("LiteRT with XNNPACK, by its own profiler", "where: host", "CONV_2D", "digits_1/conv2d_1/Relu"):
        assert words in ran.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    profile = report["targets"][0]["profile"]
    assert profile["where"] == "host"
    assert sum(operator["share"] for operator in profile["operators"]) == pytest.approx(1)
    assert "--profile" in report["command"]


def test_a_profile_means_nothing_where_nothing_is_converted(command, refused, samples):
    refused(command(samples / "digits.pt", "--inspect", "--profile"), 2, "--profile")


def test_an_unknown_file_is_refused_as_without_a_profile(command, refused, samples, tmp_path):
    (tmp_path / "text.tflite").write_text("hello")
    words = ["text.tflite", "--reference", samples / "digits.pt", "--profile", "--instructions"]
    refused(command(*words, module="validators"), 2, "text.tflite is text")


@pytest.mark.slow
def test_a_saved_model_has_no_profile_and_says_so(command, samples):
    words = ["--to", "savedmodel", "--protocol", "quick", "--profile", "--instructions", "--timeout", "60", "--json"]
    ran = command(samples / "digits.keras", *words)
    target = json.loads(ran.stdout)["targets"][0]
    assert "savedmodel artifacts are not profiled" in target["profile"]["reason"]
    assert "not counted of savedmodel" in target["costs"]["reasons"]["macs"]
    assert target["costs"]["file_bytes"] > 0
