"""`python -m validators` judges an artifact that anybody made, and says what it cannot judge."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def validate(command):
    """Run `python -m validators` and give what it answered."""

    def run(*words: object):
        return command(*words, module="validators")

    return run


def renamed(source: Path, target: Path) -> Path:
    """Copy an ONNX file with other names for its inputs and outputs, as another converter would give."""
    model = onnx.load(str(source))
    names = {"image": "serving_default_x:0", "logits": "StatefulPartitionedCall:0"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    onnx.save(model, str(target))
    return target


def test_an_artifact_made_before_passes_and_is_only_read(validate, converted, samples, tmp_path, finished):
    artifact = tmp_path / "theirs.tflite"
    artifact.write_bytes((converted("digits.pt").folder / "digits.tflite").read_bytes())
    before = artifact.stat()
    ran = validate(artifact, "--reference", samples / "digits.pt", "--seed", "3", "--json", "--quiet")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    report = json.loads(ran.stdout)
    (target,) = report["targets"]
    assert (target["target"], target["status"]) == ("tflite", "PASS")
    assert target["latency"]
    assert report["command"].split()[:3] == ["python", "-m", "validators"]
    assert "--seed 3" in report["command"], "the command repeats this run"
    assert artifact.stat().st_mtime_ns == before.st_mtime_ns
    assert finished(tmp_path / "theirs.tflite-proof") == ["report.json"]
    assert json.loads((tmp_path / "theirs.tflite-proof" / "report.json").read_text()) == report


def test_an_artifact_with_names_of_its_own_fails_and_is_told_how_to_be_compared(validate, converted, samples, tmp_path):
    theirs = renamed(converted("digits.pt").folder / "digits.onnx", tmp_path / "theirs.onnx")
    ran = validate(theirs, "--reference", samples / "digits.pt")
    assert ran.returncode == 1
    for words in ("onnx FAIL", "serving_default_x:0", "image", "--match position"):
        assert words in ran.stdout


def test_an_artifact_with_names_of_its_own_passes_by_position(validate, converted, samples, tmp_path):
    theirs = renamed(converted("digits.pt").folder / "digits.onnx", tmp_path / "theirs.onnx")
    ran = validate(theirs, "--reference", samples / "digits.pt", "--match", "position")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    for words in ("PASS", "matched by position", "image is serving_default_x:0"):
        assert words in ran.stdout


@pytest.mark.slow
def test_a_torchscript_file_without_a_signature_is_judged_too(validate, unsigned, samples):
    ran = validate(unsigned, "--reference", samples / "digits.pt", "--match", "position", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["targets"][0]["status"] == "PASS"


@pytest.mark.parametrize("name", ["digits.tflite", "digits.pt"])
def test_an_artifact_cut_short_never_passes(validate, converted, samples, tmp_path, name):
    content = (converted("digits.pt").folder / name).read_bytes()
    (tmp_path / f"cut-{name}").write_bytes(content[: len(content) // 2])
    ran = validate(f"cut-{name}", "--reference", samples / "digits.pt", "--quiet")
    assert ran.returncode in (1, 2)
    assert "damaged" in ran.stdout + ran.stderr
    assert f"cut-{name}" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


REFUSED = {
    "an artifact that is not there": (["nosuch.tflite", "--reference", SAMPLES / "digits.pt"], "nosuch.tflite"),
    "an artifact that is empty": (["empty", "--reference", SAMPLES / "digits.pt"], "empty is empty"),
    "an artifact of text": (["text", "--reference", SAMPLES / "digits.pt"], "text is text"),
    "a folder for an artifact": (["folder", "--reference", SAMPLES / "digits.pt"], "folder is an empty folder"),
    "a Keras model for an artifact": ([SAMPLES / "digits.keras", "--reference", SAMPLES / "digits.pt"], "digits.keras"),
    "a reference that is not there": ([SAMPLES / "digits.pt", "--reference", "nosuch.pt"], "nosuch.pt"),
    "a reference that is empty": ([SAMPLES / "digits.pt", "--reference", "empty"], "empty is empty"),
    "another way to match": (
        [SAMPLES / "digits.pt", "--reference", SAMPLES / "digits.pt", "--match", "postion"],
        "did you mean 'position'",
    ),
    "no threads": ([SAMPLES / "digits.pt", "--reference", SAMPLES / "digits.pt", "--threads", "0"], "--threads"),
    "an output folder that is a file": (
        [SAMPLES / "digits.pt", "--reference", SAMPLES / "digits.pt", "--out", "text"],
        "--out",
    ),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_judged_is_refused(validate, refused, tmp_path, words, said):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    refused(validate(*words), 2, said)
    assert sorted(tmp_path.rglob("*")) == before, "nothing may be written for it"


@pytest.mark.parametrize("words", [[], [SAMPLES / "digits.pt"]], ids=["nothing", "no reference"])
def test_what_is_missing_on_the_command_line_is_named(validate, words):
    ran = validate(*words)
    assert ran.returncode == 2
    assert ("--reference" if words else "ARTIFACT") in ran.stderr
    assert "--help" in ran.stderr


def test_what_costs_more_than_its_budget_does_not_pass(validate, samples, tmp_path):
    reference = ("--reference", samples / "digits.onnx", "--protocol", "quick", "--quiet")
    (tmp_path / "edgeproof.toml").write_text(
        "[budget]\nlatency_ms = 10_000\ncold_start_ms = 10_000\n[budget.onnx]\nfile_bytes = '1 KiB'\n"
    )
    ran = validate(samples / "digits.onnx", *reference, "--out", "proof", "--json")
    assert (ran.returncode, ran.stderr) == (1, "")
    report = json.loads(ran.stdout)
    (target,) = report["targets"]
    assert (report["policy"], target["status"]) == ("edgeproof.toml", "FAIL")
    assert "--policy edgeproof.toml" in report["command"]
    found = {item["key"]: item["status"] for item in target["budgets"]}
    assert found.pop("latency_ms") in ("PASS", "NOT_RUN"), "on a busy machine it is withheld"
    assert found == {"cold_start_ms": "NOT_RUN", "file_bytes": "FAIL"}, "one opening makes no interval"
    ran = validate("judge", "proof")
    assert ran.returncode == 1
    assert "FAIL, file_bytes: size " in ran.stdout


def test_a_policy_that_cannot_be_read_is_refused_before_anything_runs(validate, samples, tmp_path, refused):
    (tmp_path / "edgeproof.toml").write_text("[budget]\nlatency = 5\n")
    words = (samples / "digits.onnx", "--reference", samples / "digits.onnx", "--out", "proof")
    refused(validate(*words), 2, "edgeproof.toml: [budget] has no 'latency'", "latency_ms")
    refused(validate(*words, "--policy", "nowhere.toml"), 2, "there is no policy nowhere.toml")
    refused(validate(*words, "--policy", "edgeproof.toml", "--no-policy"), 2, "exclude each other")
    (tmp_path / "edgeproof.toml").write_text("[outputs.scores]\nmax_abs = 1\n")
    refused(validate(*words, "--quiet"), 2, "'scores'", "the model has logits")


def test_an_artifact_is_swept_drawn_and_the_largest_batch_found(validate, samples, tmp_path):
    words = ("--reference", samples / "digits.onnx", "--protocol", "quick", "--quiet", "--out", "proof")
    sweeps = ("--sweep", "batch=4", "--batch-within", "1 MiB", "--plots", "pictures")
    ran = validate(samples / "digits.onnx", *words, *sweeps, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    report = json.loads(ran.stdout)
    batch, within = report["targets"][0]["sweeps"]
    (point,) = batch["points"]
    assert (point["value"], point["items"]) == (4, 4)
    assert point["latency"]["runs"] > 0
    assert point["peak_bytes"] > 0
    assert within["largest"] is None, "the engine alone takes more"
    assert "takes" in within["reason"]
    assert "--sweep batch=4 --batch-within '1 MiB'" in report["command"]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "onnx-batch-within.png",
        "onnx-latency-1.png",
        "onnx-sweep-batch.png",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep", "batch"], "cannot read --sweep 'batch'"),
        (["--sweep", "bacth=1"], "did you mean 'batch'"),
        (["--batch-within", "512"], "--batch-within '512' is no size"),
        (["--plots-format", "png"], "add --plots DIR"),
        (["--plots", "pictures", "--plots-format", "pgn"], "did you mean 'png'"),
    ],
)
def test_a_sweep_or_a_picture_that_cannot_be_made_is_refused(validate, samples, refused, words, said):
    common = ("--reference", samples / "digits.onnx", "--quiet", "--out", "proof")
    refused(validate(samples / "digits.onnx", *common, *words), 2, said)
