"""What `make bench-latency` measures, and the kept results: JSON files, made again where what they rest on changed."""

from __future__ import annotations

import functools
import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fingerprint
from places import HERE, ROOT

FOLDER = ROOT / "build" / "latency"

#: What is timed, and what it is: a sample, one of the zoo, and one that is built for this alone.
MOBILENET = "built/mobilenetv2_224"
SUBJECTS = {
    "samples/digits.pt": "convolutions, 6 thousand parameters",
    "torch/hf_bert_classifier": "a small BERT of the zoo, 16 tokens",
    MOBILENET: "MobileNetV2 1.0 at 224 x 224",
}
FORMATS = ("tflite", "onnx")

#: Fresh processes of each side, in turns: enough for a median that no burst of other work moves.
ROUNDS = 5

#: How far a reported median may be from what another tool measures of the same.
AGREED = 0.03

#: Comparisons: how much more work the second artifact does, and how often that is asked.
CONTESTS = {0.0: 2, 0.10: 2, 0.05: 1}

#: Layers of the network that is compared: one more is 5 % of extra work.
LAYERS = 20


@dataclass(frozen=True, slots=True)
class Side:
    """What one fresh process showed: medians in seconds."""

    wall: float
    cpu: float
    runs: int
    memory: dict[str, int] = field(default_factory=dict)
    unsettled: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One file, timed by every side in every round."""

    model: str
    form: str
    tool: str
    rounds: tuple[dict[str, Side], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def median(self, side: str, clock: str) -> float:
        return statistics.median(getattr(found[side], clock) for found in self.rounds)

    def difference(self, side: str, other: str) -> float:
        """Give by how many seconds of CPU time two sides differ, the median of the rounds."""
        return statistics.median(found[side].cpu - found[other].cpu for found in self.rounds)

    def ratios(self, side: str, other: str, clock: str) -> list[float]:
        """Give the ratio of two sides in every round, in order of size."""
        return sorted(getattr(found[side], clock) / getattr(found[other], clock) for found in self.rounds)

    def ratio(self, side: str, other: str, clock: str) -> float:
        return statistics.median(self.ratios(side, other, clock))


@dataclass(frozen=True, slots=True)
class Contest:
    """One comparison of a file with itself or with one that does more work."""

    extra: float
    seed: int
    tool: str
    verdict: str = ""
    ratio: float = 0.0
    low: float = 0.0
    high: float = 0.0
    detectable: float = 0.0
    seconds: float = 0.0
    error: str = ""


@functools.cache
def tool_of() -> str:
    """Digest the tool's code, versions and what measures here."""
    own = ("latency_sides", "latency_results", "bench_latency")
    return fingerprint.digest(fingerprint.of_tool(), *((HERE / f"{name}.py").read_text() for name in own))


def path_of(name: str) -> Path:
    return FOLDER / "results" / f"{name.replace('/', '-')}.json"


def name_of(result: Agreement | Contest) -> str:
    if isinstance(result, Agreement):
        return f"{result.model}.{result.form}"
    return f"contest-{result.extra:g}-{result.seed}"


def keep(result: Agreement | Contest) -> None:
    path = path_of(name_of(result))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(result), indent=1))
    new.rename(path)


def stored(name: str) -> dict[str, Any] | None:
    path = path_of(name)
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        print(f"{path.name} is damaged, and is measured again: {error}")
        return None
    return found


def agreement(model: str, form: str) -> Agreement | None:
    """Give the kept result, of whatever code; None where there is none that can be read."""
    found = stored(f"{model}.{form}")
    if found is None:
        return None
    rounds = tuple({side: Side(**one) for side, one in turn.items()} for turn in found["rounds"])
    return Agreement(**{**found, "rounds": rounds})


def contest(extra: float, seed: int) -> Contest | None:
    found = stored(f"contest-{extra:g}-{seed}")
    return None if found is None else Contest(**found)
