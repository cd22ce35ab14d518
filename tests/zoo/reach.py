"""Measure how far the tool reaches: `python tests/zoo/reach.py FIGURE [--only PATTERN]`.

pairs    shares proven, explained and wrong, and the parent's memory, from the zoo's kept results
race     latency of the TFLite file that --race keeps, against the best of the converters run by hand
wall     wall time of one target, proof included, against a bare script that calls the same converter
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import RUN_SECONDS, Store, environment, run, targets, words
from models import ENTRIES, Entry
from places import HERE, KEPT
from saving import OTHER_TRIAL

from convert.spec import TensorSpec

RESULTS = KEPT / "reach"
BY_HAND_SECONDS = 900

#: A converter's own file and the tool's are the same within this share: two timings of one file in turns differ by it.
LEAST_SPREAD = 0.05

#: Times each command is run, in turns; the medians are compared.
REPEATS = 3

KERAS_KINDS = ("keras", "h5")
TORCH_KINDS = ("exported", "scripted", "traced", "weights")

#: The bare script that does what a candidate does.
SAME = {
    "tflite-converter": "tflite-converter",
    "litert-torch": "litert-torch",
    "torch-onnx": "torch-onnx",
    "tf2onnx": "tf2onnx",
    "torch-script": "torch-script",
    "torch-trace": "torch-script",
}


def by_hand(converter: str, entry: Entry, arguments: dict[str, Any], out: Path) -> tuple[float, str]:
    """Run a bare script; give its seconds, and why it failed or an empty text."""
    out.unlink(missing_ok=True)
    command = [sys.executable, HERE / "by_hand.py", converter, entry.name, out, json.dumps(arguments)]
    started = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=BY_HAND_SECONDS, env=environment()
    )
    seconds = time.monotonic() - started
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    return seconds, "" if done.returncode == 0 and out.is_file() else lines[-1][:200]


def keep(figure: str, entry: Entry, found: dict[str, Any]) -> None:
    path = RESULTS / f"{figure}-{entry.file_name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))


def kept(figure: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{figure}-*.json"))]


def race(entry: Entry, store: Store) -> dict[str, Any]:
    """Race the candidates for TFLite, and time what is kept in turns with what the converters make by hand."""
    arguments = store.model(entry)
    folder = store.folder / "race" / entry.file_name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "convert", *words(arguments), "--to", "tflite", "--race", "--json", "--quiet"]
    # onnx2tf by hand makes images channels last; with them first, the file has one more transpose to pay for.
    image = any(text.replace(" ", "").count(",") == 3 and ",3," in text for text in entry.inputs)
    command += ["--layout", "nhwc"] if image and entry.saved in TORCH_KINDS else []
    # Nor do scripts by hand keep lengths free, for which shapes are computed as the graph runs.
    free = {name for text in entry.inputs for name in TensorSpec.parse(text).free if name != "batch"}
    fixed = sorted(free) if entry.saved in TORCH_KINDS else []
    command += [word for name in fixed for word in ("--fix", f"{name}={OTHER_TRIAL}")]
    ran = run([*command, "--out", str(folder / "out")], RUN_SECONDS)
    if not ran.stdout.strip():
        return {"model": entry.name, "failed": ran.stderr.strip()[-400:]}
    report = json.loads(ran.stdout)
    target = report["targets"][0]
    if target["status"] != "PASS":
        return {"model": entry.name, "failed": target["reason"]}
    row = one_row(report["model"]["signature"]["inputs"], folder / "row.npz")
    files = {"kept": target["artifact"]["path"]}
    failed = {}
    for converter in ("tflite-converter", "onnx2tf") if entry.saved in KERAS_KINDS else ("litert-torch", "onnx2tf"):
        out = folder / f"{converter}.tflite"
        _, why = by_hand(converter, entry, arguments, out)
        if why or (why := unusable(out, row)):
            failed[converter] = why
        else:
            files[converter] = str(out)
    done = subprocess.run(
        [sys.executable, HERE / "paired.py", row, *files.values()],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    if done.returncode:
        return {"model": entry.name, "failed": f"it could not be timed: {done.stderr.strip()[-400:]}"}
    turns = dict(zip(files, json.loads(done.stdout.splitlines()[-1]), strict=True))
    found: dict[str, Any] = {
        "model": entry.name,
        "candidate": target["attempts"][target["kept"]]["plan"],
        "seconds": {name: statistics.median(values) for name, values in turns.items()},
        "failed_by_hand": failed,
    }
    others = [name for name in turns if name != "kept"]
    if others:
        best = min(others, key=lambda name: found["seconds"][name])
        ratios = [a / b for a, b in zip(turns["kept"], turns[best], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        found |= {"best_by_hand": best, "ratio": middle, "spread": max(LEAST_SPREAD, (high - low) / middle)}
        found["slower"] = middle > 1 + found["spread"]
    shutil.rmtree(folder)
    return found


def one_row(inputs: list[dict[str, Any]], path: Path) -> Path:
    """Write inputs at batch 1, the other free dimensions at the sizes that scripts by hand convert at.

    NOTE: Why the same for all files: what a file states for a free dimension is the converter's choice, 1 or 16.
    """
    random = np.random.default_rng(5)
    row = {}
    for spec in inputs:
        shape = [size if isinstance(size, int) else 1 if size == "batch" else OTHER_TRIAL for size in spec["shape"]]
        low, high = (spec["low"] or 0, 1 if spec["high"] is None else spec["high"])
        floats = np.issubdtype(np.dtype(spec["dtype"]), np.floating)
        values = random.standard_normal(shape) if floats else random.integers(low, high, shape, endpoint=True)
        row[spec["name"]] = values.astype(spec["dtype"])
    np.savez(path, **row)
    return path


def unusable(path: Path, row: Path) -> str:
    """Say why a file cannot be run, which converters do not notice; empty where it runs."""
    done = subprocess.run(
        [sys.executable, HERE / "paired.py", row, path], capture_output=True, text=True, check=False, env=environment()
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it crashed"])[-1][:200]


def wall(entry: Entry, store: Store, repeats: int = REPEATS, only: str = "") -> dict[str, Any]:
    """Time the tool and a bare script in turns, for each format of one model."""
    arguments = store.model(entry)
    out = store.folder / "wall"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    found: dict[str, Any] = {"model": entry.name, "formats": {}}
    for form in [form for form in targets(entry) if not only or form in only.split(",")]:
        ours, bare, converter = [], [], ""
        for _ in range(repeats):
            command = [sys.executable, "-m", "convert", *words(arguments), "--to", form, "--json", "--quiet"]
            ran = run([*command, "--out", str(out / form)], RUN_SECONDS)
            target = json.loads(ran.stdout)["targets"][0] if ran.stdout.strip() else {"status": "ERROR"}
            converter = SAME.get(target["attempts"][0]["plan"], "") if target["status"] == "PASS" else ""
            if not converter or target["kept"]:
                break  # another candidate than the first was needed, which no bare script does
            seconds, why = by_hand(converter, entry, arguments, out / f"by_hand.{form}")
            if why:
                found.setdefault("failed", {})[form] = why
                break
            ours.append(ran.seconds)
            bare.append(seconds)
        if len(bare) == repeats:
            tool, script = statistics.median(ours), statistics.median(bare)
            found["formats"][form] = {"tool": tool, "script": script, "ratio": tool / script, "converter": converter}
    shutil.rmtree(out)
    return found


def show(figure: str, found: dict[str, Any]) -> str:
    if figure == "wall":
        said = [
            *(
                f"{form}: {f['tool']:.1f} s against {f['script']:.1f} s, {f['ratio']:.2f}"
                for form, f in found["formats"].items()
            ),
            *(f"{form}: the script failed: {why}" for form, why in found.get("failed", {}).items()),
        ]
        return f"{found['model']:36} {'; '.join(said)}"
    if "failed" in found:
        return f"{found['model']:36} not proven: {found['failed']}"
    best = f"{found['ratio']:.2f} ±{found['spread']:.0%} of {found['best_by_hand']}" if "ratio" in found else "alone"
    return f"{found['model']:36} {found['candidate']:28} {best}{'  SLOWER' if found.get('slower') else ''}"


def summary(figure: str) -> list[str]:
    """Sum up what was kept of a figure, in the lines that docs/zoo.md shows."""
    results = kept(figure)
    if figure == "wall":
        ratios = [f["ratio"] for found in results for f in found["formats"].values()]
        if not ratios:
            return []
        return [
            f"Wall time of one target over a bare script's, {len(ratios)} targets: "
            f"median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}; "
            f"at most 1.5 in {sum(ratio <= 1.5 for ratio in ratios)}."
        ]
    raced = [found for found in results if "ratio" in found]
    if not raced:
        return []
    ratios = [found["ratio"] for found in raced]
    return [
        f"Latency of the TFLite file that `--race` keeps over the best made by hand, {len(raced)} models: "
        f"geometric mean {statistics.geometric_mean(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}; "
        f"slower beyond the spread in {sum(found['slower'] for found in raced)}, faster beyond it in "
        f"{sum(found['ratio'] < 1 - found['spread'] for found in raced)}."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("pairs", "race", "wall"))
    parser.add_argument("--only", default="*", help="patterns of model names, separated by commas")
    parser.add_argument("--again", action="store_true", help="measure again what is kept")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of wall: times each command is run")
    parser.add_argument("--to", default="", help="of wall: formats, separated by commas")
    asked = parser.parse_args()
    store = Store()
    if asked.figure == "pairs":
        # NOTE: Why here: the page shows the other figures.
        from page import found_in
        from page import summary as shares

        print("\n".join(shares(found_in(store))))
        return
    measure = {"race": race, "wall": partial(wall, repeats=asked.repeats, only=asked.to)}[asked.figure]
    kinds = (*KERAS_KINDS, *TORCH_KINDS)
    patterns = asked.only.split(",")
    for entry in ENTRIES:
        if entry.saved not in kinds or not any(entry.matches(pattern) for pattern in patterns):
            continue
        if asked.again or not (RESULTS / f"{asked.figure}-{entry.file_name}.json").is_file():
            found = measure(entry, store)
            keep(asked.figure, entry, found)
            print(show(asked.figure, found), flush=True)
    print("\n".join(summary(asked.figure)))


if __name__ == "__main__":
    main()
