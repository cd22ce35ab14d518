"""Candidates that go wrong, one way each: the next one is tried, and the report holds them all with their reasons."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import broken_routes
import pytest

from convert import convert
from convert.errors import WorkerCrashed
from convert.routes import ROUTES
from convert.worker import Environment, Workers, limits_of
from validators.report import Stage
from validators.reports import RENDERINGS
from validators.reports.json import read
from validators.verdict import Status


@contextlib.contextmanager
def routes(*names, without=()):
    """Add broken routes to the registry, and leave real ones out, for the time of one run."""
    removed = [ROUTES[name] for name in without]
    for route in removed:
        ROUTES.unregister(route.name)
    for name in names:
        ROUTES.register(broken_routes.ALL[name])
    try:
        yield
    finally:
        for name in names:
            ROUTES.unregister(name)
        for route in removed:
            ROUTES.register(route)


TO_ONNX = [name for name, route in broken_routes.ALL.items() if route.gives == "onnx"]

#: The real ways from PyTorch to ONNX.
REAL = ["torch-onnx", "torch-onnx-script"]


@pytest.fixture(scope="module")
def report(samples, tmp_path_factory):
    """A run in which every candidate but the last is broken."""
    with routes(*TO_ONNX):
        return convert(samples / "digits.pt", to="onnx", out=tmp_path_factory.mktemp("fallback"), timeout_seconds=300)


@pytest.fixture(scope="module")
def attempts(report):
    return {attempt.plan: attempt for attempt in report.targets[0].attempts}


def test_the_run_ends_with_the_candidate_that_passes(report):
    (target,) = report.targets

    assert (report.exit_code, target.status) == (0, Status.PASS)
    assert target.attempts[target.kept].plan == "torch-onnx"
    assert Path(target.artifact.path).parent == Path(report.path).parent


def test_every_attempt_is_reported_in_the_order_it_was_made(report):
    assert [attempt.plan for attempt in report.targets[0].attempts] == [*TO_ONNX, "torch-onnx"]


@pytest.mark.parametrize(
    ("name", "reached", "words"),
    [
        ("broken-refuse", Stage.CONVERT, "refused on purpose"),
        ("broken-fail", Stage.CONVERT, "ZeroDivisionError: raised on purpose"),
        ("broken-crash", Stage.CONVERT, "was killed by SIGABRT"),
        ("broken-write-nothing", Stage.CONVERT, "reported success and wrote no file"),
        ("broken-write-corrupt", Stage.CONVERT, "damaged ONNX file"),
        ("broken-write-unloadable", Stage.STRUCTURE, "operators a stock runtime lacks: nobody.MatMul"),
        ("broken-write-wrong", Stage.PARITY, "times what its source does"),
    ],
)
def test_a_broken_candidate_is_reported_with_how_far_it_got_and_why_no_further(attempts, name, reached, words):
    attempt = attempts[name]

    assert attempt.status is Status.FAIL
    assert attempt.reached is reached
    assert words in attempt.reason


def test_the_last_words_of_a_process_that_died_are_reported_with_how_to_repeat_it(attempts):
    assert "last words" in attempts["broken-crash"].reason
    assert "python" in attempts["broken-crash"].fix
    assert "-m convert.worker" in attempts["broken-crash"].fix


def test_the_fix_a_route_names_is_reported(attempts):
    assert attempts["broken-refuse"].fix == "ask another one"


def test_the_written_report_holds_the_same_attempts(report):
    assert read(Path(report.path).read_bytes()).targets == report.targets


def test_the_table_shows_every_candidate_with_its_reason(report):
    text = RENDERINGS["terminal"].render(report)

    assert [name for name in TO_ONNX if f"candidate {name} " not in text] == []
    assert "was killed by SIGABRT" in text


def test_broken_routes_are_gone_when_the_run_is_over(report):
    assert not set(TO_ONNX) & set(ROUTES.names())


def test_candidates_that_hang_or_outgrow_their_memory_are_stopped_and_the_next_is_tried(samples, tmp_path):
    started = time.monotonic()
    with routes("broken-grow", "broken-hang"):
        report = convert(
            samples / "digits.pt", to="torchscript", out=tmp_path, timeout_seconds=20, memory_bytes=3 << 29
        )

    (target,) = report.targets
    grown, hung, passed = target.attempts
    assert (hung.plan, hung.status) == ("broken-hang", Status.FAIL)
    assert "did not finish within 20 s" in hung.reason
    assert "--timeout" in hung.fix
    assert (grown.plan, grown.status) == ("broken-grow", Status.FAIL)
    assert "grew past its memory limit of 1.5 GiB" in grown.reason
    assert "--memory-limit" in grown.fix
    assert (passed.plan, target.status) == ("torch-script", Status.PASS)
    assert time.monotonic() - started < 120


def test_an_artifact_that_no_candidate_could_prove_replaces_nothing(samples, tmp_path):
    earlier = tmp_path / "digits.onnx"
    earlier.write_bytes(b"proven last week")

    with routes("broken-write-unloadable", "broken-write-wrong", without=REAL):
        report = convert(samples / "digits.pt", to="onnx", out=tmp_path, timeout_seconds=300)

    (target,) = report.targets
    assert (report.exit_code, target.status) == (1, Status.FAIL)
    assert earlier.read_bytes() == b"proven last week"
    assert Path(target.artifact.path) == tmp_path / "unproven" / "digits.onnx"
    assert (target.latency, target.latency_reason) == ((), "not proven")


def test_a_run_that_makes_nothing_says_so_and_leaves_what_was_there(samples, tmp_path):
    earlier = tmp_path / "digits.onnx"
    earlier.write_bytes(b"proven last week")

    with routes("broken-fail", without=REAL):
        report = convert(samples / "digits.pt", to="onnx", out=tmp_path, timeout_seconds=300)

    (target,) = report.targets
    assert (report.exit_code, target.status, target.artifact) == (3, Status.FAIL, None)
    assert "no candidate could convert" in target.reason
    assert earlier.read_bytes() == b"proven last week"


# A process that several stages share


@dataclass(frozen=True)
class Wait:
    """A stage that waits, and then ends well or dies."""

    seconds: float
    dies: bool


def wait(job: Wait) -> float:
    time.sleep(job.seconds)
    if job.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return job.seconds


def test_a_stage_that_waits_for_the_process_of_one_that_dies_is_run_all_the_same(tmp_path):
    shared = Environment("shared")
    died = []

    with Workers(tmp_path, limits_of(60, 0)) as workers:
        workers.run("start", wait, Wait(0, dies=False), shared)

        def die():
            try:
                workers.run("dies", wait, Wait(1.5, dies=True), shared)
            except WorkerCrashed as error:
                died.append(error.message)

        thread = threading.Thread(target=die)
        thread.start()
        time.sleep(0.5)
        try:
            assert workers.run("waits", wait, Wait(0, dies=False), shared).value == 0
        finally:
            thread.join()

    assert len(died) == 1
    assert "stage dies was killed by SIGKILL" in died[0]
