"""Timing on a device that is a folder: what is measured, what goes wrong, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from device_tools import CLASSIC, PERF_TEST, TODAY, TOO_NEW, fake_adb, tool

from convert.device import DeviceRequest, device_from, device_words
from convert.errors import DeviceError, UsageError
from validators import adb as adb_module
from validators import on_device, phone
from validators.adb import Answer
from validators.benchmarks import BENCHMARKS
from validators.on_device import check, check_timing, failure, timed_on_device
from validators.protocol import PROTOCOLS
from validators.where import Where

ADB = fake_adb()
QUICK = PROTOCOLS["quick"]


@pytest.fixture(autouse=True)
def device(tmp_path, monkeypatch):
    """A device, and everything that was ever pushed to it and not removed."""
    home = tmp_path / "device"
    home.mkdir()
    monkeypatch.setenv("FAKE_ADB_HOME", str(home))
    monkeypatch.setattr(adb_module, "REACH_SECONDS", 0.0)
    return home


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "my net.tflite"
    path.write_bytes(b"model")
    return path


def left(device):
    return sorted(path.name for path in (device / "tmp").iterdir()) if (device / "tmp").exists() else []


def timed(path, model, form="tflite", protocol=QUICK, threads=(1,), companions=(), timeout=60.0, sizes=(), **more):
    asked = DeviceRequest(tools=(str(path),), adb=str(ADB), **more)
    found = timed_on_device(asked, form, model, companions, threads, protocol, timeout, sizes, lambda _: None)
    return [one for one, _, _ in found]


def test_what_a_device_tells_is_in_the_measurement_and_says_where_it_is_of(tmp_path, model, device):
    (found,) = timed(tool(tmp_path / "tool", TODAY, stream=2), model)

    assert found.where is Where.DEVICE
    assert (found.median_seconds, found.p95_seconds, found.mean_seconds) == pytest.approx((462e-6, 478e-6, 464.545e-6))
    assert (found.load_seconds, found.first_seconds, found.runs) == pytest.approx((0.004478, 0.001033, 2112))
    assert found.peak_added_bytes == 11.5 * (1 << 20)
    assert str(found.device) == "Google Pixel 8 (Google Tensor G3), Android 15, arm64-v8a"
    assert (found.device.before.thermal_status, found.device.before.battery_percent) == (0, 87)
    assert found.device.before.charging is True
    assert left(device) == []


def test_what_it_does_not_tell_is_null_with_its_reason(tmp_path, model):
    (found,) = timed(tool(tmp_path / "tool", CLASSIC), model)

    for name in ("median_seconds", "p90_seconds", "p95_seconds", "p99_seconds", "spread", "cpu_median_seconds"):
        assert getattr(found, name) is None, name
        assert found.untold[name], name
    assert found.outliers is None
    assert found.mean_seconds == pytest.approx(0.0204889)
    assert not found.withheld


def test_percentiles_of_too_few_runs_are_left_out(tmp_path, model):
    (found,) = timed(tool(tmp_path / "tool", PERF_TEST.replace("requests: 1093", "requests: 100")), model, "onnx")

    assert found.p90_seconds == pytest.approx(0.00928)
    assert (found.p95_seconds, found.p99_seconds) == (None, None)
    assert found.untold["p99_seconds"] == "100 runs, and 662 are needed for it"


@pytest.mark.parametrize("told", ["ro.boot.qemu=1", "ro.hardware=ranchu"])
def test_an_emulator_is_no_device(tmp_path, model, monkeypatch, told):
    monkeypatch.setenv("FAKE_ADB_PROPERTIES", told)

    (found,) = timed(tool(tmp_path / "tool", TODAY), model)

    assert found.where is Where.EMULATED


def test_the_tool_is_called_with_threads_cores_and_words_of_the_user(tmp_path, model, device):
    path = tool(tmp_path / "tool", TODAY)
    extra = tmp_path / "libextra.so"
    extra.write_bytes(b"")

    found = timed(path, model, threads=(1, 4), cores="0x1", arguments=("--use_gpu=a b",), files=(str(extra),))

    ran = [line for line in (device / "log").read_text().splitlines() if "exec" in line]
    assert [one.threads for one in found] == [1, 4]
    assert "exec taskset 1 ./tool" in ran[0]
    assert "--num_threads=4" in ran[1]
    assert "my net.tflite" in ran[0]
    assert found[0].pinned == (0,)
    assert left(device) == []


def test_companions_and_libraries_lie_where_model_and_tool_look_for_them(tmp_path, device):
    model, data, library = tmp_path / "net.onnx", tmp_path / "net.onnx.data", tmp_path / "libonnxruntime.so"
    for file in (model, data, library):
        file.write_bytes(b"x")
    path = tool(tmp_path / "tool", PERF_TEST, before="ls . model >../seen; echo $LD_LIBRARY_PATH >../at")

    timed(path, model, "onnx", companions=[data], files=(str(library),), sizes=(("batch", 1), ("length", 16)))

    seen = (device / "tmp" / "seen").read_text().split()
    assert {"libonnxruntime.so", "tool", "net.onnx", "net.onnx.data"} <= set(seen)
    assert "edgeproof-" in (device / "tmp" / "at").read_text()
    assert "-f length:16" in (device / "log").read_text()


def test_output_without_a_last_end_of_line_is_read_to_its_end(tmp_path, model):
    path = tool(tmp_path / "tool", TODAY, before=f"printf '%s' '{PERF_TEST.strip()}'; exit 0")

    (found,) = timed(path, model, "onnx")

    assert found.p99_seconds == pytest.approx(0.0112)


def test_several_processes_are_put_together_where_they_agree(tmp_path, model):
    (found,) = timed(tool(tmp_path / "tool", TODAY), model, protocol=PROTOCOLS["release"])

    assert (found.processes, found.runs, len(found.openings)) == (5, 5 * 2112, 5)
    assert found.median_seconds == pytest.approx(462e-6)


def test_processes_that_differ_are_withheld(tmp_path, model):
    slower = TODAY.replace("median=462", "median=662")
    before = f"[ -f ../again ] && {{ cat <<'END'\n{slower}END\nexit 0; }}; touch ../again"

    (found,) = timed(tool(tmp_path / "tool", TODAY, before=before), model, protocol=PROTOCOLS["release"])

    assert "processes differ by" in found.withheld
    assert (found.median_seconds, found.mean_seconds) == (None, None)


@pytest.mark.parametrize(
    ("statuses", "said"),
    [("2", "throttling before it (thermal status moderate"), ("0,3", "throttling after it (thermal status severe")],
)
def test_numbers_of_a_device_that_throttles_are_withheld(tmp_path, model, monkeypatch, statuses, said):
    monkeypatch.setenv("FAKE_ADB_THERMAL", statuses)

    (found,) = timed(tool(tmp_path / "tool", TODAY), model)

    assert said in found.withheld
    for name in ("median_seconds", "mean_seconds", "p95_seconds", "fastest_seconds", "load_seconds", "first_seconds"):
        assert getattr(found, name) is None, name
        assert found.untold[name] == found.withheld


def test_a_tool_that_says_it_was_throttled_is_believed(tmp_path, model):
    (found,) = timed(tool(tmp_path / "tool", TODAY + "WARN: CPU is thermally throttled to 1.1 GHz\n"), model)

    assert "throttled to 1.1 GHz" in found.withheld
    assert found.median_seconds is None


def test_a_model_that_is_called_throttling_is_timed(tmp_path, model):
    model = model.rename(tmp_path / "throttling.tflite")
    (found,) = timed(tool(tmp_path / "tool", TODAY.replace("model/net.tflite", "model/throttling.tflite")), model)

    assert found.median_seconds is not None


def test_light_throttling_is_said_and_not_withheld(tmp_path, model, monkeypatch):
    monkeypatch.setenv("FAKE_ADB_THERMAL", "1")

    (found,) = timed(tool(tmp_path / "tool", TODAY), model)

    assert not found.withheld
    assert any("thermal status light" in note for note in found.notes)


def test_a_device_that_tells_no_thermal_status_is_timed_and_that_is_said(tmp_path, model, monkeypatch):
    monkeypatch.setenv("FAKE_ADB_THERMAL", "")

    (found,) = timed(tool(tmp_path / "tool", TODAY), model)

    assert found.device.after.thermal_status is None
    assert any("whether it throttled is not known" in note for note in found.notes)


def test_an_adb_that_passes_on_no_exit_code_is_understood(tmp_path, model, monkeypatch, device):
    monkeypatch.setenv("FAKE_ADB_FAULT", "old")

    (found,) = timed(tool(tmp_path / "tool", TODAY), model)
    assert found.median_seconds == pytest.approx(462e-6)

    with pytest.raises(DeviceError, match="benchmark_model ended with 3"):
        timed(tool(tmp_path / "tool", "no such thing\n", code=3), model)
    assert left(device) == []


FAILING = {
    "another ABI": ("/system/bin/sh: ./tool: not executable: 64-bit ELF file\n", 126, "cannot run", "arm64-v8a"),
    "another ABI, as Linux says it": ("sh: ./tool: Exec format error\n", 126, "cannot run", "arm64-v8a"),
    "no library": (
        'CANNOT LINK EXECUTABLE "./tool": library "libonnxruntime.so" not found: needed by main executable\n',
        1,
        "needs libonnxruntime.so",
        "--benchmark-file PATH/libonnxruntime.so",
    ),
    "a symbol that is missing": (
        'CANNOT LINK EXECUTABLE "./tool": cannot locate symbol "x"\n',
        1,
        "cannot link",
        "build it",
    ),
    "a model that is too new": (TOO_NEW, 1, "newer than benchmark_model", "as new as"),
    "a loader of a desktop": ("/system/bin/sh: ./tool: No such file or directory\n", 127, "cannot start", "NDK"),
    "no memory": ("Killed\n", 137, "killed, as a rule for want of memory", "smaller"),
    "a crash": ("Segmentation fault\n", 139, "segmentation fault", "smaller"),
    "an error of its own": ("ERROR: graph not found\nERROR: Benchmarking failed.\n", 1, "Benchmarking failed", "says"),
}


@pytest.mark.parametrize(("text", "code", "said", "fix"), FAILING.values(), ids=FAILING.keys())
def test_a_tool_that_fails_says_why(text, code, said, fix):
    device = phone.Phone("Pixel 8", "", "15", "35", ("arm64-v8a",), "", Where.DEVICE)

    failed = failure(Answer(code, "STARTING!\n", text), BENCHMARKS["benchmark_model"], device)

    assert said in failed.message
    assert fix in failed.fix


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [(TOO_NEW, 1, "the model is newer"), ("hello\n", 0, "cannot be read: hello"), ("", 0, "nothing was printed")],
)
def test_after_a_failure_all_is_removed(tmp_path, model, device, text, code, said):
    with pytest.raises(DeviceError, match=said):
        timed(tool(tmp_path / "tool", text, code=code, stream=2), model)
    assert left(device) == []


def test_a_full_device_says_what_does_not_fit(tmp_path, model, monkeypatch, device):
    monkeypatch.setenv("FAKE_ADB_FAULT", "no space")

    with pytest.raises(DeviceError, match=r"my net.tflite .* no space is left"):
        timed(tool(tmp_path / "tool", TODAY), model)
    assert left(device) == []


@pytest.mark.parametrize("fault", ["lost half-way", "lost at push"])
def test_a_device_that_is_lost_is_said_with_what_is_left_on_it(tmp_path, model, monkeypatch, device, fault):
    monkeypatch.setenv("FAKE_ADB_FAULT", fault)

    with pytest.raises(DeviceError, match=r"the device was lost: .*edgeproof-.* is left on the device"):
        timed(tool(tmp_path / "tool", TODAY), model)


def test_a_tool_that_hangs_is_ended_and_removed(tmp_path, model, device):
    path = tool(tmp_path / "tool", TODAY, before="cp pid ../pid; exec sleep 60")

    with pytest.raises(DeviceError, match="no answer within 1 s"):
        timed(path, model, timeout=1.0)

    number = int((device / "tmp" / "pid").read_text())
    (device / "tmp" / "pid").unlink()
    assert left(device) == []
    ends = time.monotonic() + 5
    while running(number):
        assert time.monotonic() < ends, "it still runs on the device"
        time.sleep(0.05)


def running(number):
    try:
        return "Z" not in Path(f"/proc/{number}/stat").read_text().split(")")[1].split()[0]
    except FileNotFoundError:
        return False


SHUT = {
    "none": "no Android device is attached",
    "unauthorized": "no device lets adb in: R5CT10ABCDE (unauthorized)",
    "offline": "R5CT10ABCDE (offline)",
    "recovery": "R5CT10ABCDE (recovery)",
    "no permissions": "R5CT10ABCDE (no permissions)",
    "several": "several devices are attached: R5CT10ABCDE (device), emulator-5554 (device)",
    "server": "adb devices failed: error: cannot connect to daemon",
}
FIXES = {
    "none": "USB debugging",
    "unauthorized": "allow USB debugging",
    "offline": "replug",
    "recovery": "start Android",
    "no permissions": "udev",
    "several": "--device adb:R5CT10ABCDE",
    "server": "kill-server",
}


@pytest.mark.parametrize("fault", SHUT)
def test_a_device_that_cannot_be_reached_is_a_usage_error_before_anything_is_done(tmp_path, monkeypatch, fault):
    monkeypatch.setenv("FAKE_ADB_FAULT", fault)
    asked = DeviceRequest(tools=(str(tool(tmp_path / "tool")),), adb=str(ADB))

    with pytest.raises(UsageError) as refused:
        check(asked, ["tflite"])

    assert SHUT[fault] in refused.value.message
    assert FIXES[fault] in refused.value.fix


def test_one_of_several_devices_is_chosen_by_its_serial(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_ADB_FAULT", "several")
    asked = DeviceRequest("R5CT10ABCDE", tools=(str(tool(tmp_path / "tool")),), adb=str(ADB))

    assert check(asked, ["tflite"]).model == "Google Pixel 8"

    with pytest.raises(UsageError, match="no device R5 is attached; there is R5CT10ABCDE"):
        check(DeviceRequest("R5", tools=asked.tools, adb=str(ADB)), ["tflite"])


def elf(path, machine):
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44))
    return path


def test_a_tool_for_another_processor_is_refused_before_anything_is_done(tmp_path):
    asked = DeviceRequest(tools=(str(elf(tmp_path / "tool", 0x3E)),), adb=str(ADB))

    with pytest.raises(UsageError, match=r"built for x86_64, and Google Pixel 8 .* runs arm64-v8a"):
        check(asked, ["tflite"])

    assert check(DeviceRequest(tools=(str(elf(tmp_path / "tool", 0xB7)),), adb=str(ADB)), ["tflite"])


def test_an_app_is_no_tool(tmp_path):
    (tmp_path / "app.apk").write_bytes(b"PK\x03\x04" + bytes(40))

    with pytest.raises(UsageError, match="no program that Android runs"):
        check(DeviceRequest(tools=(str(tmp_path / "app.apk"),), adb=str(ADB)), ["tflite"])
    assert phone.abi_of(ADB) == ""


def test_adb_is_looked_for_on_the_path_and_in_the_sdk(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="adb is not installed: looked on PATH"):
        adb_module.find()
    with pytest.raises(UsageError, match=r"--adb .*nosuch is no program"):
        adb_module.find(str(tmp_path / "nosuch"))

    of_sdk = tmp_path / "sdk" / "platform-tools" / "adb"
    of_sdk.parent.mkdir(parents=True)
    tool(of_sdk).chmod(0o755)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert adb_module.find() == str(of_sdk)

    tool(tmp_path / "adb").chmod(0o755)
    assert adb_module.find() == str(tmp_path / "adb")


WORDS = {
    "another kind": ({"device": "ios"}, "cannot read --device 'ios'"),
    "no serial after the colon": ({"device": "adb:", "tools": ("t",)}, "cannot read --device 'adb:'"),
    "no tool": ({"device": "adb"}, "needs the tool"),
    "a mask that is none": ({"device": "adb", "tools": ("t",), "cores": "4-7"}, "--taskset 4-7"),
    "a mask of no core": ({"device": "adb", "tools": ("t",), "cores": "0"}, "--taskset 0"),
    "a tool for this machine": ({"device": "host", "tools": ("t",)}, "--benchmark-tool has no meaning"),
    "an adb for this machine": ({"device": "host", "adb": "adb"}, "--adb has no meaning"),
}


@pytest.mark.parametrize(("options", "said"), WORDS.values(), ids=WORDS.keys())
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(UsageError) as refused:
        device_from(**options)
    assert said in refused.value.message
    assert refused.value.fix


def test_options_become_a_request_and_the_command_that_repeats_it():
    asked = device_from("adb:192.168.1.5:5555", ("tflite=a", "onnx=b"), cores="f0")

    assert asked.serial == "192.168.1.5:5555"
    assert (asked.tool("tflite"), asked.tool("onnx")) == ("a", "b")
    assert ("device", "adb:192.168.1.5:5555") in device_words(asked)
    assert device_from("host") is None
    assert device_words(None) == ()


def test_what_would_be_decided_by_this_machine_is_refused(tmp_path):
    asked = DeviceRequest(tools=(str(tool(tmp_path / "tool")),), adb=str(ADB))

    for more, said in (({"baseline": "x"}, "--baseline"), ({"race": True}, "--race")):
        with pytest.raises(UsageError, match=f"{said} is decided by timings of this machine"):
            check_timing(asked, ["tflite"], (1,), **more)
    with pytest.raises(UsageError, match="nothing to time"):
        check_timing(asked, ["tflite"], ())


def test_a_format_without_its_tool_is_refused(tmp_path):
    asked = DeviceRequest(tools=(f"tflite={tool(tmp_path / 'tool')}",), adb=str(ADB))

    with pytest.raises(UsageError, match="no --benchmark-tool is given for onnx"):
        check(asked, ["tflite", "onnx"])
    with pytest.raises(UsageError, match="there is no such file"):
        check(DeviceRequest(tools=("nosuch",), adb=str(ADB)), ["tflite"])
    with pytest.raises(UsageError, match="would take the place of our own"):
        check(DeviceRequest(tools=asked.tools, files=(str(tmp_path / "tool"),), adb=str(ADB)), ["tflite"])


def test_ctrl_c_removes_what_was_pushed(tmp_path, model, device):
    path = tool(tmp_path / "tool", TODAY, before="touch ../started; exec sleep 60")
    code = (
        "import sys\nfrom pathlib import Path\nfrom convert.device import DeviceRequest\n"
        "from convert.terminal import exits\nfrom validators.on_device import timed_on_device\n"
        "from validators.protocol import PROTOCOLS\n"
        "with exits():\n    timed_on_device(DeviceRequest(tools=(sys.argv[1],), adb=sys.argv[2]), 'tflite', "
        "Path(sys.argv[3]), [], (1,), PROTOCOLS['quick'], 60.0, (), lambda _: None)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, path, ADB, model], start_new_session=True)
    ends = time.monotonic() + 20
    while not (device / "tmp" / "started").exists():
        assert time.monotonic() < ends
        time.sleep(0.05)

    os.killpg(run.pid, signal.SIGINT)

    assert run.wait(timeout=20) == 130
    assert left(device) == ["started"]


def test_levels_of_heat_are_androids():
    assert phone.LEVELS[phone.THROTTLED] == "moderate"
    assert on_device.THROTTLED == 2
