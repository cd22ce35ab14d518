"""A report judged again by its numbers: as it was judged, or by a team's own policy."""

from __future__ import annotations

import dataclasses
import tomllib

import msgspec
import pytest

from convert.errors import UsageError
from validators.decision import Bounds, bounds, decide
from validators.enforcement import found_policy
from validators.policy import Policy, read_policy
from validators.policy_schema import document
from validators.quantity import bytes_from
from validators.verdict import OutputParity, Status

RIGHT = OutputParity(
    "logits",
    Status.PASS,
    "",
    "float64",
    360,
    ratio=1.2,
    max_abs=1e-4,
    rmse=1e-4,
    reference_rms=10.0,
    reference_noise_rmse=1e-4,
    case_ratio=3.0,
    case="normal-0",
    sqnr_db=100.0,
)
REDUCED = dataclasses.replace(RIGHT, ratio=1.0, rmse=0.2, ideal_rmse=0.2, distance=0.1, sqnr_db=34.0)


def status(output, limits, precision="fp32"):
    return decide(output, limits, precision)[0]


def test_the_built_in_bounds_pass_what_is_right():
    assert status(RIGHT, bounds("fp32")) is Status.PASS
    assert status(REDUCED, bounds("int8", 0.25), "int8") is Status.PASS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ratio": 9.0}, "errs 9 times"),
        ({"ratio": None}, "where that does not err at all"),
        ({"case_ratio": 200.0}, "on case normal-0 it errs 200 times"),
    ],
)
def test_every_figure_can_fail_alone(change, said):
    found, reason = decide(dataclasses.replace(RIGHT, **change), bounds("fp32"), "fp32")
    assert (found, said in reason) == (Status.FAIL, True), reason


def test_an_error_below_the_floor_passes_whatever_the_ratio_is():
    small = dataclasses.replace(RIGHT, ratio=9.0, rmse=1e-6)
    assert status(small, bounds("fp32")) is Status.PASS
    assert status(small, dataclasses.replace(bounds("fp32"), floor=0.0)) is Status.FAIL


def test_the_distance_from_the_ideal_fails_where_the_ratio_does_not():
    found, reason = decide(dataclasses.replace(REDUCED, distance=0.6), bounds("int8", 0.25), "int8")
    assert found is Status.FAIL
    assert "conversion fault" in reason
    assert "(D)" in reason
    assert status(dataclasses.replace(REDUCED, distance=0.6), bounds("int8"), "int8") is Status.PASS, "not judged"


def test_integers_differ_by_a_share_and_tolerances_stand_in_for_float64():
    whole = OutputParity("digit", Status.PASS, "", "equality", 100, changed=0)
    assert status(whole, bounds("fp32")) is Status.PASS
    assert status(dataclasses.replace(whole, changed=1), bounds("fp32")) is Status.FAIL
    assert status(dataclasses.replace(whole, changed=1), bounds("int8"), "int8") is Status.PASS
    named = OutputParity("logits", Status.PASS, "", "scaled_max_fp32", 100, scaled_max=2e-4)
    assert status(named, bounds("fp32")) is Status.FAIL
    assert status(dataclasses.replace(named, scaled_max=1e-5), bounds("fp32")) is Status.PASS


def test_a_user_may_bound_an_output_in_its_own_unit():
    assert status(RIGHT, Bounds(8.0, max_abs=1e-5)) is Status.FAIL
    assert status(RIGHT, Bounds(8.0, max_abs=1e-3)) is Status.PASS
    assert status(RIGHT, Bounds(8.0, sqnr_db=120.0)) is Status.FAIL


TEXT = """
[parity]
ratio = 4
floor = 0
[parity.int8]
ratio = 1.1
[outputs.logits]
max_abs = 1e-3
[quality]
min_sqnr_db = 30
[quality.int8]
min_sqnr_db = 25
"""


def test_the_nearest_statement_of_a_policy_wins(tmp_path):
    (tmp_path / "policy.toml").write_text(TEXT)
    policy = read_policy(tmp_path / "policy.toml")
    assert policy.bounds("fp32", "other", None).ratio == 4
    assert policy.bounds("fp32", "other", None).max_abs is None
    assert policy.bounds("int8", "logits", 0.25) == dataclasses.replace(
        bounds("int8", 0.25), ratio=1.1, floor=0.0, max_abs=1e-3
    )
    assert policy.quality_limits("int8") == {"min_sqnr_db": 25}
    assert policy.quality_limits("fp16") == {"min_sqnr_db": 30}
    assert Policy().bounds("fp16", "any", None) == bounds("fp16")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[parity", "is no TOML"),
        ("[paritty]\nratio = 4", "has no 'paritty'"),
        ("[parity]\nratios = 4", "has no 'ratios'"),
        ("[parity.int9]\nratio = 4", "has no 'int9'"),
        ("[parity]\nratio = 'four'", "is a number"),
        ("[parity]\nratio = nan", "is a number"),
        ("[parity]\nratio = -1", "parity.ratio is -1"),
        ("[parity]\nint8 = 3", "is a table"),
        ("outputs = 3", "is a table"),
        ("[quality]\nmin_sqnr = 3", "has no 'min_sqnr'"),
        ("[budget]\nmemory_mb = 3", "has no 'memory_mb'"),
        ("[budget]\nlatency_ms = '5'", "is a number"),
        ("[budget]\nlatency_ms = true", "is a number"),
        ("[budget]\nlatency_ms = -5", "budget.latency_ms is -5"),
        ("[budget]\ndelegated_share = 1.5", "budget.delegated_share is 1.5"),
        ("[budget]\nmemory_bytes = '30 Mi'", "'30 Mi' is no size"),
        ("[budget]\nmemory_bytes = inf", "is a size"),
        ("[budget]\nthreads = 0", "budget.threads is 0"),
        ("[budget]\nthreads = 1.5", "budget.threads is 1.5"),
        ("[budget.tflit]\nlatency_ms = 5", "has no 'tflit'"),
        ("[budget.tflite.int9]\nlatency_ms = 5", "has no 'int9'"),
        ("[budget.int8.tflite]\nlatency_ms = 5", "has no 'tflite'"),
        ("[budget.tflite]\nint8 = 5", "is a table"),
        ("budget = 5", "is a table"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_a_fix(tmp_path, text, said):
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        read_policy(tmp_path / "policy.toml")
    assert error.value.fix


def test_the_fix_names_the_nearest_key_target_and_precision(tmp_path):
    for text, near in (
        ("[budget]\nmemory_mb = 3", "memory_bytes"),
        ("[budget.tflit]\nlatency_ms = 5", "tflite"),
        ("[budget.onnx.int9]\nlatency_ms = 5", "int8"),
        ("[budget.int8.tflite]\nlatency_ms = 5", "[budget.tflite.int8]"),
    ):
        (tmp_path / "policy.toml").write_text(text)
        with pytest.raises(UsageError) as error:
            read_policy(tmp_path / "policy.toml")
        assert near in error.value.fix


@pytest.mark.parametrize(
    ("text", "count"),
    [("12 MiB", 12 << 20), ("300KB", 300_000), ("1.5 kib", 1536), ("7 B", 7), ("2 GB", 2_000_000_000)],
)
def test_sizes_are_read_with_their_units(text, count):
    assert bytes_from(text, "memory") == count


@pytest.mark.parametrize("text", ["", "12", "12 M", "-1 MB", "MiB", "1e3 MB", "nan MB", "1 MB 2"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="is no size"):
        bytes_from(text, "memory")


def test_the_schema_accepts_what_is_read_and_refuses_what_is_not(tmp_path):
    kind = document()
    written = (
        f"{TEXT}[budget]\nlatency_ms = 5\nthreads = 4\nmemory_bytes = '30 MiB'\n[budget.onnx.int8-dynamic]\ncpu_ms = 1"
    )
    assert msgspec.convert(tomllib.loads(written), kind).budget.onnx.int8_dynamic.cpu_ms == 1
    (tmp_path / "policy.toml").write_text(written)
    read_policy(tmp_path / "policy.toml")
    for text in (
        "[budget]\nmemory_mb = 3",
        "[budget]\nlatency_ms = -1",
        "[budget]\ndelegated_share = 2",
        "[budget]\nmemory_bytes = '30 Mi'",
        "[parity]\nratio = -1",
        "[parity.int9]\nratio = 1",
        "[paritty]",
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(tomllib.loads(text), kind)


def test_a_policy_in_the_working_folder_is_found_and_can_be_ignored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found_policy("", ignored=False) == ""
    (tmp_path / "edgeproof.toml").write_text("")
    assert found_policy("", ignored=False) == "edgeproof.toml"
    assert found_policy("", ignored=True) == ""
    assert found_policy("team.toml", ignored=False) == "team.toml"
    with pytest.raises(UsageError, match="exclude each other"):
        found_policy("team.toml", ignored=True)


def test_a_policy_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no policy"):
        read_policy(tmp_path / "nowhere.toml")
