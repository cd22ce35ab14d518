"""Full int8 of the digits and the zoo, beside what other tools' defaults make: `python tests/zoo/precision.py`.

Each model and format: `python -m convert` makes and proves it, rescued where that is needed; TFLiteConverter,
ai-edge-quantizer and ONNX Runtime are called by hand on the same float model and data; all files are measured alike.
Results are kept in build/zoo/precision and taken again while the tool, the frameworks and the model stay the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import fingerprint
import natural
from by_defaults import OF_FORMAT
from cells import environment, run, words
from models import BY_NAME
from places import HERE, ROOT
from precision_results import (
    FOLDER,
    FORMATS,
    PRECISION,
    SEARCH_SECONDS,
    SUBJECTS,
    File,
    Result,
    file_name,
    keep,
    read,
    source_of,
    tool_of,
)

PAGE = ROOT / "docs" / "precision.md"

RUN_SECONDS = 1200
HAND_SECONDS = 180

#: Samples whose images have their channels last.
CHANNELS_LAST = (".keras", ".tflite")


def data_of(name: str, arguments: dict[str, Any], built_as: str) -> tuple[Path, Path]:
    """Write what a model is calibrated with and judged by, unless it is there."""
    folder = FOLDER / "data" / file_name(name)
    note, paths = folder / "made.json", (folder / "calibration.npz", folder / "inputs.npz")
    made = fingerprint.digest(built_as, (HERE / "natural.py").read_text())
    if note.is_file() and json.loads(note.read_text()) == made:
        return paths
    if name in BY_NAME:
        natural.write(Path(arguments["model"]).parent / "fresh.npz", BY_NAME[name], paths)
    else:
        natural.write_digits(paths, channels_last=name.endswith(CHANNELS_LAST))
    note.write_text(json.dumps(made))
    return paths


def measure(name: str, forms: tuple[str, ...]) -> list[Result]:
    """Convert a model with the command line and with the others' defaults, and measure what came out."""
    built_as, arguments = source_of(name)
    calibration, inputs = data_of(name, arguments, built_as)
    out = FOLDER / "out" / file_name(name)
    shutil.rmtree(out, ignore_errors=True)
    options = ["--to", ",".join(forms), "--precision", f"fp32,{PRECISION}", "--calibration", str(calibration)]
    options += ["--inputs", str(inputs), "--search-seconds", str(SEARCH_SECONDS), "--out", str(out)]
    command = ["-m", "convert", *words(arguments), *options]
    ran = run([sys.executable, *command, "--json", "--quiet"], RUN_SECONDS, PYTHONPATH=arguments.get("PYTHONPATH", ""))
    shown = " ".join(["python", *command]).replace(f"{ROOT}/", "")
    results = [
        Result(name, form, tool_of(), built_as, command=shown, seconds=ran.seconds / len(forms)) for form in forms
    ]
    if not ran.stdout.strip():
        said = ran.stderr.strip().splitlines() or [f"it said nothing within {RUN_SECONDS} s"]
        why = next((line for line in said if "rror" in line), said[-1])
        return [changed(result, reason=why) for result in results]
    report = json.loads(ran.stdout)
    results = [changed(result, **taken(report, result.form)) for result in results]
    results = [judged(result, report, arguments, calibration, inputs, out) for result in results]
    shutil.rmtree(out / "stages", ignore_errors=True)
    return results


def outcome(name: str, forms: tuple[str, ...]) -> list[Result]:
    """Measure a model; where that cannot be done, the results say why, and the others are measured all the same."""
    try:
        return measure(name, forms)
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        traceback.print_exc()
        return [Result(name, form, tool_of(), reason=f"{type(error).__name__}: {error}"[:500]) for form in forms]


def changed(result: Result, **fields: Any) -> Result:
    return Result(**{name: getattr(result, name) for name in result.__slots__} | fields)


def taken(report: dict[str, Any], form: str) -> dict[str, Any]:
    """Take from a report what the table shows."""
    some = {target["precision"]: target for target in report["targets"] if target["target"] == form}
    base, target = some.get("fp32"), some.get(PRECISION)
    if target is None or base is None or base["artifact"] is None:
        why = "no float artifact" if base is None or base["artifact"] is None else "no int8 target"
        return {"reason": (base or {}).get("reason", why)}
    tried = target["attempts"]
    kept = tried[target["kept"]] if target["kept"] is not None else (tried[-1] if tried else {})
    recipe = kept.get("recipe") or {}
    outputs = (kept.get("parity") or {}).get("outputs", [])
    firsts = [a["quality"]["sqnr_db"] for a in tried if a.get("quality") and not a["recipe"]["kept"]]
    return {
        "status": target["status"],
        "reason": target["reason"],
        "base": recipe.get("base", ""),
        "quantizer": recipe.get("quantizer", ""),
        "float_bytes": base["artifact"]["file_bytes"],
        "reported_db": (kept.get("quality") or {}).get("sqnr_db"),
        "first_db": firsts[0] if firsts else None,
        "ratio": max((o["ratio"] for o in outputs if o.get("ratio") is not None), default=None),
        "ranges": recipe.get("ranges", ""),
        "equalised": recipe.get("equalised", False),
        "kept": tuple((item["layer"], item["precision"]) for item in recipe.get("kept", ())),
        "tries": len(target["points"]),
        "notes": tuple((target["artifact"] or {}).get("notes", ())),
        "remarks": tuple(target["remarks"]),
        "versions": report["versions"],
        "machine": report["machine"],
    }


def judged(
    result: Result, report: dict[str, Any], arguments: dict[str, Any], calibration: Path, inputs: Path, out: Path
) -> Result:
    """Make the files by hand and measure them and ours in one way."""
    some = [target for target in report["targets"] if target["target"] == result.form and target["artifact"]]
    made = {target["precision"]: target["artifact"]["path"] for target in some}
    if not made.get("fp32"):
        return result
    files, errors = {"ours": made[PRECISION]} if PRECISION in made else {}, {}
    for tool in OF_FORMAT[result.form]:
        if tool == "TFLiteConverter" and not arguments["model"].endswith((".keras", ".h5")):
            continue
        path = out / f"{tool.replace(' ', '-')}{Path(made['fp32']).suffix}"
        job = {"source": arguments["model"], "float": made["fp32"], "calibration": str(calibration), "out": str(path)}
        said = called("by_defaults.py", tool, json.dumps(job))
        if isinstance(said, str):
            errors[tool] = File(error=said)
        else:
            files[tool] = str(path)
    if not files:
        return changed(result, by_hand=errors)
    losses = called("loss.py", str(inputs), made["fp32"], *files.values())
    if isinstance(losses, str):
        return changed(result, by_hand=errors, reason=f"{result.reason}; it could not be measured: {losses}")
    found = json.loads(losses[-1])
    runs = [tool for tool, path in files.items() if "error" not in found[path]]
    times = called("paired.py", str(inputs), made["fp32"], *(files[tool] for tool in runs))
    shares: dict[str, float] = {}
    if not isinstance(times, str):
        base, *others = json.loads(times[-1])
        # The turns of two files that follow each other met the same machine.
        shares = {
            tool: median(a / b for a, b in zip(turns, base, strict=True))
            for tool, turns in zip(runs, others, strict=True)
        }
    measured = {tool: File(**found[path], latency_share=shares.get(tool)) for tool, path in files.items()}
    return changed(result, ours=measured.pop("ours", File()), by_hand={**measured, **errors})


def called(script: str, *arguments: str) -> list[str] | str:
    """Run one of the scripts beside this one; gives what it printed, or, as a string, what went wrong."""
    try:
        done = subprocess.run(
            [sys.executable, HERE / script, *arguments],
            capture_output=True, text=True, check=False, timeout=HAND_SECONDS, env=environment("KERAS_BACKEND"),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"timed out after {HAND_SECONDS} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:300]
    return done.stdout.strip().splitlines()


def kept_result(name: str, form: str, *, stale: bool) -> Result | None:
    found = read(name, form)
    if found is None or stale:
        return found
    # What has no report was stopped, or met something that a second run may not meet.
    same = (found.tool, found.built_as) == (tool_of(), source_of(name)[0])
    return found if same and found.status != "ERROR" else None


def line(result: Result, *, kept: bool) -> str:
    def shown(made: File) -> str:
        return f"{made.sqnr_db:.1f} dB" if made.sqnr_db is not None else f"none ({made.error[:60]})"

    hand = ", ".join(f"{tool} {shown(made)}" for tool, made in result.by_hand.items())
    size = f"{result.ours.bytes / result.float_bytes:.0%}" if result.float_bytes and result.ours.bytes else "-"
    latency = f"{result.ours.latency_share:.2f}" if result.ours.latency_share else "-"
    what = f"{len(result.kept)} kept, {result.ranges}{', equalised' if result.equalised else ''}, {result.tries} tries"
    when = "kept" if kept else f"{result.seconds:.0f} s"
    words = f"ours {shown(result.ours)} (reported {result.reported_db}, first {result.first_db}, R {result.ratio})"
    said = "" if result.status == "PASS" else f"  {result.reason[:200]}"
    head = f"{result.model:40} {result.form:7} {result.status:5} {when:>6} {'BEATEN ' if result.beaten else ''}"
    return f"{head}{words}; {hand}; size {size}, latency {latency}; {what}{said}"


def chosen(asked: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the models that the patterns fit, and the formats to make of each."""
    import fnmatch

    patterns = [part for part in asked.only.split(",") if part]
    for name in SUBJECTS:
        if any(fnmatch.fnmatchcase(part, pattern) for pattern in patterns for part in (name, name.partition("/")[2])):
            yield name, tuple(form for form in FORMATS if form in asked.to.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="patterns of model names, separated by commas")
    parser.add_argument("--to", default=",".join(FORMATS), help="formats, separated by commas")
    parser.add_argument("--again", action="store_true", help="take no kept result")
    parser.add_argument("--stale", action="store_true", help="also take results of other code of the tool")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further model after that long")
    parser.add_argument("--page", default=str(PAGE), help="the page whose table is written; empty for none")
    asked = parser.parse_args()
    until, failed = time.monotonic() + 60 * asked.minutes, 0
    for name, forms in chosen(asked):
        found = {form: None if asked.again else kept_result(name, form, stale=asked.stale) for form in forms}
        missing = tuple(form for form in forms if found[form] is None)
        if missing and time.monotonic() < until:
            for result in outcome(name, missing):
                keep(result)
                found[result.form] = result
        for form, result in found.items():
            if result is not None:
                failed += result.status != "PASS" or result.beaten
                print(line(result, kept=form not in missing), flush=True)
    if asked.page:
        from precision_page import write

        write(Path(asked.page))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
