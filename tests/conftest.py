"""What tests of several rooms share."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import toolchains
from convert.errors import ToolchainError
from validators import parity
from validators.inputs import CaseSet
from validators.runtimes import REPEAT, Outputs
from validators.structure import Binding
from validators.verdict import Verdict

Answers = Mapping[str, Mapping[str, np.ndarray]]  # by case, then by output


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of trained sample models."""
    return Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="session")
def toolchain() -> toolchains.Place:
    """Prepare onnx2tf in the user's cache, once per machine: some 10 s and 90 MB."""
    try:
        return toolchains.prepare(toolchains.Preparing("onnx2tf"))
    except ToolchainError as error:
        pytest.skip(error.message)


@dataclass(frozen=True, slots=True)
class Conversion:
    """One finished run of `python -m convert SAMPLE --to all --json`."""

    folder: Path
    exit_code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        """What the run printed; where it printed nothing, the test fails with what it said instead."""
        assert self.stdout, self.stderr
        return json.loads(self.stdout)


@pytest.fixture(scope="session")
def converted(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Conversion]:
    """Convert a sample to all formats with the real command, once however many tests ask for it."""

    @functools.cache
    def convert(sample: str) -> Conversion:
        folder = tmp_path_factory.mktemp(sample.replace(".", "-")) / "out"
        words = [sys.executable, "-m", "convert", samples / sample, "--to", "all", "--json", "--out", folder]
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        return Conversion(folder, ran.returncode, ran.stdout, ran.stderr)

    return convert


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Verdict]:
    """Judge answers that were made up: the source's, the artifact's and, where given, the source's in float64.

    The first case counts as run twice with the same answer, unless the answers have a case `repeat` of their own.
    """

    def write(name: str, answers: Answers, failures: Mapping[str, str]) -> Outputs:
        cases = [case for case in answers if case != REPEAT]
        again = {REPEAT: answers[cases[0]]} if cases and REPEAT not in answers else {}
        stored = {**answers, **again}
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{f"{case}/{output}": a for case, outputs in stored.items() for output, a in outputs.items()})
        names = tuple(dict.fromkeys(output for outputs in answers.values() for output in outputs))
        return Outputs(str(path), tuple(cases), names, tuple(failures.items()))

    def judged(
        source: Answers,
        artifact: Answers,
        oracle: Answers | None = None,
        *,
        probes: Mapping[str, str] | None = None,
        sizes: Mapping[str, Mapping[str, int]] | None = None,
        fixed: Mapping[str, int] | None = None,
        renamed: Mapping[str, str] | None = None,
        source_failures: Mapping[str, str] | None = None,
        artifact_failures: Mapping[str, str] | None = None,
        precision: str = "fp32",
        ideal: Answers | None = None,
        ideal_failures: Mapping[str, str] | None = None,
        real: tuple[str, ...] = (),
        farthest: float | None = None,
        nudged: Answers | None = None,
        twins: Mapping[str, str] | None = None,
        spread: Answers | None = None,
        **more: object,
    ) -> Verdict:
        native = write("source", source, source_failures or {})
        actual = write("artifact", artifact, artifact_failures or {})
        wide = write("oracle", oracle, {}) if oracle is not None else None
        named = dict.fromkeys([*native.cases, *(source_failures or {}), *(sizes or {})])
        for other in (REPEAT, *(twins or {}).values(), *(spread or {})):
            named.pop(other, None)
        cases = CaseSet(
            "",
            tuple((case, tuple((sizes or {}).get(case, {}).items())) for case in named),
            tuple((probes or {}).items()),
            evaluation=real,
            twins=tuple((twins or {}).items()),
            spread=tuple((case, case) for case in spread or {}),
            **more,  # type: ignore[arg-type]
        )
        outputs = tuple((name, (renamed or {}).get(name, name)) for name in native.names)
        odd = write("spread", spread, {}) if spread is not None else None
        reference = parity.Reference(native, wide, "" if wide else "float64 does not run here", odd)
        simulated = write("ideal", ideal, ideal_failures or {}) if ideal is not None else None
        binding = Binding((), outputs, tuple((fixed or {}).items()))
        swayed = write("nudged", nudged, {}) if nudged is not None else None
        return parity.judge(reference, actual, cases, binding, precision, simulated, farthest, swayed)

    return judged
