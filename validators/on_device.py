"""How long an artifact takes on an attached device: a benchmark tool is pushed with it, run, read, and removed again.

What a tool does not tell is left out with the reason. Where a device fails, nothing of this machine takes its place.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import shlex
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from convert.device import DeviceRequest
from convert.errors import DeviceError, UsageError
from validators.adb import PLACE, Adb, Answer, find, last_line, reach
from validators.benchmarks import Ask, Benchmark, Told, benchmark_for
from validators.latency import WARM_UP_RUNS, WARM_UP_SECONDS, Measurement, typical
from validators.phone import THROTTLED, Phone, abi_of, condition, phone
from validators.protocol import MANY_SECONDS, P90_RUNS, P95_RUNS, P99_RUNS, Protocol
from validators.steady import LEAST_RUNS, QUARTER_DRIFT

#: What opening a model may take there beside its timed runs: a large one is compiled for tens of seconds.
OPEN_SECONDS = 120.0

#: What is called so in the folder on the device.
TAKEN = ("tool", "model", "pid")

Number = TypeVar("Number", int, float)

#: How much of a tool's own words a reason quotes.
QUOTED = 3

#: What tools and systems say where the processor is slowed down because it is hot.
_THROTTLING = re.compile(r"[^\n]*\bthrottl(?:ed|ing)\b[^\n]*", re.IGNORECASE)

_LIBRARY = re.compile(r'library "?([\w.+-]+\.so[\w.]*)"? not found|shared libraries: ([\w.+-]+\.so[\w.]*)')


@dataclass(frozen=True, slots=True)
class Bench:
    """A device with a tool and an artifact pushed to a folder of their own."""

    adb: Adb
    phone: Phone
    tool: Benchmark
    folder: str
    model: str  # from that folder
    request: DeviceRequest


def check(device: DeviceRequest, forms: Iterable[str]) -> Phone:
    """See that artifacts of some formats can be timed on a device, before anything else is done; give the device.

    Raises UsageError for what is missing: a tool for a format, adb, a device that lets it in, a tool that it can run.
    """
    tools = {form: _tool_file(device, form) for form in forms}
    for file in device.files:
        if not Path(file).is_file():
            raise UsageError(f"--benchmark-file {file}: there is no such file", fix="give the path of the file to push")
        if Path(file).name in TAKEN:
            raise UsageError(f"--benchmark-file {file} would take the place of our own", fix="rename it")
    program = find(device.adb)
    try:
        found = phone(reach(program, device.serial))
    except DeviceError as error:
        raise UsageError(error.message, fix=error.fix) from error
    for path in tools.values():
        abi = abi_of(path)
        if abi is None:
            raise UsageError(
                f"{path} is no program that Android runs", fix="give the native binary, not an app or an archive"
            )
        if abi and found.abis and abi not in found.abis:
            raise UsageError(
                f"{path.name} is built for {abi}, and {found} runs {', '.join(found.abis)}",
                fix=f"give the {path.name} built for {found.abis[0]}",
            )
    return found


def check_timing(
    device: DeviceRequest, forms: Iterable[str], threads: Sequence[int], *, baseline: str = "", race: bool = False
) -> None:
    """Check a device, and what else is asked for; raises UsageError for what would time on this machine after all."""
    for option, stated in (("baseline", bool(baseline)), ("race", race)):
        if stated:
            raise UsageError(
                f"--{option} is decided by timings of this machine, and --device asks for those of a device",
                fix="leave one of them out",
            )
    if not threads:
        raise UsageError("--device has nothing to time: no number of threads is given", fix="add --threads 1")
    check(device, forms)


def _tool_file(device: DeviceRequest, form: str) -> Path:
    benchmark = benchmark_for(form)
    path = Path(device.tool(form).removeprefix(f"{form}="))
    if not device.tool(form):
        raise UsageError(
            f"no --benchmark-tool is given for {form}", fix=f"add --benchmark-tool {form}=PATH of {benchmark.title}"
        )
    if not path.is_file():
        raise UsageError(
            f"--benchmark-tool {path}: there is no such file", fix=f"give the path of {benchmark.title} for Android"
        )
    return path


@contextmanager
def pushed(device: DeviceRequest, form: str, artifact: Path, companions: Sequence[Path]) -> Iterator[Bench]:
    """Push an artifact and its tool to a device; whatever happens, all of it is removed afterwards.

    Raises DeviceError or UsageError where that is not possible.
    """
    adb = reach(find(device.adb), device.serial)
    folder = f"{PLACE}/edgeproof-{secrets.token_hex(6)}"
    tool, benchmark = _tool_file(device, form), benchmark_for(form)
    model = f"model/{artifact.name}"
    try:
        _must(adb.shell(f"mkdir -p {folder}/model"), f"{folder} could not be made")
        adb.push(tool, f"{folder}/tool")
        _must(adb.shell(f"chmod 755 {folder}/tool"), "the tool could not be made executable")
        for file in map(Path, device.files):
            adb.push(file, f"{folder}/{file.name}")
        for file in (artifact, *companions):
            adb.push(file, f"{folder}/model/{file.relative_to(artifact.parent).as_posix()}")
        yield Bench(adb, phone(adb), benchmark, folder, model, device)
    except BaseException as error:
        left = _removed(adb, folder)
        if left and isinstance(error, DeviceError):
            raise DeviceError(f"{error.message}; {left}", fix=error.fix) from error
        raise
    else:
        if left := _removed(adb, folder):
            raise DeviceError(left, fix=f"remove it: adb shell rm -rf {folder}")


def _must(answer: Answer, what: str) -> None:
    if answer.exit_code:
        raise DeviceError(f"{what}: {last_line(answer.text)}", fix=f"see whether a shell may write to {PLACE}")


def _removed(adb: Adb, folder: str) -> str:
    """End what still runs in the folder and remove it; say where that failed."""
    try:
        gone = adb.shell(f'[ -f {folder}/pid ] && kill -9 "$(cat {folder}/pid)" 2>/dev/null; rm -rf {folder}')
    except DeviceError as error:
        return f"{folder} is left on the device: {error.message}"
    return f"{folder} is left on the device: {last_line(gone.text)}" if gone.exit_code else ""


def time_on_device(
    bench: Bench,
    threads: int,
    protocol: Protocol,
    timeout_seconds: float,
    sizes: tuple[tuple[str, int], ...] = (),
) -> tuple[Measurement, str]:
    """Run the tool in as many processes as the protocol says; give what they told, and the command on the device.

    Raises DeviceError where the device, the tool or the artifact fails.
    """
    ask = Ask(
        bench.model,
        threads,
        protocol.runs,
        max(protocol.seconds, MANY_SECONDS),
        protocol.limit_seconds,
        WARM_UP_RUNS,
        WARM_UP_SECONDS,
        sizes,
    )
    words = ["./tool", *bench.tool.words(ask), *bench.request.arguments]
    # Android's taskset reads hexadecimal without a prefix.
    kept_on = ("taskset", f"{int(bench.request.cores, 16):x}") if bench.request.cores else ()
    line = shlex.join([*kept_on, *words])
    before = condition(bench.adb)
    limit = min(timeout_seconds, OPEN_SECONDS + max(2 * protocol.limit_seconds, 2 * ask.seconds))
    ran = [_run(bench, line, limit) for _ in range(protocol.processes)]
    after = condition(bench.adb)
    seen = dataclasses.replace(bench.phone, before=before, after=after)
    said = "\n".join(text for text, _ in ran).replace(bench.model, "")  # which may be called anything
    told = [one for _, one in ran]
    return measured(told, ask, protocol, seen, said, bench), f"adb shell: cd {bench.folder} && {line}"


def _run(bench: Bench, line: str, limit: float) -> tuple[str, Told]:
    """Run the tool once; raises DeviceError for all that keeps it from telling."""
    inner = shlex.quote(f"echo $$ > pid; exec {line}")
    # NOTE: Why the variable: a tool finds the libraries pushed beside it by nothing else.
    started = f"cd {bench.folder} && LD_LIBRARY_PATH={bench.folder} sh -c {inner}"
    # NOTE: Why its process number, and why it is forgotten at the end: one that still runs is ended before its files
    # are removed, and no other that got its number later.
    answer = bench.adb.shell(f"{started}; code=$?; rm -f {bench.folder}/pid; (exit $code)", limit)
    if answer.exit_code:
        raise failure(answer, bench.tool, bench.phone)
    told = bench.tool.read(answer.text)
    if told is None:
        raise DeviceError(
            f"what {bench.tool.name} printed cannot be read: {quoted(answer.text)}",
            fix=f"give {bench.tool.title} of a version that prints its statistics",
        )
    return answer.text, told


def failure(answer: Answer, tool: Benchmark, device: Phone) -> DeviceError:
    """Say why a tool ended with an error: its ABI, a library, the model, a signal, else its own words."""
    text, code = answer.text, answer.exit_code or 0
    abi = device.abis[0] if device.abis else "the device"
    if "not executable" in text or "Exec format error" in text or "bad ELF" in text:
        return DeviceError(
            f"the device cannot run {tool.name}: {quoted(text, 1)}", fix=f"give the one that is built for {abi}"
        )
    if match := _LIBRARY.search(text):
        name = match[1] or match[2]
        return DeviceError(
            f"{tool.name} needs {name}, which is not there",
            fix=f"push it beside the tool: --benchmark-file PATH/{name}",
        )
    if "CANNOT LINK EXECUTABLE" in text:
        return DeviceError(f"the device cannot link {tool.name}: {quoted(text, 1)}", fix="build it for this Android")
    if any(words in text for words in tool.too_new):
        return DeviceError(
            f"the model is newer than {tool.name}: {quoted(text)}",
            fix=f"give a {tool.name} as new as the runtime that the model was proven with",
        )
    if code == 127:
        return DeviceError(
            f"the device cannot start {tool.name}: {quoted(text, 1)}",
            fix="give one built for Android with its NDK; one for a desktop looks for a loader that is not there",
        )
    if code > 128:
        words = {9: "killed, as a rule for want of memory", 11: "a segmentation fault", 6: "an abort"}
        reason = words.get(code - 128, f"signal {code - 128}")
        return DeviceError(f"{tool.name} ended by {reason}: {quoted(text)}", fix="try it with a smaller model")
    return DeviceError(f"{tool.name} ended with {code}: {quoted(text)}", fix="do as it says")


def quoted(text: str, lines: int = QUOTED) -> str:
    """Give the last lines of what a tool said, in one."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(said[-lines:]) or "nothing was printed"


def measured(told: Sequence[Told], ask: Ask, protocol: Protocol, device: Phone, said: str, bench: Bench) -> Measurement:
    """Put together what the runs of a tool told, and hold back what cannot stand."""
    hot = _throttled(device, said)
    withheld = hot or _unstable(told, protocol)
    untold = {name: reason for one in told for name, reason in one.untold.items()}
    untold["outliers"] = f"{bench.tool.name} prints no single runs"
    runs = min(one.runs for one in told)
    shares = {50: LEAST_RUNS, 90: P90_RUNS, 95: P95_RUNS, 99: P99_RUNS}
    named = {50: "median_seconds", 90: "p90_seconds", 95: "p95_seconds", 99: "p99_seconds"}
    values: dict[str, float | None] = {}
    for share, least in shares.items():
        printed = [one.percentiles[share] for one in told if share in one.percentiles]
        if printed and runs < least:
            untold[named[share]] = f"{runs} runs, and {least} are needed for it"
        kept = len(printed) == len(told) and runs >= least and not withheld
        values[named[share]] = statistics.median(printed) if kept else None
    if withheld:
        untold |= dict.fromkeys((*named.values(), *_TIMES, *(_OPENING if hot else ())), withheld)
    memory = typical([one.memory for one in told if one.memory]) if all(one.memory for one in told) else None
    return Measurement(
        threads=ask.threads,
        load_seconds=None if hot else statistics.median(one.load_seconds for one in told),
        first_seconds=None if hot else statistics.median(one.first_seconds for one in told),
        runs=sum(one.runs for one in told),
        median_seconds=values["median_seconds"],
        p90_seconds=values["p90_seconds"],
        spread=None,
        peak_added_bytes=max(memory.load.resident, memory.run.resident) if memory else None,
        where=device.where,
        withheld=withheld,
        protocol=protocol.name,
        p95_seconds=values["p95_seconds"],
        p99_seconds=values["p99_seconds"],
        mean_seconds=None if withheld else statistics.fmean(one.mean_seconds for one in told),
        fastest_seconds=None if withheld else _least(min, (one.fastest_seconds for one in told)),
        slowest_seconds=None if withheld else _least(max, (one.slowest_seconds for one in told)),
        deviation_seconds=None if withheld or len(told) > 1 else told[0].deviation_seconds,
        cpu_withheld=untold.get("cpu_median_seconds", ""),
        openings=() if hot else tuple((one.load_seconds, one.first_seconds) for one in told),
        processes=len(told),
        warm_up_runs=sum(one.warm_up_runs for one in told),
        outliers=None,
        inputs=1,
        pinned=_cores(bench.request.cores),
        memory=memory,
        process_peak_bytes=_least(max, (one.process_peak_bytes for one in told)),
        device=device,
        untold=dict(sorted(untold.items())),
        notes=_notes(told, ask, device, bench),
    )


#: What is held back beside percentiles where timings cannot stand, and what else where a device slowed itself down.
_TIMES = ("mean_seconds", "fastest_seconds", "slowest_seconds", "deviation_seconds")
_OPENING = ("load_seconds", "first_seconds")


def _throttled(device: Phone, said: str) -> str:
    """Say how it is known that a device slowed itself down, or nothing."""
    for moment, state in (("before", device.before), ("after", device.after)):
        if state.throttled:
            return f"the device was throttling {moment} it ({state}; from {THROTTLED} on nothing is reported)"
    if match := _THROTTLING.search(said):
        return f"the device was throttling: {match[0].strip()}"
    return ""


def _unstable(told: Sequence[Told], protocol: Protocol) -> str:
    """Say why the timings of a device that was not throttling are not to be reported: too few, or they differ."""
    runs = min(one.runs for one in told)
    least = LEAST_RUNS if protocol.withholds else protocol.runs
    if runs < least:
        return f"only {runs} runs fit into {protocol.limit_seconds:g} s"
    middles = [one.percentiles.get(50, one.mean_seconds) for one in told]
    middle = statistics.median(middles)
    apart = max(abs(one - middle) for one in middles) / middle if middle else 0.0
    if apart > QUARTER_DRIFT:
        return f"not stable: processes differ by {apart:.0%} (limit {QUARTER_DRIFT:.0%})"
    return ""


def _notes(told: Sequence[Told], ask: Ask, device: Phone, bench: Bench) -> tuple[str, ...]:
    free = [name for name, size in ask.sizes if size != 1]
    notes = [
        f"timed by {bench.tool.title} with one input of its own making",
        f"before: {device.before}; after: {device.after}",
    ]
    if device.after.thermal_status is None:
        notes.append("whether it throttled is not known: this Android does not tell")
    if free and not bench.tool.sizes:
        notes.append(f"{', '.join(free)} has the size that the file states, 1 as a rule")
    if bench.request.arguments:
        notes.append(f"the tool was also told {shlex.join(bench.request.arguments)}")
    return tuple(dict.fromkeys([*notes, *(note for one in told for note in one.notes)]))


def _cores(mask: str) -> tuple[int, ...]:
    """Give the cores of a mask."""
    number = int(mask, 16) if mask else 0
    return tuple(core for core in range(number.bit_length()) if number >> core & 1)


def _least(choose: Callable[[list[Number]], Number], values: Iterable[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None


def timed_on_device(
    device: DeviceRequest,
    form: str,
    artifact: Path,
    companions: Sequence[Path],
    threads: Sequence[int],
    protocol: Protocol,
    timeout_seconds: float,
    sizes: tuple[tuple[str, int], ...],
    say: Callable[[str], None],
) -> list[tuple[Measurement, float, str]]:
    """Time an artifact at every number of threads, one after another; give each with its seconds and command."""
    found = []
    with pushed(device, form, artifact, companions) as bench:
        for count in threads:
            say(f"{artifact.name}: timing on {bench.phone} at {count} thread(s)")
            began = time.monotonic()
            measurement, command = time_on_device(bench, count, protocol, timeout_seconds, sizes)
            found.append((measurement, time.monotonic() - began, command))
    return found
