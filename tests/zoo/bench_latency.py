"""Reported latency beside other tools' measurements, and what comparisons say: `python tests/zoo/bench_latency.py`.

Each file is timed by the tool's own measurement and by another, in fresh processes that take turns on the same core;
files are compared with themselves and with ones that do more work; memory is that of the same processes. Results are
kept in build/latency, round by round, and taken again while the tool and the frameworks stay the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import latency_page
import msgspec
import numpy as np
from cells import Store, environment, words
from latency_results import (
    CONTESTS,
    FOLDER,
    FORMATS,
    LAYERS,
    MOBILENET,
    ROUNDS,
    SUBJECTS,
    Agreement,
    Contest,
    Side,
    agreement,
    contest,
    keep,
    tool_of,
)
from latency_sides import FEWEST, SIDES
from models import BY_NAME
from places import HERE, ROOT

from convert.errors import EdgeproofError
from convert.worker import Workers, limits_of
from validators.entrants import cases_for, entrant, feeds_of
from validators.environment import machine, versions
from validators.latency import Timing
from validators.protocol import MANY_RUNS
from validators.versus import compare

PAGE = ROOT / "docs" / "latency.md"

MAKE_SECONDS, SIDE_SECONDS = 1200, 180

#: A side runs for about this long in each round.
TURN_SECONDS = 1.0
MOST_RUNS = 20_000


def source_of(model: str) -> dict[str, Any]:
    """Give the arguments for `python -m convert`; a model that is not there is built first."""
    if model.startswith("samples/"):
        return {"model": str(ROOT / model)}
    if model != MOBILENET:
        return Store().model(BY_NAME[model])
    path = FOLDER / "models" / "mobilenetv2_224.keras"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        code = "import sys, keras_models; keras_models.app('MobileNetV2', 224).save(sys.argv[1])"
        subprocess.run(
            [sys.executable, "-c", code, path],
            check=True, capture_output=True, timeout=MAKE_SECONDS, env=environment(PYTHONPATH=str(HERE)),
        )  # fmt: skip
    return {"model": str(path)}


def made(model: str) -> dict[str, Path]:
    """Give the artifacts of a model, converted unless they are there."""
    out = FOLDER / "models" / model.replace("/", "-")
    found = {form: next(out.glob(f"*.{form}"), None) for form in FORMATS}
    if not all(found.values()):
        arguments = source_of(model)
        line = [sys.executable, "-m", "convert", *words(arguments), "--to", ",".join(FORMATS), "--protocol", "quick"]
        subprocess.run(
            [*line, "--out", out, "--quiet"],
            check=False, capture_output=True, timeout=MAKE_SECONDS,
            env=environment(PYTHONPATH=arguments.get("PYTHONPATH", "")),
        )  # fmt: skip
        found = {form: next(out.glob(f"*.{form}"), None) for form in FORMATS}
    return {form: path for form, path in found.items() if path is not None}


def job_of(path: Path, folder: Path) -> Path:
    """Write what every side needs to know of a file: its inputs, at the sizes that it states where it is TFLite."""
    with Workers(folder, limits_of(SIDE_SECONDS, 0)) as workers:
        one = entrant(workers, path, "subject")
    # LiteRT's benchmark takes free dimensions as 1, and there is no way to tell it otherwise.
    fixed = dict.fromkeys(one.signature.free, 1) if one.format == "tflite" else {}
    cases = cases_for([one], fixed, None, 0)
    inputs, job = folder / "inputs.npz", folder / "job.json"
    np.savez(inputs, **{f"{case.name}/{name}": array for case in cases for name, array in case.arrays.items()})
    timing = Timing(
        one.runtime,
        one.subject(1),
        str(inputs),
        tuple(case.name for case in cases),
        feeds_of(one, one, cases[0]),
        str(folder / "samples.npy"),
        "quick",
    )
    job.write_bytes(msgspec.json.encode(timing))
    return job


def side(name: str, job: Path, runs: int) -> Side:
    """Time one side in a fresh process; raises RuntimeError where it fails."""
    line = [sys.executable, HERE / "latency_sides.py", name, job, str(runs)]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        timeout=SIDE_SECONDS,
        env=environment(TF_CPP_MIN_LOG_LEVEL="3"),
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise RuntimeError(f"{name}: {said[-1][:300]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    wall, cpu = found["wall"], found["cpu"]
    more = {key: found[key] for key in ("memory", "unsettled") if key in found}
    return Side(statistics.median(wall), statistics.median(cpu), len(wall), **more)


def agree(model: str, form: str, path: Path | None, kept: Agreement | None) -> Agreement:
    """Go the rounds that are missing of a file; each is kept as soon as it is done. Raises RuntimeError."""
    if path is None:
        raise RuntimeError("it could not be converted")
    result = kept or Agreement(model, form, tool_of(), versions=versions(), machine=machine())
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(path, Path(folder))
        runs = MANY_RUNS
        for number in range(len(result.rounds), ROUNDS):
            order = SIDES[form] if number % 2 == 0 else tuple(reversed(SIDES[form]))
            found = {name: side(name, job, runs) for name in order}
            took = found["reported"].cpu or found["reported"].wall
            runs = max(FEWEST, min(MOST_RUNS, int(TURN_SECONDS / max(took, 1e-6))))
            if number == 0 and runs > MANY_RUNS:  # the others had fewer runs than they are to have
                found = {name: side(name, job, runs) for name in order}
            result = dataclasses.replace(result, rounds=(*result.rounds, found))
            keep(result)
    return result


def chains(folder: Path) -> dict[float, Path]:
    """Write networks of equal layers, one for each amount of work."""
    sys.path.insert(0, str(ROOT / "tests" / "conformance"))
    from test_busy_machine import chain

    return {extra: chain(folder / f"{extra:g}.onnx", round(LAYERS * (1 + extra))) for extra in CONTESTS}


def fought(extra: float, seed: int, folder: Path) -> Contest:
    """Compare the network with the one that does more work, or with itself."""
    files = chains(folder)
    started = time.monotonic()
    try:
        found = compare([files[0.0], files[extra]], seed=seed).result.others[0]
    except EdgeproofError as error:
        return Contest(extra, seed, tool_of(), error=error.message)
    held = (found.verdict, found.cpu.ratio, found.cpu.low, found.cpu.high, found.detectable)
    return Contest(extra, seed, tool_of(), *held, time.monotonic() - started)


def current(result: Agreement | Contest | None) -> bool:
    return result is not None and result.tool == tool_of() and not result.error


def agreements(only: list[str], until: float, *, again: bool) -> int:
    """Time every model and format that is asked for; gives how many could not be."""
    failed = 0
    for model in SUBJECTS:
        if not any(fnmatch.fnmatchcase(part, pattern) for pattern in only for part in (model, model.split("/")[1])):
            continue
        kept = {form: found if current(found := agreement(model, form)) and not again else None for form in FORMATS}
        missing = [form for form, found in kept.items() if found is None or len(found.rounds) < ROUNDS]
        if not missing or time.monotonic() > until:
            continue
        files = made(model)
        for form in missing:
            try:
                result = agree(model, form, files.get(form), kept[form])
            except (RuntimeError, EdgeproofError, subprocess.SubprocessError) as error:
                failed += 1
                result = Agreement(model, form, tool_of(), error=str(error))
                keep(result)
            print(latency_page.told(result), flush=True)
    return failed


def contests(until: float, *, again: bool) -> int:
    failed = 0
    for extra, times in CONTESTS.items():
        for seed in range(times):
            if time.monotonic() > until or (current(contest(extra, seed)) and not again):
                continue
            with tempfile.TemporaryDirectory() as folder:
                result = fought(extra, seed, Path(folder))
            keep(result)
            failed += bool(result.error)
            print(latency_page.said(result), flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="patterns of model names, separated by commas; no comparisons then")
    parser.add_argument("--again", action="store_true", help="take no kept result")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing more after that long")
    parser.add_argument("--page", default=str(PAGE), help="the page whose tables are written; empty for none")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    failed = agreements(asked.only.split(","), until, again=asked.again)
    if asked.only == "*":
        failed += contests(until, again=asked.again)
    if asked.page:
        latency_page.write(Path(asked.page))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
