"""What a run leaves behind: its answer on stdout, its talk on stderr, and proven artifacts only."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest

#: Right as the model, wrong as soon as a converter looks at it.
WRONG = """
def forward(self, image):
    logits = self.classifier(self.features(image))
    if torch.jit.is_scripting() or torch.jit.is_tracing():
        logits = logits * 1.01
    return logits
"""

#: Ends the process of every converter that looks at it.
CRASHING = """
def __prepare_scriptable__(self):
    os.abort()

def forward(self, image):
    if torch.jit.is_tracing():
        os.abort()
    return self.classifier(self.features(image))
"""

#: Ends its own process in double precision, as one does that needs more memory there than the machine has.
NARROW = """
def forward(self, image):
    if image.dtype == torch.float64:
        os.abort()
    return self.classifier(self.features(image))
"""


def test_stdout_holds_the_report_and_nothing_else(converted):
    run = converted("digits.pt")
    assert run.exit_code == 0, run.stderr
    report = json.loads(run.stdout)
    assert report == json.loads((run.folder / "report.json").read_text())
    assert {target["target"]: target["status"] for target in report["targets"]} == dict.fromkeys(
        ("onnx", "savedmodel", "tflite", "torchscript"), "PASS"
    )


def test_stderr_holds_the_progress_and_nothing_that_a_framework_printed(converted):
    lines = converted("digits.pt").stderr.splitlines()
    assert [line for line in lines if not line.lstrip()[:1].isdigit()] == []
    for words in ("loading", "converting with", "PASS", "timing"):
        assert any(words in line for line in lines)


def test_the_folder_holds_the_artifacts_the_report_and_what_repeats_each_stage(converted, finished):
    run = converted("digits.pt")
    files = [name for name in finished(run.folder) if not name.startswith("digits/1/")]
    assert files == ["digits.onnx", "digits.pt", "digits.tflite", "report.json"]
    assert "digits/1/saved_model.pb" in finished(run.folder)
    assert {entry.name for entry in run.folder.iterdir()} == {*files, "digits", "stages"}


def test_nothing_of_the_machine_is_left_in_an_artifact(converted, samples):
    run = converted("digits.pt")
    for name in ("digits.onnx", "digits.pt", "digits.tflite", "digits/1/saved_model.pb"):
        content = (run.folder / name).read_bytes()
        places = (run.folder, samples, samples.parent, sys.prefix)
        found = [str(place) for place in places if str(place).encode() in content]
        assert (name, found) == (name, [])
    with zipfile.ZipFile(run.folder / "digits.pt") as archive:
        assert [name for name in archive.namelist() if "debug" in name] == []


def test_a_stage_of_a_run_can_be_repeated_with_the_command_in_its_report(converted):
    (target,) = [t for t in converted("digits.pt").report["targets"] if t["target"] == "tflite"]
    (words,) = [s["command"] for s in target["attempts"][0]["stages"] if s["stage"].startswith("inspect")]
    module, job = words.split()[2:]
    ran = subprocess.run([sys.executable, "-m", module, job], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)["signature"] == target["artifact"]["signature"]


def test_an_artifact_is_replaced_by_one_that_passes_and_equal_runs_give_equal_bytes(
    command, converted, samples, tmp_path, finished
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "digits.pt").write_text("what was there before")
    ran = command(samples / "digits.pt", "--to", "torchscript", "--out", "out")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out" / "digits.pt").read_bytes() == (converted("digits.pt").folder / "digits.pt").read_bytes()
    assert finished(tmp_path / "out") == ["digits.pt", "report.json"]
    for words in ("torchscript fp32", "PASS", "torch-script", "torchscript: out/digits.pt", "report: out/report.json"):
        assert words in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr, "no colours where there is no terminal"


def test_an_artifact_is_kept_when_the_new_one_does_not_pass(command, weights, architecture, tmp_path, finished):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "digits_weights.pt").write_text("what was there before")
    ran = command(
        *(*weights, architecture(WRONG), "--to", "torchscript", "--via", "torch-script"),
        *("--out", "out", "--quiet", "--json", "--threads", "1,2"),
    )
    assert ran.returncode == 1
    assert ran.stderr == "", "--quiet"
    assert (tmp_path / "out" / "digits_weights.pt").read_text() == "what was there before"
    assert finished(tmp_path / "out") == ["digits_weights.pt", "report.json", "unproven/digits_weights.pt"]
    report = json.loads(ran.stdout)
    said = ("--to torchscript", "net.py:Net", "--out out", "--input 'image:float32[batch,1,8,8]'", "--threads 1,2")
    assert [words for words in said if words not in report["command"]] == [], "the command repeats this run"
    (target,) = report["targets"]
    assert target["status"] == "FAIL"
    assert target["artifact"]["path"] == "out/unproven/digits_weights.pt"
    assert [(attempt["plan"], attempt["reached"]) for attempt in target["attempts"]] == [("torch-script", "parity")]


def test_a_model_that_crashes_its_converters_is_a_report_of_crashes(command, weights, architecture, tmp_path, finished):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "digits_weights.pt").write_text("what was there before")
    ran = command(*weights, architecture(CRASHING), "--to", "torchscript", "--via", "torch-script", "--out", "out")
    assert ran.returncode == 3
    assert "Traceback" not in ran.stderr + ran.stdout
    assert (tmp_path / "out" / "digits_weights.pt").read_text() == "what was there before"
    assert finished(tmp_path / "out") == ["digits_weights.pt", "report.json"]
    assert "candidate torch-script could not convert" in ran.stdout
    assert "was killed by SIGABRT" in ran.stdout
    assert (
        "fix: repeat it with: python -m convert.worker out/stages/convert-torchscript-torch-script.json" in ran.stdout
    )


def test_a_second_run_into_the_folder_is_refused_while_the_first_goes_on(command, refused, samples, tmp_path):
    line = [sys.executable, "-m", "convert", samples / "digits.pt", "--to", "tflite", "--out", "out"]
    first = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert "loading" in first.stderr.readline()
        refused(command(samples / "digits.keras", "--to", "onnx", "--out", "out"), 2, "another run", "out", "--out")
        assert first.poll() is None
    finally:
        first.terminate()
        first.communicate()


READERS = {
    "inspect": ("--inspect",),
    "convert": ("--to", "torchscript", "--out", "out"),
}


@pytest.mark.parametrize(
    "words", [READERS["inspect"], pytest.param(READERS["convert"], marks=pytest.mark.slow)], ids=READERS.keys()
)
def test_a_reader_that_goes_away_is_no_bug(samples, tmp_path, words):
    line = [sys.executable, "-m", "convert", samples / "digits.pt", *words]
    ran = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    ran.stdout.close()
    said = ran.stderr.read()
    ran.stderr.close()
    assert ran.wait(120) != 0, "what was asked for was not delivered"
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert ("--to" in words) == (tmp_path / "out" / "report.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("place", ["nowhere", "a full disk"])
def test_an_answer_that_cannot_be_written_is_an_error_and_no_bug(samples, tmp_path, words, place):
    line = [sys.executable, "-m", "convert", str(samples / "digits.pt"), *words]
    target = {"nowhere": ">&-", "a full disk": ">/dev/full"}[place]
    shell = ["sh", "-c", f'exec "$@" {target}', "sh", *line]
    ran = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path, timeout=240)
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr


def test_the_python_api_returns_the_report_the_command_writes(converted):
    from validators.report import Report
    from validators.reports.json import read

    report = read(converted("digits.pt").stdout)
    assert isinstance(report, Report)
    assert report.exit_code == 0
    assert report.targets[0].artifact.sha256


def test_a_source_that_does_not_survive_float64_is_judged_by_tolerance_and_why_is_told(command, weights, architecture):
    ran = command(*weights, architecture(NARROW), "--to", "onnx", "--protocol", "quick", "--json", "--quiet")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["reference"]["oracle"] == "in float64 the process of stage oracle was killed by SIGABRT"
    assert [stage["stage"] for stage in report["reference"]["stages"]].count("oracle") == 1
    assert "tolerance" in report["targets"][0]["reason"]
