"""`--instructions` counts what an inference executes, and says NOT_RUN with a fix where it cannot."""

from __future__ import annotations

import json
import os
import sys

import pytest

DIGITS = 84_224  # multiply-accumulates


def test_costs_are_in_the_report_and_a_missing_valgrind_is_never_silent(command, samples, tmp_path):
    words = [samples / "digits.tflite", "--reference", samples / "digits.keras", "--out", tmp_path / "out"]
    # Nothing but this interpreter is found, and so no valgrind.
    bare = {**os.environ, "PATH": os.path.dirname(sys.executable)}  # noqa: PTH120  a plain word for a variable
    ran = command(*words, "--protocol", "quick", "--instructions", module="validators", env=bare)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert f"{DIGITS:,} multiply-accumulates" in ran.stdout
    assert "instructions: NOT_RUN: valgrind is not installed" in ran.stdout
    assert "apt install valgrind" in ran.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    costs = report["targets"][0]["costs"]
    assert costs["macs"] == DIGITS
    assert costs["file_bytes"] == (samples / "digits.tflite").stat().st_size
    assert costs["sizes"] == [["batch", 1]]
    assert costs["instructions"] is None
    assert "--instructions" in report["command"]


def test_instructions_mean_nothing_where_nothing_is_converted(command, refused, samples):
    refused(command(samples / "digits.pt", "--inspect", "--instructions"), 2, "--instructions")


@pytest.mark.slow
def test_instructions_of_a_conversion_are_counted(command, samples):
    ran = command(samples / "digits.pt", "--to", "tflite", "--protocol", "quick", "--instructions", "--json")
    assert ran.returncode == 0, ran.stderr
    costs = json.loads(ran.stdout)["targets"][0]["costs"]
    assert costs["instructions"] > DIGITS / 16
    assert costs["instruction_set"]
    assert len(costs["instruction_runs"]) == 9
