"""Convert models of the zoo to every format and print what came of it: `python table.py FOLDER [NAME...]`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from models import BY_NAME, ENTRIES

HERE = Path(__file__).resolve().parent
FORMATS = ("tflite", "onnx", "torchscript")


def saved(name: str, folder: Path) -> dict[str, Any]:
    """Build and save one model in a process of its own, and give the arguments to convert it with."""
    command = [sys.executable, str(HERE / "models.py"), name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} cannot be built:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows(name: str, folder: Path) -> list[dict[str, Any]]:
    """Convert one model to every format; one row each."""
    from convert import convert

    started = time.monotonic()
    try:
        arguments = saved(name, folder / "models")
        built = time.monotonic() - started
        report = convert(**arguments, to=FORMATS, out=folder / "out" / name, threads=())
    except Exception as error:  # noqa: BLE001  the table goes on with the next model
        return [{"model": name, "format": "*", "status": "ERROR", "reason": f"{type(error).__name__}: {error}"}]
    found = []
    free = report.model.signature.free
    for target in report.targets:
        outputs = [o for a in target.attempts if a.parity for o in a.parity.outputs]
        found.append(
            {
                "model": name,
                "format": target.target,
                "status": target.status.name,
                "route": target.attempts[target.kept].plan if target.kept is not None else "-",
                "ratio": max((o.ratio for o in outputs if o.ratio is not None), default=None),
                "sqnr_db": min((o.sqnr_db for o in outputs if o.sqnr_db is not None), default=None),
                "seconds": round(sum(s.seconds for a in target.attempts for s in a.stages), 1),
                "run_seconds": round(report.seconds, 1),
                "build_seconds": round(built, 1),
                "lost": [n for n in free if target.artifact and n not in target.artifact.signature.free],
                "oracle": report.reference.oracle,
                "reason": target.reason,
                "attempts": [(a.plan, a.status.name, a.reached.value, a.reason) for a in target.attempts],
                "structure": [a.structure.reason if a.structure else "" for a in target.attempts],
            }
        )
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.jsonl").open("a") as stream:
        for name in sys.argv[2:] or [entry.name for entry in ENTRIES]:
            for row in rows(BY_NAME[name].name, folder):
                stream.write(json.dumps(row) + "\n")
                stream.flush()
                ratio = "-" if row.get("ratio") is None else f"{row['ratio']:.2f}"
                sqnr = "-" if row.get("sqnr_db") is None else f"{row['sqnr_db']:.0f}"
                print(
                    f"{row['model']:34} {row['format']:12} {row['status']:8} {row.get('route', '-'):24} {ratio:>8} "
                    f"{sqnr:>5} {row.get('seconds', 0):>6} "
                    f"{','.join(row.get('lost', [])) or '-':12} {row['reason'].splitlines()[0][:150]}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
