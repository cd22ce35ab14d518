"""Hold the bounds of validators/tolerance.py against right exports and planted faults: `python tests/zoo/calibrate.py`.

Each model is exported, judged, broken and judged again in a process of its own; results are kept in build/zoo/calibrate
and taken again while the tool, the frameworks and the model stay the same. The figures go into docs/parity.md. It ends
with 1 where, of the models that no bound was set with, a right export is refused, a fault survives, or one cannot be
judged at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fingerprint
import natural
import numpy as np
from calibrate_results import FOLDER, Judged, Result, built_as, decoded, keep, read, tool_of
from cells import Store, run
from halves import FORMATS, INT8, SUBJECTS, Subject
from models import BUILDABLE
from places import HERE, ROOT

PAGE = ROOT / "docs" / "parity.md"

#: For one model, all of its exports and faults together.
MODEL_SECONDS = 1800

#: Rows of the data that int8 files are calibrated with and judged by: every fault runs all of the second.
CALIBRATION_ROWS, INPUT_ROWS = 48, 16


def data_of(subject: Subject, fresh: Path) -> tuple[str, str]:
    """Write what int8 files are calibrated with and judged by, unless it is there; nothing where none is asked for."""
    if INT8 not in subject.precisions:
        return "", ""
    folder = FOLDER / "data" / subject.name.replace("/", "-")
    note, paths = folder / "made.json", (folder / "calibration.npz", folder / "inputs.npz")
    rows = (CALIBRATION_ROWS, INPUT_ROWS)
    made = fingerprint.digest(built_as(subject.name), (HERE / "natural.py").read_text(), repr(rows))
    if not note.is_file() or json.loads(note.read_text()) != made:
        natural.write(fresh, BUILDABLE[subject.name], paths)
        for path, count in zip(paths, rows, strict=True):
            with np.load(path) as file:
                few = {name: file[name][:count] for name in file.files}
            np.savez(path, **few)
        note.write_text(json.dumps(made))
    return str(paths[0]), str(paths[1])


def measure(subject: Subject, store: Store) -> Result:
    """Judge one model; where that cannot be done, the result says why."""
    started = time.monotonic()
    result = Result(subject.name, subject.half, tool_of(), built_as(subject.name, subject))
    out = FOLDER / "out" / subject.name.replace("/", "-")
    try:
        arguments = store.model(BUILDABLE[subject.name])
        fresh = Path(arguments["model"]).parent / "fresh.npz"
        calibration, inputs = data_of(subject, fresh)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        job = {
            "model": subject.name, "arguments": arguments, "formats": FORMATS, "precisions": subject.precisions,
            "out": str(out), "fresh": str(fresh), "calibration": calibration, "inputs": inputs,
        }  # fmt: skip
        (out / "job.json").write_text(json.dumps(job))
        command = [sys.executable, str(HERE / "planted.py"), str(out / "job.json")]
        ran = run(command, MODEL_SECONDS, PYTHONPATH=arguments.get("PYTHONPATH", ""))
        if ran.exit_code != 0 or not ran.stdout.strip():
            said = [line for line in ran.stderr.splitlines() if line.strip()]
            why = "it was stopped for time" if ran.exit_code is None else "it ended without a result"
            result = dataclasses.replace(result, error=f"{why}: {said[-1] if said else 'it said nothing'}"[:400])
        else:
            given = json.loads(ran.stdout.splitlines()[-1])
            result = decoded(dataclasses.asdict(result) | given)
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        # One model that cannot be built or read must not end the calibration of the others.
        result = dataclasses.replace(result, error=f"{type(error).__name__}: {error}"[:400])
    shutil.rmtree(out, ignore_errors=True)
    return dataclasses.replace(result, seconds=time.monotonic() - started)


def kept_result(subject: Subject, *, stale: bool) -> Result | None:
    """Take a kept result of this code and model; where `stale` ones will do, also that of other code."""
    found = read(subject.name)
    if found is None or found.built_as != built_as(subject.name, subject) or found.half != subject.half:
        return None
    # What ended without a result may have met something that a second run does not meet.
    return found if (stale or found.tool == tool_of()) and not found.error else None


def line(result: Result, *, kept: bool) -> str:
    """Say what became of a model."""
    when = "kept" if kept else f"{result.seconds:.0f} s"
    head = f"{result.model:34} {result.half:12} {when:>6}  "
    if result.error:
        return f"{head}NOT JUDGED: {result.error}"
    counted = [fault for _, fault in result.faults if fault.counts]
    said = f"{len(result.rights)} right exports, {len(result.refused)} refused; "
    said += f"{sum(fault.caught for fault in counted)} of {len(counted)} faults caught"
    less = [fault for _, fault in result.faults if not fault.counts]
    more = [f"; {len(less)} not counted"] * bool(less) + [f"; not made: {why[:120]}" for why in result.missing]
    more += [f"\n    REFUSED {export.label}: {export.right.reason[:200]}" for export in result.refused]
    more += [f"\n    SURVIVED {e.label}: {f.kind}, {f.where[-60:]}{moving(f)}" for e, f in result.survivors]
    more += [f"\n    PASSED THOUGH WRONG {export.label}: {export.check}" for export in result.wrongly_passed]
    return head + said + "".join(more)


def moving(fault: Judged) -> str:
    return "" if fault.moved is None else f", moves {fault.moved:.3g} times what must be erred"


def failed(result: Result) -> bool:
    """Whether a result speaks against the bounds: only models that no bound was set with can."""
    return result.held_out and bool(
        result.error or result.missing or result.refused or result.survivors or result.wrongly_passed
    )


def chosen(pattern: str) -> Iterator[Subject]:
    """Give the subjects that the patterns fit, in the table's order; ends the program where there is none."""
    patterns = [part.strip() for part in pattern.split(",") if part.strip()]
    found = [subject for subject in SUBJECTS if any(BUILDABLE[subject.name].matches(one) for one in patterns)]
    if not found:
        sys.exit(f"no model is named {pattern!r}; there are {', '.join(subject.name for subject in SUBJECTS)}")
    yield from found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="patterns of model names, separated by commas")
    parser.add_argument("--again", action="store_true", help="take no kept result")
    parser.add_argument("--stale", action="store_true", help="also take results of other code of the tool")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further model after that long")
    parser.add_argument("--page", default=str(PAGE), help="the page whose section is written; empty for none")
    asked = parser.parse_args(argv)
    until, store, bad = time.monotonic() + 60 * asked.minutes, Store(), []
    for subject in chosen(asked.only):
        found = None if asked.again else kept_result(subject, stale=asked.stale)
        kept = found is not None
        if found is None:
            if time.monotonic() > until:
                print(f"{subject.name:34} {subject.half:12} left out after {asked.minutes:g} minutes", flush=True)
                bad.append(subject.name)
                continue
            found = measure(subject, store)
            keep(found)
        print(line(found, kept=kept), flush=True)
        bad += [found.model] if failed(found) else []
    if asked.page:
        from calibrate_page import write

        write(Path(asked.page))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
