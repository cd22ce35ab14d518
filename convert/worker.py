"""Workers: spawned processes that run one stage after another, so that no framework shares a process with another.

A job is a JSON file that names a function and its argument; its result is a JSON file beside it; arrays are files that
both name. `python -m convert.worker JOB.json` repeats a job by hand, exactly as the tool ran it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from convert import errors
from convert.spec import Limits

R = TypeVar("R")

LOG_TAIL_LINES = 12  # of a dead worker's log, shown to the user
MEMORY_SHARE = 0.9  # of this machine's memory, for one stage, where no limit was asked for
#: How often a running stage's memory and time are looked at; every 0.05 s took a tenth of a core from the stages.
POLL_SECONDS = 0.2
SERVE, WITHOUT = "--serve", "--without"  # of a worker's own command line
STARTS = 3  # of a worker for one stage, where other stages' crashes end it first


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """One kind of worker process: the variables it starts with and the modules it imports while it waits.

    Stages of one environment share a process, so a framework is started and a source loaded once. `without` are
    packages that those modules import only where they are installed: they are not found meanwhile, and later are.
    """

    name: str
    preload: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One stage to run: a function `module:name` of one dataclass argument, and that argument."""

    stage: str
    call: str
    argument: Any  # the dataclass, as JSON
    environment: Environment
    path: tuple[str, ...] = ()  # sys.path entries beyond the defaults, so that user and test plug-ins are found


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """How a stage failed, as it leaves the worker."""

    error: str  # class name in convert.errors
    message: str
    fix: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker writes back: a value, or a failure."""

    value: Any = None  # what the function returned, as JSON
    failure: Failure | None = None
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Done(typing.Generic[R]):
    """A finished stage: its value, its wall time, and the command that repeats it."""

    value: R
    seconds: float
    command: str


class Worker:
    """A running worker process of one environment; jobs run in it one at a time."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.environment = environment
        self.log = folder / f"{environment.name}.log"
        self._lock = threading.Lock()
        self._log_stream = self.log.open("ab")
        # NOTE: Why its own session: Ctrl-C in a terminal reaches every process of the group; the parent decides who
        # stops. A worker whose parent is gone sees the end of its standard input and leaves.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "convert.worker", SERVE, *environment.preload, WITHOUT, *environment.without],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_stream,
            env=child_environment(environment),
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def run(self, job_path: Path, limits: Limits) -> Outcome | None:
        """Run the job in `job_path`, after those that came before it; None when one of those ended the process.

        Raises a WorkerError when the process dies, hangs or grows past `limits` in this job.
        """
        with self._lock:
            if not self.alive:
                return None
            result_path(job_path).unlink(missing_ok=True)
            log_start = self.log.stat().st_size
            watcher = _Watcher(self._process.pid, limits)
            with watcher:
                line = self._exchange(msgspec.json.encode(str(job_path)) + b"\n")
            if line.strip() == b"done":
                return msgspec.json.decode(result_path(job_path).read_bytes(), type=Outcome)
            self.stop()
            raise self._post_mortem(job_path, watcher, limits, log_start)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        kill_group(self._process.pid)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log_stream.close()

    def _exchange(self, request: bytes) -> bytes:
        if self._process.stdin is None or self._process.stdout is None:
            return b""
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            return self._process.stdout.readline()
        except (OSError, ValueError):  # the pipe broke: the process is gone, and the post-mortem says why
            return b""

    def _post_mortem(self, job_path: Path, watcher: _Watcher, limits: Limits, log_start: int) -> errors.WorkerError:
        stage = job_path.stem
        repeat = f"repeat it with: {repeat_command(job_path)}"
        if watcher.verdict == "timeout":
            return errors.WorkerTimeout(
                f"stage {stage} did not finish within {limits.timeout_seconds:g} s", fix=f"raise --timeout, or {repeat}"
            )
        if watcher.verdict == "memory":
            return errors.WorkerMemory(
                f"stage {stage} grew past its memory limit of {limits.memory_bytes / 2**30:.1f} GiB",
                fix=f"raise --memory-limit, or {repeat}",
            )
        code = self._process.returncode
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        with self.log.open("rb") as stream:
            stream.seek(log_start)
            tail = stream.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        last = "\n".join(f"  | {line}" for line in tail)
        return errors.WorkerCrashed(
            f"the process of stage {stage} {ended}" + (f":\n{last}" if last else ""), fix=repeat
        )


class Workers:
    """All workers of one run: started when first needed or warmed up ahead, stopped together."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self._workers: dict[str, Worker] = {}
        self._lock = threading.Lock()
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def require_open(self) -> None:
        """Raise RunStopped once the workers were closed, before anything is made of their deaths."""
        if self._closed:
            raise errors.RunStopped("the run was stopped")

    def close(self) -> None:
        """Stop every worker, and start none any more; threads that wait for one get a WorkerCrashed."""
        self._closed = True
        self.retire_all()
        for unfinished in self.folder.glob("*.partial"):
            unfinished.unlink(missing_ok=True)

    def retire_all(self, keep: Sequence[Environment] = ()) -> None:
        """End all workers but those of `keep`, to leave the machine to what comes next."""
        kept = {environment.name for environment in keep}
        with self._lock:
            ending = [worker for name, worker in self._workers.items() if name not in kept]
            self._workers = {name: worker for name, worker in self._workers.items() if name in kept}
        for worker in ending:
            worker.stop()

    def warm(self, environment: Environment) -> Worker:
        """Start the worker of `environment` unless it runs already, so that its imports overlap other work."""
        with self._lock:
            if self._closed:
                raise errors.RunStopped("the run was stopped")
            worker = self._workers.get(environment.name)
            if worker is None or not worker.alive:
                worker = self._workers[environment.name] = Worker(environment, self.folder)
            return worker

    def ahead(self, stage: str, call: Callable[[Any], object], argument: Any, environment: Environment) -> None:
        """Run `call(argument)` meanwhile, which leaves in its worker what stages that follow there will use.

        Nothing waits for it. What goes wrong is not told here: they meet it again.
        """

        def work() -> None:
            with contextlib.suppress(errors.EdgeproofError, OSError):
                self.run(stage, call, argument, environment)

        threading.Thread(target=work, name=stage, daemon=True).start()

    def retire(self, environment: Environment) -> None:
        """End the worker of `environment`, to give its memory back."""
        with self._lock:
            worker = self._workers.pop(environment.name, None)
        if worker is not None:
            worker.stop()

    def run(
        self,
        stage: str,
        call: Callable[[Any], R],
        argument: Any,
        environment: Environment,
        *,
        limits: Limits | None = None,
    ) -> Done[R]:
        """Run `call(argument)` in the worker of `environment` and return what it returned.

        Args:
            stage: a name for people and for the job's file, unique within the run.
            call: a module-level function of one dataclass argument, annotated, returning annotated plain data.
            limits: of this stage, where they differ from the run's.

        Raises:
            EdgeproofError: whatever the stage raised of our tree; StageFailed for anything else; WorkerCrashed,
                WorkerTimeout or WorkerMemory when the process did not survive it.
        """
        job_path = self.folder / f"{stage}.json"
        job = Job(
            stage=stage,
            call=f"{call.__module__}:{call.__qualname__}",
            argument=argument,
            environment=environment,
            path=tuple(entry for entry in sys.path if entry),
        )
        job_path.write_bytes(msgspec.json.format(msgspec.json.encode(job)))
        outcome = None
        for _ in range(STARTS):
            outcome = outcome or self.warm(environment).run(job_path, limits or self.limits)
        if outcome is None:
            raise errors.WorkerLost(
                f"the process of stage {stage} ended before it began, {STARTS} times",
                fix=f"repeat it with: {repeat_command(job_path)}",
            )
        if outcome.failure is not None:
            failure = outcome.failure
            raise errors.by_name(failure.error)(failure.message, fix=failure.fix)
        returns = typing.get_type_hints(call)["return"]
        return Done(msgspec.convert(outcome.value, type=returns), outcome.seconds, repeat_command(job_path))


def cores() -> int:
    """Say how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limits_of(timeout_seconds: float, memory_bytes: int) -> Limits:
    """Give what each stage may use: as asked for, or most of this machine's memory where `memory_bytes` is 0."""
    return Limits(timeout_seconds, memory_bytes or int(psutil.virtual_memory().total * MEMORY_SHARE))


class _Watcher:
    """Kills a process group that outlives its time or outgrows its memory, and remembers which it was."""

    def __init__(self, pid: int, limits: Limits) -> None:
        self.verdict = ""
        self._pid = pid
        self._limits = limits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._limits.timeout_seconds
        while not self._stop.wait(POLL_SECONDS):
            if time.monotonic() > deadline:
                self.verdict = "timeout"
            elif resident_bytes(self._pid) > self._limits.memory_bytes:
                self.verdict = "memory"
            if self.verdict:
                kill_group(self._pid)
                return


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes; 0 when it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def kill_group(pid: int) -> None:
    """Kill the process group that `pid` leads, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def child_environment(environment: Environment) -> dict[str, str]:
    """Give the environment variables of a worker: the parent's, quieter, and its own on top."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONWARNINGS": "ignore"}
    search = os.pathsep.join(entry for entry in sys.path if entry)
    # NOTE: Why a fixed hash seed: tf2onnx and TorchScript write what they iterate over in sets, so equal inputs would
    # not give equal bytes.
    quiet["PYTHONHASHSEED"] = "0"
    # NOTE: Why no CUDA device: a desktop's GPU computes in another order and precision than the CPU kernels phones
    # use, and would make the reference depend on the machine.
    return {**os.environ, **quiet, "CUDA_VISIBLE_DEVICES": "-1", **dict(environment.variables), "PYTHONPATH": search}


def result_path(job_path: Path) -> Path:
    """Where the result of a job is written."""
    return job_path.with_suffix(".result.json")


def repeat_command(job_path: Path) -> str:
    """Give the shell command that runs a job again by hand."""
    return f"{shlex.quote(Path(sys.executable).name)} -m convert.worker {shlex.quote(str(job_path))}"


def resolve(call: str) -> Callable[[Any], Any]:
    """Find a job's function from `module:name`."""
    module, _, name = call.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def perform(job_path: Path) -> Outcome:
    """Run one job in this process and write its result; never raises for what the stage itself raised."""
    job = msgspec.json.decode(job_path.read_bytes(), type=Job)
    sys.path.extend(entry for entry in job.path if entry not in sys.path)
    started = time.perf_counter()
    try:
        function = resolve(job.call)
        (parameter,) = [kind for name, kind in typing.get_type_hints(function).items() if name != "return"]
        outcome = Outcome(value=function(msgspec.convert(job.argument, type=parameter)))
    except errors.EdgeproofError as error:
        outcome = Outcome(failure=Failure(type(error).__name__, error.message, error.fix))
    except ModuleNotFoundError as error:
        outcome = Outcome(failure=missing_module(error))
    except Exception as error:  # noqa: BLE001  the stage boundary: whatever a framework raises becomes a value
        import traceback

        traceback.print_exc()
        outcome = Outcome(failure=Failure("StageFailed", f"{type(error).__name__}: {summary(error)}"))
    outcome = dataclasses.replace(outcome, seconds=time.perf_counter() - started)
    partial = job_path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(outcome))
    partial.replace(result_path(job_path))
    return outcome


#: Which extra brings a module that a stage may find missing.
EXTRAS = {
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "h5py": "tensorflow",
    "torch": "torch",
    "safetensors": "torch",
    "transformers": "huggingface",
    "litert_torch": "tflite",
    "ai_edge_litert": "tflite",
    "ai_edge_quantizer": "tflite",
    "flatbuffers": "tflite",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "tf2onnx": "onnx",
    "PIL": "images",
    "pyarrow": "tables",
    "matplotlib": "plots",
}


def missing_module(error: ModuleNotFoundError) -> Failure:
    """Turn a missing framework into the error that names the extra which brings it."""
    package = (error.name or "").split(".")[0]
    if package in EXTRAS:
        fix = f'pip install "edgeproof[{EXTRAS[package]}]"'
        return Failure("MissingExtra", f"this stage needs the package {package}, which is not installed", fix)
    return Failure("StageFailed", f"ModuleNotFoundError: {error}")


def summary(error: BaseException, lines: int = 6) -> str:
    """Give the first `lines` meaningful lines of an exception's message, escape codes removed."""
    kept = [line.rstrip() for line in plain(str(error)).splitlines() if line.strip()]
    return "\n".join(kept[:lines]) or repr(error)


def plain(text: str) -> str:
    """Take the escape codes out of a text that was meant for a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def serve(preload: Sequence[str], without: Sequence[str]) -> None:
    """Answer jobs from standard input until it ends: one path per line in, `done` per line out."""
    # NOTE: Why the duplicates: converters print to stdout (litert-torch its progress, in Python and in C++), which
    # would corrupt the channel; descriptor 1 becomes a second stderr and only this function keeps the real one.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # The same for what comes in: a stage that reads its standard input finds it empty.
    requests = _requests(os.fdopen(os.dup(0), "rb"))
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    start(preload, without)
    while True:
        perform(requests.get())
        sys.stdout.flush()
        channel.write(b"done\n")
        channel.flush()


def start(preload: Sequence[str], without: Sequence[str]) -> None:
    """Import what the stages of an environment use."""
    gc.disable()
    with hidden(without):
        for module in preload:
            # A module that does not import is not an error yet: the stage that needs it says so with its fix.
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    # NOTE: Why: what imports made stays, and to look through it took 5 to 10 % of a conversion. Seldom collections were
    # no faster, and doubled the memory that tf2onnx takes, whose graphs are garbage in cycles.
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def hidden(packages: Sequence[str]) -> Iterator[None]:
    """Let imports of `packages` raise ImportError meanwhile, as where they are not installed."""
    held = [name for name in packages if name not in sys.modules]
    # None in their place is how the import system is told that there is none.
    sys.modules.update(dict.fromkeys(held))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in held:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def _requests(stream: typing.BinaryIO) -> queue.SimpleQueue[Path]:
    """Collect job paths from `stream`, ending this process at once when the parent goes away, whatever it is doing."""
    pending: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            pending.put(Path(msgspec.json.decode(line, type=str)))
        leave(0)

    threading.Thread(target=read, daemon=True).start()
    return pending


def leave(code: int) -> None:
    """End this process without the frameworks' tear-down, which takes seconds and sometimes crashes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str]) -> None:
    """Serve a parent (`--serve MODULE... --without PACKAGE...`), or repeat one job by hand (`JOB.json`)."""
    if arguments[:1] == [SERVE]:
        place = arguments.index(WITHOUT)
        serve(arguments[1:place], arguments[place + 1 :])
        return
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m convert.worker JOB.json", file=sys.stderr)
        sys.exit(2)
    job_path = Path(arguments[0])
    if not job_path.is_file():
        print(
            f"error: there is no job file {job_path}\nfix: name a .json file of a run's stages folder", file=sys.stderr
        )
        sys.exit(2)
    try:
        job = msgspec.json.decode(job_path.read_bytes(), type=Job)
    except msgspec.MsgspecError as error:
        print(
            f"error: {job_path} is no job of a stage: {error}\nfix: name one of a run's stages folder", file=sys.stderr
        )
        sys.exit(2)
    # Restart with the variables the stage had, unless this is that restart already.
    if os.environ.get("EDGEPROOF_STAGE") != job.stage:
        variables = {**child_environment(job.environment), "EDGEPROOF_STAGE": job.stage}
        os.execve(sys.executable, [sys.executable, "-m", "convert.worker", str(job_path)], variables)  # noqa: S606  this very program
    start(job.environment.preload, job.environment.without)
    outcome = perform(job_path)
    if outcome.failure is not None:
        print(f"error: {outcome.failure.message}\nfix: {outcome.failure.fix}", file=sys.stderr)
        leave(1)
    print(msgspec.json.format(msgspec.json.encode(outcome.value)).decode())
    leave(0)


if __name__ == "__main__":
    main(sys.argv[1:])
