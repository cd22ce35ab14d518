"""The output folder of a run: checked, locked against a second run, and written to atomically."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

from convert.errors import UsageError

STAGES = "stages"  # jobs, arrays, logs and candidates of the last run, for repeating any of it
UNPROVEN = "unproven"  # artifacts that failed a check or could not be checked


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Path]:
    """Make the folder and hold it for one run; give the folder of its stages.

    Raises UsageError where it cannot be made or written to, or another run holds it.
    """
    stages = folder / STAGES
    fix = "choose another folder with --out"
    try:
        stages.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to the output folder {folder}: {error.strerror}", fix=fix) from error
    lock = filelock.FileLock(stages / "lock", timeout=0)
    try:
        with lock:
            yield stages
    except filelock.Timeout as error:
        raise UsageError(f"another run is writing to {folder}", fix=f"wait for it, or {fix}") from error


def place(made: Path, folder: Path, companions: Iterable[Path] = ()) -> Path:
    """Copy a finished file or folder into `folder` under its own name, replacing what is there.

    Files are replaced in one step, the companions before the file that names them; a folder is moved aside, replaced
    and then removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*companions, made):
        target = folder / file.name
        partial, old = (folder / f".{file.name}.{state}" for state in ("partial", "old"))
        try:
            _remove(partial)
            if file.is_dir():
                shutil.copytree(file, partial)
            else:
                shutil.copyfile(file, partial)
            if target.is_dir():
                _remove(old)
                target.rename(old)
            partial.replace(target)
        finally:
            _remove(partial)
            if old.exists() and not target.exists():
                old.rename(target)
            _remove(old)
    return folder / made.name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
