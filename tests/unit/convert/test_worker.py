"""Workers: whatever a stage's process does, the parent gets a value or an error that says what happened."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import worker_jobs
from worker_jobs import Answer, Order

from convert import errors
from convert.routes.keras_to_torchscript import KERAS_TORCH
from convert.sources import KERAS, UNASKED
from convert.spec import Limits
from convert.worker import Environment, Worker, Workers, limits_of, missing_module, summary
from validators.runtimes.savedmodel import SAVEDMODEL

PLAIN = Environment("plain")
GENEROUS = Limits(60.0, 1 << 34)

#: A process that was told to leave is given this long; one that only leaves at its own end takes minutes.
PATIENCE_SECONDS = 8.0


@pytest.fixture
def workers(tmp_path):
    with Workers(tmp_path / "stages", GENEROUS) as made:
        yield made


def run(workers, call, order=Order(), stage="stage", environment=PLAIN, **more):  # noqa: B008  frozen
    return workers.run(stage, call, order, environment, **more)


def gone(pid: int) -> bool:
    """Wait until a process is no more; False when it outlives our patience."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def written(path: Path) -> str:
    """Wait for a file a stage writes and give its text."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} was never written"
        time.sleep(0.02)
    return path.read_text()


def ended(name: str) -> None:
    """Wait for a thread to end."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def test_a_stage_that_returns_gives_its_value_as_its_own_type(workers):
    done = run(workers, worker_jobs.echo, Order("hello ünï"))
    assert done.value == Answer("hello ünï", done.value.process, (1, 2))
    assert done.seconds > 0


def test_a_stage_runs_in_another_process(workers):
    assert run(workers, worker_jobs.echo).value.process != os.getpid()


def test_stages_of_one_environment_share_a_process_and_those_of_two_do_not(workers):
    processes = [
        run(workers, worker_jobs.echo, stage=f"s{i}", environment=Environment(name)).value.process
        for i, name in enumerate(["a", "a", "b"])
    ]
    assert processes[0] == processes[1] != processes[2]


def test_what_runs_ahead_leaves_what_stages_of_its_process_use(workers):
    workers.ahead("first", worker_jobs.remember, Order("kept"), PLAIN)
    written(workers.folder / "first.result.json")
    assert run(workers, worker_jobs.recall).value.text == "kept"


@pytest.mark.parametrize("call", [worker_jobs.raise_ours, worker_jobs.abort])
def test_what_goes_wrong_ahead_is_met_again_by_what_follows_and_not_told(workers, call, monkeypatch):
    told = []
    monkeypatch.setattr("threading.excepthook", told.append)
    workers.ahead("first", call, Order(), PLAIN)
    ended("first")
    assert not told
    with pytest.raises(errors.EdgeproofError):
        run(workers, call, stage="second")
    assert run(workers, worker_jobs.echo, Order("after"), stage="third").value.text == "after"


def test_what_runs_ahead_does_not_keep_a_run_from_ending(workers):
    begun = workers.folder / "begun"
    workers.ahead("first", worker_jobs.hang, Order(str(begun)), PLAIN)
    written(begun)
    workers.close()
    ended("first")


def test_an_error_of_ours_arrives_as_itself_with_its_fix(workers):
    with pytest.raises(errors.MissingInputs, match="does not say") as raised:
        run(workers, worker_jobs.raise_ours, Order("--input"))
    assert type(raised.value) is errors.MissingInputs
    assert raised.value.fix == "add --input"


def test_an_error_of_a_plug_in_arrives_as_itself(workers):
    with pytest.raises(worker_jobs.PlugInError, match="says no"):
        run(workers, worker_jobs.raise_a_plug_ins)


def test_any_other_error_is_a_failed_stage_that_names_it_in_plain_text(workers):
    with pytest.raises(errors.StageFailed) as raised:
        run(workers, worker_jobs.raise_another, Order("last line"))
    assert raised.value.message == "ValueError: first line\nred line\nlast line"


def test_the_traceback_of_any_other_error_is_in_the_log(workers):
    with pytest.raises(errors.StageFailed):
        run(workers, worker_jobs.raise_another)
    log = (workers.folder / "plain.log").read_text()
    assert "Traceback" in log
    assert "worker_jobs.py" in log


def test_a_worker_survives_the_errors_its_stages_raise(workers):
    before = run(workers, worker_jobs.echo, stage="before").value.process
    with pytest.raises(errors.StageFailed):
        run(workers, worker_jobs.raise_another)
    assert run(workers, worker_jobs.echo, stage="after").value.process == before


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "torch"), ("ai_edge_litert", "tflite"), ("keras", "tensorflow")]
)
def test_a_missing_framework_is_answered_with_the_command_that_installs_it(workers, module, extra):
    with pytest.raises(errors.MissingExtra, match=module) as raised:
        run(workers, worker_jobs.miss_a_module, Order(module))
    assert raised.value.fix == f'pip install "edgeproof[{extra}]"'


def test_a_missing_module_that_is_no_framework_of_ours_is_a_failed_stage():
    failure = missing_module(ModuleNotFoundError("No module named 'theirs'", name="theirs"))
    assert failure.error == "StageFailed"
    assert "theirs" in failure.message


def test_a_stage_that_aborts_is_a_crash_with_its_signal_its_last_words_and_the_command_to_repeat_it(workers):
    with pytest.raises(errors.WorkerCrashed) as raised:
        run(workers, worker_jobs.abort, stage="convert-x")
    assert "stage convert-x was killed by SIGABRT" in raised.value.message
    assert "about to fall over" in raised.value.message
    assert f"python -m convert.worker {workers.folder / 'convert-x.json'}" in raised.value.fix


def test_a_stage_that_leaves_is_a_crash_with_its_code(workers):
    with pytest.raises(errors.WorkerCrashed, match="ended with code 7"):
        run(workers, worker_jobs.leave_with_7)


def test_the_last_words_are_those_of_the_stage_that_crashed_and_not_of_one_before(workers):
    run(workers, worker_jobs.shout, Order("an earlier stage"), stage="before")
    with pytest.raises(errors.WorkerCrashed) as raised:
        run(workers, worker_jobs.abort)
    assert "an earlier stage" not in raised.value.message


def test_after_a_crash_the_next_stage_gets_a_new_process(workers):
    first = run(workers, worker_jobs.echo, stage="before").value.process
    with pytest.raises(errors.WorkerCrashed):
        run(workers, worker_jobs.abort)
    assert run(workers, worker_jobs.echo, stage="after").value.process != first


def test_a_stage_that_waits_for_its_turn_does_not_fall_with_the_one_that_crashes(workers):
    """Keras's reference and its converters share a process; a converter's crash is one failed candidate, no more."""
    run(workers, worker_jobs.echo, stage="before")
    with ThreadPoolExecutor() as threads:
        crash = threads.submit(run, workers, worker_jobs.abort, Order(number=0.5), "crash")
        time.sleep(0.2)
        waiting = threads.submit(run, workers, worker_jobs.echo, Order("innocent"), "waiting")
        with pytest.raises(errors.WorkerCrashed, match="stage crash"):
            crash.result()
        assert waiting.result().value.text == "innocent"


def test_a_stage_that_hangs_is_stopped_at_its_time_limit_and_leaves_no_process(workers, tmp_path):
    began = time.monotonic()
    with pytest.raises(errors.WorkerTimeout, match=r"stage stage did not finish within 0\.5 s") as raised:
        run(workers, worker_jobs.hang, Order(str(tmp_path / "pid")), limits=Limits(0.5, 1 << 34))
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert "--timeout" in raised.value.fix
    assert not (tmp_path / "pid").exists() or gone(int(written(tmp_path / "pid")))


@pytest.mark.parametrize("call", [worker_jobs.grow, worker_jobs.grow_in_a_child], ids=["itself", "in a child"])
def test_a_stage_that_grows_is_stopped_at_its_memory_limit(workers, call):
    began = time.monotonic()
    with pytest.raises(errors.WorkerMemory, match=r"memory limit of 0\.2 GiB") as raised:
        run(workers, call, limits=Limits(60.0, 200 << 20))
    assert time.monotonic() - began < 30
    assert "--memory-limit" in raised.value.fix


def test_a_memory_limit_that_is_not_given_is_a_share_of_the_machines():
    assert 0 < limits_of(1.0, 0).memory_bytes < psutil.virtual_memory().total
    assert limits_of(1.0, 12345).memory_bytes == 12345


def test_what_a_stage_prints_does_not_disturb_its_answer_and_is_in_the_log(workers):
    assert run(workers, worker_jobs.shout, Order("quoth the raven")).value.text == "quoth the raven"
    assert run(workers, worker_jobs.echo, Order("next"), stage="after").value.text == "next"
    log = (workers.folder / "plain.log").read_text()
    assert [words for words in ("from Python: quoth", "from C", "from a child") if words not in log] == []


def test_a_stage_that_reads_its_input_does_not_swallow_the_next_stage(workers):
    assert run(workers, worker_jobs.read_input, limits=Limits(5.0, 1 << 34)).value.text == ""
    assert run(workers, worker_jobs.echo, Order("next"), stage="after").value.text == "next"


def test_a_stage_finds_modules_where_its_parent_finds_them(workers, tmp_path, monkeypatch):
    (tmp_path / "plug_in_of_a_user.py").write_text("FOUND = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    environment = Environment("with-plug-in", ("plug_in_of_a_user",))
    found = run(workers, worker_jobs.loaded, Order("plug_in_of_a_user,torch"), environment=environment)
    assert found.value.text == "plug_in_of_a_user"


def test_an_environment_brings_its_variables_and_hides_the_desktops_gpu(workers):
    environment = Environment("with-variable", (), (("EDGEPROOF_TEST", "on"),))
    assert run(workers, worker_jobs.variable, Order("EDGEPROOF_TEST"), environment=environment).value.text == "on"
    hidden = run(workers, worker_jobs.variable, Order("CUDA_VISIBLE_DEVICES"), stage="gpu")
    assert hidden.value.text == "-1"


def test_a_module_that_cannot_be_preloaded_is_left_to_the_stage_that_needs_it(workers):
    environment = Environment("lacking", ("no_such_module_anywhere",))
    assert run(workers, worker_jobs.echo, Order("fine"), environment=environment).value.text == "fine"


def test_preloads_do_not_find_what_their_environment_is_without_and_stages_do(workers, tmp_path, monkeypatch):
    (tmp_path / "framework_of_a_test.py").write_text(
        "try:\n    import plots_of_a_test\n    PLOTS = True\nexcept ImportError:\n    PLOTS = False\n"
    )
    (tmp_path / "plots_of_a_test.py").write_text("KIND = 'bars'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with_all = Environment("with-all", ("framework_of_a_test",))
    without = Environment("without", ("framework_of_a_test",), without=("plots_of_a_test", "no_such_module_anywhere"))
    for environment, found in ((with_all, "True"), (without, "False")):
        stage = environment.name
        plots = Order("framework_of_a_test:PLOTS")
        assert run(workers, worker_jobs.attribute, plots, stage, environment).value.text == found
        kind = Order("plots_of_a_test:KIND")
        assert run(workers, worker_jobs.attribute, kind, f"{stage}-later", environment).value.text == "bars"


def test_a_stage_starts_with_garbage_collection_and_the_imports_are_none_of_its_business(
    workers, tmp_path, monkeypatch
):
    (tmp_path / "framework_of_many.py").write_text("OBJECTS = [[] for _ in range(20_000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = run(workers, worker_jobs.garbage, environment=Environment("many", ("framework_of_many",)))
    assert 0 <= int(found.value.text) < 15_000, "what preloads made is looked through at every collection"


@pytest.mark.parametrize("environment", [KERAS.environment, SAVEDMODEL, KERAS_TORCH], ids=lambda each: each.name)
def test_keras_and_tensorflow_start_without_what_no_stage_asks_for(workers, environment):
    names = Order(",".join(("keras", *UNASKED)))
    assert run(workers, worker_jobs.loaded, names, environment=environment).value.text == "keras"


@pytest.mark.parametrize("name", [" begins with a space", "ends with a space ", "a 'quote' and $HOME", "a\nnew line"])
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with Workers(Path(name), GENEROUS) as workers:
        done = run(workers, worker_jobs.echo, Order("here"))
    assert done.value.text == "here"
    assert shlex.split(done.command)[-1] == str(Path(name) / "stage.json")


def test_closing_ends_every_process_also_one_that_is_busy(workers, tmp_path):
    idle = run(workers, worker_jobs.echo).value.process
    with ThreadPoolExecutor() as threads:
        busy = threads.submit(run, workers, worker_jobs.hang, Order(str(tmp_path / "pid")), "hang", Environment("busy"))
        pid = int(written(tmp_path / "pid"))
        workers.close()
        with pytest.raises(errors.WorkerCrashed):
            busy.result(PATIENCE_SECONDS)
    assert gone(pid)
    assert gone(idle)


def test_a_run_that_was_stopped_starts_nothing_any_more(workers):
    workers.close()
    with pytest.raises(errors.RunStopped, match="stopped"):
        run(workers, worker_jobs.echo)


def test_retiring_spares_the_workers_that_are_still_needed(workers):
    kept, ended = Environment("kept"), Environment("ended")
    pids = {each.name: run(workers, worker_jobs.echo, stage=each.name, environment=each) for each in (kept, ended)}
    workers.retire_all(keep=[kept])
    assert gone(pids["ended"].value.process)
    assert run(workers, worker_jobs.echo, stage="again", environment=kept).value.process == pids["kept"].value.process


PARENT = """
import pathlib, signal, sys
sys.path[:0] = {path!r}
import worker_jobs
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
from convert.spec import Limits
from convert.worker import Environment, Workers
workers = Workers(pathlib.Path(sys.argv[1]), Limits(600.0, 1 << 34))
workers.run("hang", worker_jobs.hang, worker_jobs.Order(sys.argv[2]), Environment("orphan"))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM], ids=lambda number: number.name)
def test_a_worker_leaves_when_its_parent_is_gone_even_within_a_stage(tmp_path, number):
    code = PARENT.format(path=[str(Path(__file__).parent)])
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path / "stages", tmp_path / "pid"])
    pid = int(written(tmp_path / "pid"))
    parent.send_signal(number)
    parent.wait(60)
    assert gone(pid)


def test_a_worker_leaves_when_its_parent_is_gone_while_it_still_imports(tmp_path, monkeypatch):
    """Frameworks take seconds to import, and longer on a busy machine."""
    (tmp_path / "slow_import.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    worker = Worker(Environment("slow", ("slow_import",)), tmp_path)
    pid = int(written(tmp_path / "pid"))
    worker._process.stdin.close()  # what the system does when the parent dies
    try:
        assert gone(pid)
    finally:
        worker.stop()


def again(command: str, **more) -> subprocess.CompletedProcess[str]:
    """Run a command that a report gave, as a user would paste it."""
    words = shlex.split(command)
    assert Path(words[0]).name.startswith("python")
    return subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False, **more)


def test_a_stage_can_be_repeated_by_hand_with_the_command_that_was_given(workers):
    done = run(workers, worker_jobs.echo, Order("once more"))
    repeated = again(done.command)
    assert repeated.returncode == 0
    assert json.loads(repeated.stdout)["text"] == "once more"


def test_a_repeated_stage_has_the_variables_and_the_search_path_it_had(tmp_path, monkeypatch):
    environment = Environment("with-variable", (), (("EDGEPROOF_TEST", "on"),))
    with Workers(tmp_path / "stages", GENEROUS) as workers:
        done = run(workers, worker_jobs.variable, Order("EDGEPROOF_TEST"), environment=environment)
    bare = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}  # without this folder, where the stage lives
    repeated = again(done.command, env=bare)
    assert repeated.returncode == 0, repeated.stderr
    assert json.loads(repeated.stdout)["text"] == "on"


def test_a_failed_stage_fails_again_with_its_error_and_its_fix(workers):
    with pytest.raises(errors.MissingInputs):
        run(workers, worker_jobs.raise_ours, Order("--input"))
    repeated = again(f"python -m convert.worker {workers.folder / 'stage.json'}")
    assert repeated.returncode == 1
    assert "error: the model does not say" in repeated.stderr
    assert "fix: add --input" in repeated.stderr
    assert "Traceback" not in repeated.stderr


def test_a_stage_that_raised_anything_else_shows_its_traceback_when_repeated(workers):
    with pytest.raises(errors.StageFailed):
        run(workers, worker_jobs.raise_another)
    repeated = again(f"python -m convert.worker {workers.folder / 'stage.json'}")
    assert repeated.returncode == 1
    assert "worker_jobs.py" in repeated.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "usage:"), (["--help"], "usage:"), (["a", "b"], "usage:"), (["nosuch.json"], "no job file nosuch.json")],
    ids=["nothing", "a question", "two files", "a file that is not there"],
)
def test_repeating_says_how_it_is_used(arguments, said):
    ran = subprocess.run(
        [sys.executable, "-m", "convert.worker", *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_job_file_that_was_damaged_is_an_error_and_not_a_bug(tmp_path):
    (tmp_path / "job.json").write_text('{"stage": ')
    ran = again(f"python -m convert.worker {tmp_path / 'job.json'}")
    assert ran.returncode == 2
    assert "error:" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_long_message_is_cut_to_its_first_lines_and_an_empty_one_is_named():
    assert summary(ValueError("\n".join(f"line {i}" for i in range(50))), lines=2) == "line 0\nline 1"
    assert summary(ValueError()) == "ValueError()"
