"""How many instructions one inference executes, counted by valgrind's callgrind: a number that a busy machine leaves.

A process under callgrind opens the artifact, warms up, and then calls `getppid` before each inference and after the
last. Callgrind writes its counts down and starts over at each such call, so every inference has a count of its own.
As in latency, handing over inputs and reading outputs is not in it, nor is loading.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from convert.errors import LoadError
from convert.worker import Environment
from validators.runtimes import RUNTIMES, Feed, Subject, feed

#: Inferences that are not counted: TorchScript compiles in its first three, and Python specialises code that ran
#: eight times. On the digits sample counts fall by 2 % until the tenth.
WARM_UPS = 12

#: Inferences that are counted, of which the median is told. Single ones of the digits sample differ by 1 %, and
#: one by 10 %, since Python's and the engines' allocators find other places; medians of so many by less than 0.5 %.
RUNS = 9

#: It ends after this time in any case: callgrind takes 50 times as long, and PyTorch's import alone two minutes.
SECONDS = 900.0

#: The function at whose calls callgrind starts over: in the C library, and called by nothing that engines do.
MARK = "getppid"

INSTALL = "install valgrind (apt install valgrind), or leave --instructions out"

INSTRUCTIONS = Environment("instructions")

#: What engines choose kernels by, as NumPy calls it, the widest first.
SETS = ("AVX512F", "AVX2", "AVX", "SSE42", "SVE", "ASIMDDP", "ASIMD", "NEON")

NO_AVX512 = "valgrind emulates no AVX-512"


@dataclass(frozen=True, slots=True)
class Executing:
    """One artifact whose instructions are to be counted; travels to a worker, and on to a process under valgrind."""

    runtime: str
    subject: Subject
    inputs: str  # .npz of cases
    case: str
    feeds: tuple[Feed, ...]
    variables: tuple[tuple[str, str], ...] = ()  # of the engine's environment


@dataclass(frozen=True, slots=True)
class Executed:
    """Instructions of each counted inference, and the instruction set that the engine saw."""

    runs: tuple[int, ...]
    instruction_set: str

    @property
    def median(self) -> int:
        """The number to go by."""
        return int(statistics.median_low(self.runs))


def execute_counted(job: Executing) -> Executed:
    """Run an artifact under callgrind and read what it counted, in a worker.

    Raises LoadError, with its fix, where valgrind is not there or cannot run the engine.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise LoadError("valgrind is not installed, which counts instructions", fix=INSTALL)
    with tempfile.TemporaryDirectory() as place:
        task, told, counts = (Path(place) / name for name in ("task.json", "told.json", "counts"))
        task.write_bytes(msgspec.json.encode(job))
        words = [valgrind, "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={counts}"]
        line = [*words, sys.executable, "-m", "validators.instructions", str(task), str(told)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        variables = {**os.environ, **dict(job.variables), **one}
        ran = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
        if not told.exists():
            # Valgrind's own lines begin with two signs of equality, and come after what the engine said.
            lines = [line for line in ran.stderr.splitlines() if line.strip()]
            said = [line for line in lines if not line.startswith("==")][-3:] or lines[-3:]
            raise LoadError(f"it does not run under valgrind: {' | '.join(said)}", fix="leave --instructions out")
        runs = counts_in(Path(place), counts.name)
        if len(runs) != RUNS:
            raise LoadError(
                f"callgrind gave {len(runs)} counts and not {RUNS}: it did not see {MARK} being called",
                fix="install valgrind 3.15 or newer, or leave --instructions out",
            )
        return Executed(tuple(runs), told.read_text(encoding="utf-8"))


def counts_in(folder: Path, name: str) -> list[int]:
    """Read the counts between one mark and the next, in their order; what came before the first mark is left out."""
    found = {}
    for path in folder.glob(f"{name}.*"):
        text = path.read_text(errors="replace")
        total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
        if total and f"Trigger: --dump-before={MARK}" in text:
            found[int(path.suffix[1:])] = int(total[1])
    return [found[number] for number in sorted(found)][1:]


def run_counted(job: Executing) -> str:
    """Open an artifact, run it, and mark where each counted inference begins and ends; gives the instruction set."""
    import numpy as np

    runtime = RUNTIMES[job.runtime]
    with np.load(job.inputs) as arrays:
        inputs = feed(arrays, job.case, job.feeds)
    one = runtime.open(job.subject).ready(inputs)
    one.place()
    # What would otherwise run now and then, and be counted where it does.
    gc.collect()
    gc.disable()
    for _ in range(WARM_UPS):
        one.infer()
    for _ in range(RUNS):
        os.getppid()
        one.infer()
    os.getppid()
    return instruction_set()


def instruction_set() -> str:
    """Name the widest instruction set that this process is offered, as NumPy finds it by asking the processor."""
    # NOTE: Why a private name: NumPy publishes what it found in no other way.
    from importlib import import_module

    features: dict[str, bool] = import_module("numpy._core._multiarray_umath").__cpu_features__

    widest = next((name for name in SETS if features.get(name)), "baseline")
    fused = " and FMA" if features.get("FMA3") and widest.startswith("AVX") else ""
    return f"{widest}{fused}" + (f"; {NO_AVX512}" if "SSE" in features and widest != "AVX512F" else "")


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(
        run_counted(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Executing)), encoding="utf-8"
    )
    os._exit(0)  # engines' tear-down takes long under valgrind, and counts for nothing
