"""Models edgeproof was not tuned for are converted to every format and proven; what fails is known, with its reason."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from expected import FAILURES, FIXED
from models import BY_NAME, ENTRIES

if TYPE_CHECKING:
    from validators.report import Report, TargetReport

HERE = Path(__file__).resolve().parent
FORMATS = ("tflite", "onnx", "torchscript")
CELLS = [(entry.name, form) for entry in ENTRIES for form in FORMATS]
BUILD_SECONDS = 600
STAGE_SECONDS = 900.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@functools.cache
def report_of(name: str, folder: Path) -> Report:
    """Build a model in a process of its own, and convert it to every format once for all of its cells."""
    from convert import convert

    search = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, str(HERE / "models.py"), name, str(folder / "models")],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
        env={**os.environ, "PYTHONPATH": search, "KERAS_BACKEND": "tensorflow"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    arguments = json.loads(done.stdout.splitlines()[-1])
    return convert(**arguments, to=FORMATS, out=folder / "out" / name, threads=(), timeout_seconds=STAGE_SECONDS)


def target_of(name: str, form: str, folder: Path) -> TargetReport:
    try:
        report = report_of(name, folder)
    except Exception as error:
        expected = FAILURES.get((name, form))
        if expected is not None and expected.says in str(error):
            pytest.xfail(expected.reason)
        raise
    return next(target for target in report.targets if target.target == form)


@pytest.mark.parametrize(("name", "form"), CELLS, ids=[f"{name}-{form}" for name, form in CELLS])
def test_a_model_of_the_zoo_is_proven(name: str, form: str, folder: Path) -> None:
    target = target_of(name, form, folder)
    told = "\n".join(f"{attempt.plan}: {attempt.status.value}: {attempt.reason}" for attempt in target.attempts)
    expected = FAILURES.get((name, form))
    if expected is not None:
        assert target.status.value != "PASS", f"passes now; take it out of FAILURES: {expected.reason}"
        assert expected.says in told, f"fails for another reason than the known one:\n{told}"
        pytest.xfail(expected.reason)
    assert target.status.value == "PASS", told


@pytest.mark.parametrize(("name", "form"), CELLS, ids=[f"{name}-{form}" for name, form in CELLS])
def test_free_dimensions_stay_free_but_for_the_known_ones(name: str, form: str, folder: Path) -> None:
    if (name, form) in FAILURES:
        pytest.skip("there is no proven artifact")
    artifact = target_of(name, form, folder).artifact
    assert artifact is not None
    free = report_of(name, folder).model.signature.free
    lost = tuple(name for name in free if name not in artifact.signature.free)
    assert lost == FIXED.get((name, form), ()), "update FIXED in expected.py"


def test_the_side_tables_name_cells_that_exist() -> None:
    assert not {cell for cell in (*FAILURES, *FIXED) if cell not in CELLS}
    assert not set(FAILURES) & set(FIXED)


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(ENTRIES)
