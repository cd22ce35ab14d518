"""Results of `make calibrate-tolerance`: every right export and every planted fault of a model, kept as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fingerprint
from halves import BY_NAME, HELD_OUT, Subject
from models import BUILDABLE
from places import HERE, KEPT

FOLDER = KEPT / "calibrate"

#: How a fault was told: by an output's numbers, or by what comes before any (contract, shapes, infinity, influence).
NUMBERS, BEFORE = "numbers", "before any number"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one output measured: the gate's figures, and what fixed tolerances look at, against the source itself.

    `max_abs`, `scaled` and `close` are the largest error, the largest over the largest magnitude, and the largest over
    an allowance of 1e-3 and 1e-3 of the magnitude; None where the arrays cannot be compared.
    """

    name: str
    status: str
    basis: str
    ratio: float | None = None
    case_ratio: float | None = None
    distance: float | None = None
    distance_bound: float | None = None
    scaled_max: float = 0.0
    rmse: float = 0.0
    rms: float = 0.0
    noise: float | None = None
    ideal_rmse: float | None = None
    sqnr_db: float | None = None
    changed: int | None = None
    max_abs: float | None = None
    scaled: float | None = None
    close: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One file that was judged by structure and parity: an export as it was made, or one with a planted fault.

    `moved` is how far a fault moves the answers of the export it was planted in, over what that precision must err
    anyway (the source's own rounding, or the ideal's error, or its own where that is more); None where nothing says
    what that is. `no_worse` says of fp32 that its answers are as near to float64 as those of the source or of that
    export: a bias in front of a normalisation, which takes it out again, changes how the rest is rounded and no more.
    """

    status: str
    reason: str
    outputs: tuple[Figures, ...] = ()
    kind: str = ""
    where: str = ""
    scale: float | None = None  # of what is scaled
    told_by: str = ""
    planted: bool = True
    idle: bool = False  # no answer changed by a bit
    moved: float | None = None
    no_worse: bool = False

    @property
    def caught(self) -> bool:
        return self.planted and self.status == "FAIL"

    @property
    def hidden(self) -> bool:
        """Whether nobody could see it: it moves the answers by no more than must be erred, or not for worse."""
        little = self.moved is not None and self.moved <= 1.0
        return self.planted and not self.idle and (little or self.no_worse)

    @property
    def counts(self) -> bool:
        """Whether there is something to catch: what was caught, and what moves the answers beyond that."""
        return self.planted and not self.idle and not self.hidden


@dataclass(frozen=True, slots=True)
class Export:
    """One export that a converter or quantizer made, and the faults planted in it, if any.

    `agreed` is what the zoo's independent check says of it; None where it was not asked.
    """

    model: str
    form: str
    precision: str
    made_by: str
    right: Judged
    agreed: bool | None = None
    check: str = ""
    faults: tuple[Judged, ...] = ()
    note: str = ""  # why no faults were planted

    @property
    def wrong(self) -> bool:
        """Whether the independent check says that the converter erred: no right export, whatever the gate says."""
        return self.agreed is False

    @property
    def refused(self) -> bool:
        """Whether the gate calls it wrong, or cannot judge it, where nothing else speaks against it."""
        return not self.wrong and self.right.status != "PASS"

    @property
    def label(self) -> str:
        return f"{self.model}, {self.form} {self.precision}, {self.made_by}"


@dataclass(frozen=True, slots=True)
class Result:
    """One model; `error` says why it could not be judged, `missing` what could not be made of it."""

    model: str
    half: str
    tool: str = ""
    built_as: str = ""
    error: str = ""
    exports: tuple[Export, ...] = ()
    missing: tuple[str, ...] = ()
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def held_out(self) -> bool:
        return self.half == HELD_OUT

    @property
    def rights(self) -> tuple[Export, ...]:
        return tuple(export for export in self.exports if not export.wrong)

    @property
    def refused(self) -> tuple[Export, ...]:
        return tuple(export for export in self.exports if export.refused)

    @property
    def faults(self) -> tuple[tuple[Export, Judged], ...]:
        """What was planted at full strength, in exports that are right."""
        return tuple((e, fault) for e in self.rights for fault in e.faults if not faint(fault))

    @property
    def survivors(self) -> tuple[tuple[Export, Judged], ...]:
        """Faults that count and were not caught."""
        return tuple((export, fault) for export, fault in self.faults if fault.counts and not fault.caught)

    @property
    def wrongly_passed(self) -> tuple[Export, ...]:
        return tuple(export for export in self.exports if export.wrong and export.right.status == "PASS")


def faint(fault: Judged) -> bool:
    """Whether a fault is weaker than what the self-test plants: for the curve only."""
    from validators.mutants import SCALE

    return fault.scale is not None and fault.scale < SCALE


def read(name: str) -> Result | None:
    """Give the kept result, of whatever code; None where there is none that can be read."""
    path = path_of(name)
    if not path.is_file():
        return None
    try:
        return decoded(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        print(f"{path.name} is of another calibration, or damaged, and is made again: {error}")
        return None


def decoded(found: dict[str, Any]) -> Result:
    exports = tuple(
        Export(**one | {"right": judged(one["right"]), "faults": tuple(map(judged, one["faults"]))})
        for one in found["exports"]
    )
    return Result(**found | {"exports": exports, "missing": tuple(found["missing"])})


def judged(found: dict[str, Any]) -> Judged:
    return Judged(**found | {"outputs": tuple(Figures(**one) for one in found["outputs"])})


def keep(result: Result) -> None:
    path = path_of(result.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(result), indent=1))
    new.rename(path)


def path_of(name: str) -> Path:
    return FOLDER / "results" / f"{name.replace('/', '-')}.json"


def tool_of() -> str:
    """Digest the tool's code and what judges here."""
    own = ("natural", "planted")
    return fingerprint.digest(fingerprint.of_tool(), *((HERE / f"{name}.py").read_text() for name in own))


def built_as(name: str, subject: Subject | None = None) -> str:
    """Digest what a model is, and what is made of it."""
    return fingerprint.digest(fingerprint.of_model(BUILDABLE[name]), repr(subject or BY_NAME[name]))
