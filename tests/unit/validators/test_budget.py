"""Budgets: within, beyond or not to be told by both ends of what was measured, exactly by what was counted."""

from __future__ import annotations

import dataclasses

import pytest

from convert.spec import Artifact, Signature
from validators.budget import ITEMS, Limit, budgeted, findings, words_of
from validators.costs import NOT_ASKED, Costs
from validators.enforcement import Enforced, enforce
from validators.interval import Interval, Intervals
from validators.latency import Measurement
from validators.policy import Policy, read_policy
from validators.report import TargetReport
from validators.verdict import Status

ARTIFACT = Artifact("build/m.tflite", "tflite", "int8", Signature((), ()), "ab" * 32, 30_000)
MEASURED = Measurement(
    1,
    0.02,
    0.01,
    300,
    0.0020,
    0.0025,
    0.1,
    11 << 20,
    cpu_median_seconds=0.0030,
    openings=((0.02, 0.01),) * 5,
    intervals=Intervals(
        wall=Interval(0.0019, 0.0022, 0.95),
        cpu=Interval(0.0028, 0.0033, 0.95),
        cold_start=Interval(0.028, 0.035, 0.9375),
        memory=Interval(10 << 20, 12 << 20),
    ),
)
TARGET = TargetReport(
    "tflite",
    "int8",
    Status.PASS,
    "proven",
    ARTIFACT,
    (),
    latency=(MEASURED,),
    costs=Costs(
        400,
        weight_bytes=300,
        activation_bytes=64,
        macs=1000,
        delegated_share=0.95,
        partitions=2,
        reasons={"instructions": NOT_ASKED},
    ),
)


def one(key, value, target=TARGET, **others):
    limits = {name: Limit(float(held), str(held), "[budget]") for name, held in {key: value, **others}.items()}
    (found,) = (item for item in budgeted(target, limits) if item.key == key)
    return found


def with_intervals(**changes):
    intervals = dataclasses.replace(MEASURED.intervals, **changes)
    return dataclasses.replace(TARGET, latency=(dataclasses.replace(MEASURED, intervals=intervals),))


@pytest.mark.parametrize(
    ("key", "within", "straddled", "beyond"),
    [
        ("latency_ms", 0.0022, 0.0020, 0.0018),
        ("cpu_ms", 0.0040, 0.0030, 0.0027),
        ("cold_start_ms", 0.08, 0.03, 0.02),
        ("memory_bytes", 12 << 20, 11 << 20, 9 << 20),
    ],
)
def test_what_is_measured_passes_and_fails_only_with_its_whole_interval(key, within, straddled, beyond):
    assert one(key, within).status is Status.PASS
    assert one(key, beyond).status is Status.FAIL
    unknown = one(key, straddled)
    assert unknown.status is Status.NOT_RUN
    assert "cannot be told" in unknown.reason
    assert "--protocol release" in unknown.fix


def test_the_ends_themselves_decide():
    assert one("latency_ms", 0.0022).status is Status.PASS, "as much as is allowed is allowed"
    assert one("latency_ms", 0.0019).status is Status.NOT_RUN
    assert one("latency_ms", 0.00189).status is Status.FAIL


def test_what_is_counted_is_exact():
    assert one("file_bytes", 30_000).status is Status.PASS
    assert one("file_bytes", 29_999).status is Status.FAIL
    assert one("file_bytes", 29_999).reason == "file_bytes: size 30,000 bytes, at most 29999 by [budget]"


def test_a_share_is_held_from_below():
    assert one("delegated_share", 0.95).status is Status.PASS
    assert one("delegated_share", 0.951).status is Status.FAIL
    assert one("delegated_share", 0.5).low == 0.95


def test_what_is_withheld_passes_no_budget_however_wide():
    shaky = dataclasses.replace(MEASURED, median_seconds=None, withheld="not stable: it has two speeds")
    intervals = dataclasses.replace(MEASURED.intervals, wall=None)
    shaky = dataclasses.replace(TARGET, latency=(dataclasses.replace(shaky, intervals=intervals),))
    found = one("latency_ms", 1000, shaky)
    assert found.status is Status.NOT_RUN
    assert "withheld: not stable: it has two speeds" in found.reason
    assert found.fix
    assert one("cpu_ms", 1000, shaky).status is Status.PASS, "CPU time is withheld for reasons of its own"


def test_what_was_not_measured_passes_no_budget():
    untimed = dataclasses.replace(TARGET, latency=(), latency_reason="not asked for", costs=None)
    for key in ("latency_ms", "cpu_ms", "cold_start_ms", "memory_bytes"):
        found = one(key, 1e9, untimed)
        assert (found.status, found.fix) == (Status.NOT_RUN, "leave the timing in"), key
        assert "not asked for" in found.reason
    assert one("delegated_share", 0.0, untimed).status is Status.NOT_RUN
    assert one("file_bytes", 1e9, untimed).status is Status.PASS
    few = dataclasses.replace(MEASURED, openings=((0.02, 0.01),))
    few = dataclasses.replace(few, intervals=dataclasses.replace(MEASURED.intervals, cold_start=None))
    opened = one("cold_start_ms", 1e9, dataclasses.replace(TARGET, latency=(few,)))
    assert opened.status is Status.NOT_RUN
    assert "1 opening(s)" in opened.reason
    assert "--protocol default" in opened.fix


def test_a_report_without_intervals_passes_no_budget_on_what_is_measured():
    old = dataclasses.replace(TARGET, latency=(dataclasses.replace(MEASURED, intervals=None),))
    for key in ("latency_ms", "cpu_ms", "cold_start_ms", "memory_bytes"):
        assert one(key, 1e9, old).status is Status.NOT_RUN, key


def test_memory_that_has_no_lower_end_never_fails():
    found = with_intervals(memory=Interval(0.0, 12 << 20))
    assert one("memory_bytes", 1 << 20, found).status is Status.NOT_RUN
    assert one("memory_bytes", 12 << 20, found).status is Status.PASS


def test_times_are_of_the_first_number_of_threads_or_of_the_stated_one():
    slower = dataclasses.replace(MEASURED.intervals, wall=Interval(0.009, 0.01, 0.95))
    at_four = dataclasses.replace(MEASURED, threads=4, median_seconds=0.0095, intervals=slower)
    both = dataclasses.replace(TARGET, latency=(MEASURED, at_four))
    assert one("latency_ms", 0.005, both).status is Status.PASS
    assert one("latency_ms", 0.005, both, threads=4).status is Status.FAIL
    assert one("latency_ms", 0.005, both, threads=2).status is Status.NOT_RUN
    assert one("latency_ms", 0.005, both, threads=2).fix == "add --threads 2"


def test_findings_carry_their_fix_and_the_table_says_each_once():
    found = budgeted(TARGET, {"latency_ms": Limit(0.002, "2 ms", "[budget]"), "file_bytes": Limit(1e6, "1 MB", "[b]")})
    assert [item.status for item in findings(found)] == [Status.NOT_RUN, Status.PASS]
    assert "(fix: more runs" in findings(found)[0].message
    lines = words_of(found, "")
    assert lines[0] == "within budget: file_bytes 29.3 KiB (limit 976.6 KiB)"
    assert lines[1].startswith("budget not told: latency_ms: wall time 2 ms (95% interval 1.9 ms to 2.2 ms)")
    over = budgeted(TARGET, {"file_bytes": Limit(1.0, "1 B", "[budget]")})
    assert words_of(over, f"against the policy: {over[0].reason}") == []


def policy(tmp_path, text):
    (tmp_path / "edgeproof.toml").write_text(text)
    return read_policy(tmp_path / "edgeproof.toml")


def test_the_nearest_limit_wins(tmp_path):
    read = policy(
        tmp_path,
        "[budget]\nlatency_ms = 1\ncpu_ms = 1\nfile_bytes = 1\nmemory_bytes = '1 KiB'\n"
        "[budget.int8]\ncpu_ms = 2\nfile_bytes = 2\n[budget.tflite]\nfile_bytes = 3\nmemory_bytes = 3\n"
        "[budget.tflite.int8]\nmemory_bytes = '4 MB'\n",
    )
    found = {key: limit.value for key, limit in read.limits("tflite", "int8").items()}
    assert found == {"latency_ms": 0.001, "cpu_ms": 0.002, "file_bytes": 3, "memory_bytes": 4e6}
    assert {key: limit.value for key, limit in read.limits("onnx", "fp32").items()}["memory_bytes"] == 1024
    assert read.limits("tflite", "int8")["memory_bytes"] == Limit(4e6, "4 MB", "[budget.tflite.int8]")
    assert read.limits("onnx", "int8")["cpu_ms"].place == "[budget.int8]"


def test_every_item_can_be_stated(tmp_path):
    lines = "\n".join(f"{item.key} = 1" for item in ITEMS)
    assert set(policy(tmp_path, f"[budget]\n{lines}\n").limits("onnx", "fp32")) == {item.key for item in ITEMS}


def enforced(text, tmp_path, target=TARGET):
    return enforce(Enforced(policy(tmp_path, text), "team.toml"), target)


def test_a_target_is_as_good_as_its_worst_budget(tmp_path):
    passed = enforced("[budget]\nlatency_ms = 5\nfile_bytes = '1 MB'\n", tmp_path)
    assert (passed.status, passed.reason) == (Status.PASS, "proven")
    assert [item.key for item in passed.budgets] == ["latency_ms", "file_bytes"]
    unknown = enforced("[budget]\nlatency_ms = 2\nfile_bytes = '1 MB'\n", tmp_path)
    assert unknown.status is Status.NOT_RUN
    failed = enforced("[budget]\nlatency_ms = 2\nfile_bytes = '1 KB'\n", tmp_path)
    assert failed.status is Status.FAIL
    assert failed.reason.startswith("against the policy team.toml: file_bytes: size 30,000 bytes, at most 1 KB")


def test_a_policy_acquits_nothing_and_says_nothing_of_other_targets(tmp_path):
    refused = dataclasses.replace(TARGET, status=Status.FAIL, reason="wrong")
    assert enforced("[budget]\nlatency_ms = 5\n", tmp_path, refused) == refused
    assert enforced("[budget.onnx]\nlatency_ms = 0\n", tmp_path) == TARGET
    assert enforce(Enforced(Policy()), TARGET) == TARGET


def test_answers_are_held_against_a_policy_that_states_something_of_them(tmp_path):
    found = enforced("[parity]\nratio = 4\n", tmp_path)
    assert found.status is Status.FAIL, "there is no attempt to hold against it"
    assert found.policy.status is Status.FAIL


@pytest.mark.parametrize(
    ("key", "value"), [("weight_bytes", 300), ("activation_bytes", 64), ("macs", 1000), ("partitions", 2)]
)
def test_costs_that_do_not_vary_are_held_exactly(key, value):
    assert one(key, value).status is Status.PASS
    assert one(key, value - 1).status is Status.FAIL
    assert one(key, value).low == one(key, value).high == value


def test_what_was_not_counted_passes_no_budget_and_says_how_to_count_it():
    found = one("instructions", 10**12)
    assert found.status is Status.NOT_RUN
    assert found.fix == "add --instructions"
    unknown = dataclasses.replace(TARGET, costs=Costs(400, reasons={"macs": "no formula for CUSTOM"}))
    assert "no formula for CUSTOM" in one("macs", 10**12, unknown).reason
