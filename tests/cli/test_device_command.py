"""`--device adb`: the report says where it was measured, and a device that fails is never a pass."""

from __future__ import annotations

import json
import os
import sys

import pytest
from device_tools import PERF_TEST, REAL, fake_adb, tool

ADB = fake_adb()


@pytest.fixture
def on_device(command, tmp_path, samples):
    """Judge the ONNX sample by itself and time it on a device, with what goes wrong there."""

    def run(*words, fault="", path=None, sample="digits.onnx"):
        home = tmp_path / "device"
        home.mkdir(exist_ok=True)
        path = tool(tmp_path / "tool", PERF_TEST) if path is None else path
        asked = ("--device", "adb", "--adb", ADB, "--benchmark-tool", path)
        environment = {**os.environ, "FAKE_ADB_HOME": str(home), "FAKE_ADB_FAULT": fault}
        model = samples / sample
        line = (model, "--reference", model, "--out", "out", *asked, *words)
        return command(*line, module="validators", env=environment)

    return run


def target(tmp_path):
    return json.loads((tmp_path / "out" / "report.json").read_text())["targets"][0]


def test_a_model_is_really_run_by_the_tool_that_was_pushed_with_it(on_device, tmp_path):
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "real"
    path.write_text(REAL.format(python=sys.executable))

    ran = on_device("--protocol", "quick", path=path, sample="digits.tflite")

    assert ran.returncode == 0, ran.stderr
    (found,) = target(tmp_path)["latency"]
    assert found["where"] == "device"
    assert found["device"]["model"] == "Google Pixel 8"
    assert 0 < found["fastest_seconds"] <= found["median_seconds"] <= found["slowest_seconds"] < 1
    assert found["runs"] >= 64
    assert found["untold"]["cpu_median_seconds"]
    assert "timed on a device (device): Google Pixel 8" in ran.stdout
    assert list((tmp_path / "device" / "tmp").iterdir()) == []


def test_a_device_that_is_lost_leaves_no_number_and_does_not_pass(on_device, tmp_path):
    ran = on_device(fault="lost half-way")

    assert ran.returncode == 1, ran.stderr
    found = target(tmp_path)
    assert found["status"] == "NOT_RUN"
    assert found["latency"] == [], "a number of this machine would be taken for one of the device"
    assert "the device was lost" in found["latency_reason"]
    assert "fix: " in found["latency_reason"]
    assert "NOT_RUN" in ran.stdout


@pytest.mark.parametrize(
    ("fault", "words", "said"),
    [
        ("none", (), "no Android device is attached"),
        ("unauthorized", (), "(unauthorized)"),
        ("", ("--adb", "nosuch"), "--adb nosuch is no program"),
        ("", ("--baseline", "old.onnx"), "--baseline is decided by timings of this machine"),
    ],
    ids=["no device", "unauthorised", "no adb", "a baseline"],
)
def test_what_is_missing_is_said_before_the_model_is_loaded(on_device, refused, tmp_path, fault, words, said):
    ran = on_device(*words, "--quiet", fault=fault)

    refused(ran, 2, said)
    assert not (tmp_path / "out").exists()


def test_convert_times_each_format_with_its_own_tool(command, tmp_path, samples):
    (tmp_path / "device").mkdir()
    path = tool(tmp_path / "tool", PERF_TEST)
    words = ("--to", "onnx", "--device", "adb", "--adb", ADB, "--benchmark-tool", f"onnx={path}", "--out", "out")

    ran = command(samples / "digits.onnx", *words, env={**os.environ, "FAKE_ADB_HOME": str(tmp_path / "device")})

    assert ran.returncode == 0, ran.stderr
    (found,) = target(tmp_path)["latency"]
    assert (found["where"], found["median_seconds"]) == ("device", pytest.approx(0.0091377))
