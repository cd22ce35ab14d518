"""A run that is stopped half-way: the documented exit code, nothing half-written, no process left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

#: The line of progress to wait for, and how long after it to interrupt.
MOMENTS = {"while it loads": ("loading", 0.3), "while it converts": ("converting with", 0.8)}

STOP_SECONDS = 8.0  # for the run to clean up and its workers to be gone, on a busy machine


@pytest.fixture
def started(samples, tmp_path):
    """Start a run that its user can interrupt; it leads a process group of its own, as in a terminal."""
    runs = []

    def start(moment: str) -> subprocess.Popen[str]:
        words = ["-m", "convert", samples / "digits.pt", "--to", "torchscript,onnx", "--out", "out"]
        run = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
        )
        runs.append(run)
        line, pause = MOMENTS[moment]
        while line not in (said := run.stderr.readline()):
            assert said, "the run ended before it could be interrupted"
        time.sleep(pause)
        return run

    yield start
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
        run.stderr.close()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "TERM"])
def test_a_run_that_is_interrupted_leaves_nothing_behind(started, tmp_path, finished, moment, number, exit_code):
    run = started(moment)
    workers = psutil.Process(run.pid).children(recursive=True)
    assert workers
    os.killpg(run.pid, number)
    answer, said = run.communicate(timeout=STOP_SECONDS)
    assert run.returncode == exit_code
    assert answer == ""
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if "nothing was left half-written" in line]
    assert "FAIL" not in said, "what was stopped has not failed"
    _, alive = psutil.wait_procs(workers, timeout=STOP_SECONDS)
    assert alive == []
    assert finished(tmp_path / "out") == []
    assert list((tmp_path / "out").rglob("*partial*")) == []


def test_an_impatient_user_gets_the_same(started, tmp_path, finished):
    run = started("while it converts")
    workers = psutil.Process(run.pid).children(recursive=True)
    for _ in range(3):
        os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.02)
    _, said = run.communicate(timeout=STOP_SECONDS)
    assert run.returncode == 130
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(workers, timeout=STOP_SECONDS)
    assert alive == []
    assert finished(tmp_path / "out") == []


def test_the_folder_of_an_interrupted_run_can_be_used_again(started, tmp_path):
    from convert import folder

    run = started("while it loads")
    os.kill(run.pid, signal.SIGKILL)
    run.wait(STOP_SECONDS)
    with folder.opened(tmp_path / "out"):
        assert (tmp_path / "out" / "stages").is_dir()
