"""Running the real commands as a user would: in another process, judged by exit code, stdout and stderr."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Ran = subprocess.CompletedProcess[str]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Ran]:
    """Run `python -m convert` (or another module) with the given words, in an empty folder."""

    def run(*words: object, module: str = "convert", timeout: float = 240, **more) -> Ran:
        line = [sys.executable, "-m", module, *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=timeout, **more)

    return run


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """Check that a command was refused as it should: one error with a fix, no traceback, nothing on stdout."""

    def check(ran: Ran, exit_code: int, *said: str) -> None:
        assert ran.returncode == exit_code, ran.stderr
        assert "Traceback" not in ran.stderr
        assert len(re.findall(r"^error: ", ran.stderr, re.MULTILINE)) == 1, ran.stderr
        assert len(re.findall(r"^fix: .", ran.stderr, re.MULTILINE)) == 1, ran.stderr
        assert [words for words in said if words not in ran.stderr] == [], ran.stderr
        assert ran.stdout == ""

    return check


@pytest.fixture(scope="session")
def unsigned(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TorchScript sample as most people save it: without a signature."""
    path = tmp_path_factory.mktemp("unsigned") / "unsigned.pt"
    with zipfile.ZipFile(samples / "digits.pt") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if not name.endswith("signature.json"):
                new.writestr(name, old.read(name))
    return path


@pytest.fixture
def architecture(samples: Path, tmp_path: Path) -> Callable[[str], str]:
    """Write a class `Net` that changes the digits network, and give what --architecture names it by."""

    def write(body: str) -> str:
        shutil.copy(samples / "digits_torch.py", tmp_path)
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        (tmp_path / "net.py").write_text(
            f"import os, torch\nfrom digits_torch import Digits\n\n\nclass Net(Digits):\n{lines}\n"
        )
        return "net.py:Net"

    return write


@pytest.fixture
def weights(samples: Path) -> tuple[object, ...]:
    """The words that name weights of the digits network and what it takes; an architecture is still to be added."""
    return samples / "digits_weights.pt", "--input", "image:float32[batch,1,8,8]", "--architecture"


def files_in(folder: Path) -> list[str]:
    """Name the finished files of an output folder: all but what is kept for repeating stages."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != "stages")


@pytest.fixture(scope="session")
def finished() -> Callable[[Path], list[str]]:
    """Give `files_in`, for tests that look into an output folder."""
    return files_in
