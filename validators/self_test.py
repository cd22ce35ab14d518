"""Would the gate have caught a fault in this very artifact? Seeded mutants of it, judged as it was judged itself."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import EdgeproofError
from convert.spec import Artifact, fingerprint
from convert.worker import Workers
from validators.mutants import KINDS, MUTATORS, Listing, Planting, Spot, places, plant
from validators.verdict import Status

if TYPE_CHECKING:
    from validators.prove import Proof

#: Mutants of each kind, at different places where there are several.
PER_KIND = 3

#: No further mutant is begun after that long.
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted fault and what became of it.

    `idle` says that no answer changed by a bit on any case: what was broken does not matter to what was run. `planted`
    is false where the fault could not be planted at all, which is no catch.
    """

    kind: str
    where: str
    caught: bool
    reason: str
    idle: bool = False
    planted: bool = True

    @property
    def counts(self) -> bool:
        """Whether there was something to catch."""
        return self.planted and not self.idle


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What became of all mutants of one artifact; where none could be made, `reason` says why.

    `absent` are the kinds of faults that this artifact has no place for.
    """

    mutants: tuple[Mutant, ...] = ()
    absent: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    @property
    def caught(self) -> int:
        """How many were caught."""
        return sum(mutant.caught for mutant in self.mutants)

    @property
    def survivors(self) -> tuple[Mutant, ...]:
        """Those that changed an answer and were not caught."""
        return tuple(mutant for mutant in self.mutants if mutant.counts and not mutant.caught)


def choose(spots: Sequence[Spot], seed: int) -> list[int]:
    """Choose the places to break, by their numbers: up to `PER_KIND` of every kind, one of each kind first.

    The same spots and seed give the same places.
    """
    drawn = random.Random(seed)  # noqa: S311  a choice of places, no secret
    by_kind = [[number for number, spot in enumerate(spots) if spot.kind == kind] for kind in KINDS]
    for numbers in by_kind:
        drawn.shuffle(numbers)
    return [numbers[turn] for turn in range(PER_KIND) for numbers in by_kind if turn < len(numbers)]


def self_test(
    workers: Workers,
    artifact: Artifact,
    proof: Proof,
    judge: Callable[[Artifact, str], Proof],
    label: str,
    seed: int,
    say: Callable[[str], None],
) -> SelfTest:
    """Break a proven artifact in many ways and have every mutant judged.

    Args:
        workers: run what touches a framework.
        artifact: the proven artifact; it is only read.
        proof: its proof.
        judge: proves an artifact as this one was proven; also given a label for the stages.
        label: names the stages.
        seed: of the places.
        say: is told of the progress.
    """
    began = time.monotonic()
    if artifact.format not in MUTATORS.names():
        return SelfTest(reason=f"faults are planted in {', '.join(MUTATORS.names())} only")
    if artifact.companions:
        return SelfTest(reason="no faults are planted in files with external data")
    mutator = MUTATORS[artifact.format]
    try:
        listing = Listing(artifact.format, artifact.path)
        spots = workers.run(f"mutants-{label}", places, listing, mutator.environment).value
    except EdgeproofError as error:
        return SelfTest(reason=f"it cannot be taken apart: {error.message}")
    absent = tuple(kind for kind in KINDS if not any(spot.kind == kind for spot in spots))
    chosen = choose(spots, seed)
    found: list[Mutant] = []
    for turn, number in enumerate(chosen):
        if time.monotonic() - began > SECONDS:
            reason = f"{len(chosen) - turn} more were left out after {SECONDS:.0f} s"
            return SelfTest(tuple(found), absent, reason, time.monotonic() - began)
        say(f"{label}: self-test, mutant {turn + 1} of {len(chosen)}: {spots[number].kind}, {spots[number].where}")
        found.append(_mutant(workers, artifact, proof, judge, f"{label}-mutant-{turn}", number, spots[number]))
    return SelfTest(tuple(found), absent, "" if chosen else "it has no place for any fault", time.monotonic() - began)


def _mutant(
    workers: Workers,
    artifact: Artifact,
    proof: Proof,
    judge: Callable[[Artifact, str], Proof],
    label: str,
    number: int,
    spot: Spot,
) -> Mutant:
    """Plant one fault and judge the result."""
    environment = MUTATORS[artifact.format].environment
    out = workers.folder / label / Path(artifact.path).name
    try:
        job = Planting(artifact.format, artifact.path, number, str(out))
        try:
            workers.run(f"plant-{label}", plant, job, environment)
        except EdgeproofError as error:
            return Mutant(spot.kind, spot.where, caught=False, reason=error.message, planted=False)
        sha256, size = fingerprint(out)
        mutant = dataclasses.replace(artifact, path=str(out), sha256=sha256, file_bytes=size)
        judged = judge(mutant, label)
    finally:
        with contextlib.suppress(FileNotFoundError):
            out.unlink()
    attempt = judged.attempt("mutant", spot.kind, mutant)
    caught = attempt.status is Status.FAIL
    idle = not caught and _same_answers(proof, judged)
    reason = attempt.reason if caught else "no answer changed on any case" if idle else attempt.reason
    return Mutant(spot.kind, spot.where, caught, reason, idle)


def _same_answers(proof: Proof, other: Proof) -> bool:
    """Whether two artifacts answered alike to the bit on all cases."""
    import numpy as np

    if proof.ran is None or other.ran is None:
        return False
    with np.load(proof.ran.path) as mine, np.load(other.ran.path) as theirs:
        return mine.files == theirs.files and all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine)


def words_of(tested: SelfTest) -> list[str]:
    """Say in lines what a self-test gave: the share caught, and every survivor by name."""
    counted = [mutant for mutant in tested.mutants if mutant.counts]
    lines = []
    if counted:
        share = f"{tested.caught} of {len(counted)} planted faults caught"
        idle = sum(mutant.idle for mutant in tested.mutants)
        lines.append(share + (f", {idle} more changed no answer" if idle else ""))
    lines += [f"SURVIVED: {mutant.kind}, {mutant.where}: {mutant.reason}" for mutant in tested.survivors]
    lines += [
        f"could not be planted: {mutant.kind}, {mutant.where}: {mutant.reason}"
        for mutant in tested.mutants
        if not mutant.planted
    ]
    if tested.absent and tested.mutants:
        lines.append(f"no place for: {', '.join(tested.absent)}")
    if tested.reason:
        lines.append(tested.reason)
    return lines
