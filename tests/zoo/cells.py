"""One cell of the zoo, a model and a format: built, converted from the command line, checked again, and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fingerprint
from fresh import RUN
from models import PAIRS, Entry
from places import HERE, KEPT, ROOT

from convert.formats import FORMATS

BUILD_SECONDS = 600
CHECK_SECONDS = 300
#: Of one command, all of its formats together; a stage of it has half of that.
RUN_SECONDS = 1800

#: What a tool says that met a bug of its own, or was stopped, and explains nothing.
UNEXPLAINED = ("Traceback (most recent call last)", "timed out after")


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one model and format; kept as JSON."""

    model: str
    form: str
    tool: str = ""
    built_as: str = ""
    status: str = "FAIL"  # PASS, FAIL or NOT_RUN as reported; ERROR where there is no report
    reason: str = ""
    fix: str = ""
    candidate: str = ""
    tried: tuple[str, ...] = ()  # every candidate with its outcome
    told: str = ""  # all the reasons of all the attempts
    ratio: float | None = None
    sqnr_db: float | None = None
    judged_by: str = ""
    latency_seconds: float | None = None
    latency_spread: float | None = None
    lost: tuple[str, ...] = ()
    rescues: tuple[str, ...] = ()
    seconds: float = 0.0
    parent_bytes: int = 0
    exit_code: int | None = None
    command: str = ""
    checked: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def proven(self) -> bool:
        return self.status == "PASS"

    @property
    def explained(self) -> bool:
        """Whether a failure is told in the tool's own words, with what to do."""
        return bool(self.reason and self.fix) and not any(word in self.told for word in UNEXPLAINED)

    @property
    def wrong(self) -> bool:
        """Whether it was called right and the independent check disagrees."""
        return self.proven and self.checked.get("agreed") is False


def targets(entry: Entry) -> tuple[str, ...]:
    """List the formats an entry must lead to, of those the tool has."""
    return tuple(form for form in PAIRS[entry.saved] if form in FORMATS.names())


@dataclass(frozen=True, slots=True)
class Store:
    """A folder that keeps models and results."""

    folder: Path = KEPT

    def path(self, entry: Entry, form: str) -> Path:
        return self.folder / "cells" / f"{entry.file_name}.{form}.json"

    def kept(self, entry: Entry, form: str, *, stale: bool = False) -> Cell | None:
        """Give the kept result; where `stale` ones will do, also that of other code of the tool."""
        path = self.path(entry, form)
        if not path.is_file():
            return None
        cell = Cell(**json.loads(path.read_text()))
        same = cell.built_as == fingerprint.of_model(entry) and (stale or cell.tool == fingerprint.of_tool())
        return cell if same else None

    def keep(self, entry: Entry, cell: Cell) -> None:
        path = self.path(entry, cell.form)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(cell), indent=1))
        new.rename(path)

    def model(self, entry: Entry) -> dict[str, Any]:
        """Build a model in a process of its own, unless it is there; give the arguments for `python -m convert`.

        Raises RuntimeError where it cannot be built.
        """
        folder = self.folder / "models" / entry.file_name
        note = folder / "arguments.json"
        if note.is_file():
            found = json.loads(note.read_text())
            if found["built_as"] == fingerprint.of_model(entry):
                return found["arguments"]
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, HERE / "saving.py", entry.name, folder],
            capture_output=True, text=True, check=False, timeout=BUILD_SECONDS, env=environment("KERAS_BACKEND"),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{entry.name} cannot be built:\n{done.stderr[-3000:]}")
        arguments = json.loads(done.stdout.splitlines()[-1])
        note.write_text(json.dumps({"built_as": fingerprint.of_model(entry), "arguments": arguments}))
        return arguments


def environment(*dropped: str, **added: str) -> dict[str, str]:
    """Give the environment of a process of the zoo: this repository is importable."""
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    search = os.pathsep.join([str(ROOT), *filter(None, [added.pop("PYTHONPATH", ""), kept.get("PYTHONPATH", "")])])
    return {**kept, **added, "PYTHONPATH": search}


@dataclass(frozen=True, slots=True)
class Ran:
    """One finished command: what it said, how long it took, and the most memory its own process held."""

    exit_code: int | None  # None when it was stopped for time
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int


def words(arguments: dict[str, Any]) -> list[str]:
    """Write a saver's arguments as options of the command line."""
    said = [arguments["model"]]
    for name in ("architecture", "signature"):
        said += [f"--{name}", arguments[name]] if arguments.get(name) else []
    for spec in arguments.get("input", ()):
        said += ["--input", spec]
    return said + (["--trust"] if arguments.get("trust") else [])


def run(command: list[str], limit_seconds: float, **added: str) -> Ran:
    """Run a command and watch the memory of its own process, not that of its workers."""
    import signal

    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**added)
    )
    peak = [0]
    watching = threading.Thread(target=watch, args=(process.pid, peak), daemon=True)
    watching.start()
    try:
        stdout, stderr = process.communicate(timeout=limit_seconds)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
        code = None
    watching.join()
    return Ran(code, stdout, stderr, time.monotonic() - started, peak[0])


def watch(pid: int, peak: list[int]) -> None:
    """Read the high-water mark of a process's memory until it ends."""
    import psutil

    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            status = Path(f"/proc/{pid}/status")
            marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            now = int(marks[0].split()[1]) * 1024 if marks else process.memory_info().rss
            peak[0] = max(peak[0], now)
            time.sleep(0.2)
    except (psutil.Error, OSError):
        return


def convert(entry: Entry, forms: tuple[str, ...], store: Store, options: tuple[str, ...] = ()) -> list[Cell]:
    """Convert one model to several formats with one command, which loads it once; one cell each.

    Where the command refuses all for the sake of one, or runs out of time, each format gets a command of its own.
    """
    arguments = store.model(entry)
    out = store.folder / "out" / entry.file_name
    # What is left from a run that was stopped would be taken for this one's.
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "convert", *words(arguments), "--to", ",".join(forms), *options]
    command += ["--json", "--quiet", "--out", str(out), "--timeout", str(RUN_SECONDS / 2)]
    ran = run(command, RUN_SECONDS, PYTHONPATH=arguments.get("PYTHONPATH", ""))
    shown = f"python -m convert {' '.join(map(repr, words(arguments)))} --to "
    alone = ran.exit_code is None or "no route leads" in ran.stderr
    if alone and len(forms) > 1:
        return [cell for form in forms for cell in convert(entry, (form,), store, options)]
    if ran.exit_code is None or not ran.stdout.strip():
        said = f"timed out after {RUN_SECONDS} s" if ran.exit_code is None else ran.stderr.strip()
        cells = [silent(entry, form, said, ran) for form in forms]
    else:
        report = json.loads(ran.stdout)
        fresh = Path(arguments["model"]).parent / "fresh.npz"
        cells = [judged(entry, report, target, fresh, ran) for target in report["targets"]]
    shutil.rmtree(out, ignore_errors=True)
    marked = {"tool": fingerprint.of_tool(), "built_as": fingerprint.of_model(entry)}
    return [Cell(**{**asdict(cell), **marked, "command": shown + cell.form}) for cell in cells]


def silent(entry: Entry, form: str, said: str, ran: Ran) -> Cell:
    """Make the cell of a command that ended without a report: its message is the reason."""
    lines = [line for line in said.splitlines() if line.strip()]
    fixes = [line.partition("fix:")[2].strip() for line in lines if "fix:" in line]
    reason = next((line for line in lines if not line.lstrip().startswith("fix:")), "it said nothing")
    return Cell(
        entry.name, form, status="ERROR", reason=reason.strip(), fix=fixes[0] if fixes else "", told=said[-4000:],
        seconds=ran.seconds, parent_bytes=ran.peak_bytes, exit_code=ran.exit_code,
    )  # fmt: skip


def judged(entry: Entry, report: dict[str, Any], target: dict[str, Any], fresh: Path, ran: Ran) -> Cell:
    """Take from a report what the table shows, and check a proven artifact independently."""
    attempts = target["attempts"]
    kept = attempts[target["kept"]] if target["kept"] is not None else None
    outputs = kept["parity"]["outputs"] if kept and kept.get("parity") else []
    timed = target["latency"][0] if target["latency"] else {}
    free = [dim for spec in report["model"]["signature"]["inputs"] for dim in spec["shape"] if isinstance(dim, str)]
    artifact = target["artifact"]
    still = [dim for spec in artifact["signature"]["inputs"] for dim in spec["shape"]] if artifact else []
    proven = target["status"] == "PASS"
    return Cell(
        entry.name,
        target["target"],
        status=target["status"],
        reason=target["reason"],
        fix=next((said for attempt in attempts if advice(said := attempt["fix"])), ""),
        candidate=kept["plan"] if kept else "",
        tried=tuple(f"{attempt['plan']}: {outcome(attempt)}" for attempt in attempts),
        told="\n".join(f"{attempt['plan']}: {attempt['reason']}" for attempt in attempts),
        ratio=max((o["ratio"] for o in outputs if o.get("ratio") is not None), default=None),
        sqnr_db=min((o["sqnr_db"] for o in outputs if o.get("sqnr_db") is not None), default=None),
        judged_by=report["reference"]["oracle"],
        latency_seconds=timed.get("median_seconds"),
        latency_spread=timed.get("spread"),
        lost=tuple(dict.fromkeys(dim for dim in free if dim not in still)) if artifact else (),
        rescues=tuple((artifact or {}).get("rescues", ())),
        seconds=ran.seconds / len(report["targets"]),
        parent_bytes=ran.peak_bytes,
        exit_code=ran.exit_code,
        checked=checked(report, target, fresh) if proven else {},
        versions=report["versions"],
        machine=report["machine"],
    )


def advice(fix: str) -> bool:
    """Whether a fix is more than how to see the failure again."""
    return bool(fix) and not fix.startswith("repeat it with")


def outcome(attempt: dict[str, Any]) -> str:
    made = attempt["artifact"] is not None
    verdicts = [attempt[stage]["status"] for stage in ("structure", "parity") if attempt.get(stage)]
    return ("PASS" if verdicts == ["PASS", "PASS"] else f"made, {attempt['reached']}") if made else "not made"


def checked(report: dict[str, Any], target: dict[str, Any], fresh: Path) -> dict[str, Any]:
    """Compare a proven artifact with the original model once more, in a process that knows nothing of the tool."""
    artifact = target["artifact"]
    if target["target"] not in RUN:
        return {"agreed": None, "why": "nothing here runs it"}
    note = fresh.parent / "reported.json"
    note.write_text(json.dumps({"source": report["model"]["signature"], "artifact": artifact["signature"]}))
    done = subprocess.run(
        [sys.executable, HERE / "fresh.py", artifact["path"], target["target"], fresh, note],
        capture_output=True, text=True, check=False, timeout=CHECK_SECONDS, env=environment(),
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"agreed": None, "why": f"it could not run: {last}"}
    return json.loads(done.stdout.splitlines()[-1])
