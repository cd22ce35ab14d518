"""Folders of calibration data: which of their files are samples."""

from __future__ import annotations

import os
from pathlib import Path

ARRAYS = (".npy", ".npz")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def files_in(folder: Path) -> list[Path]:
    """List a folder's files and those of its folders, sorted by path; hidden ones belong to the system."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    return sorted(found)


def of_kind(files: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Choose the files with one of these suffixes, in whatever case."""
    return [file for file in files if file.suffix.lower() in suffixes]


def left_out(folder: str, files: list[Path], used: list[Path]) -> tuple[str, ...]:
    """Say how many files of a folder are no samples."""
    others = len(files) - len(used)
    return (f"{others} file(s) in {folder} are no samples and were not read",) if others else ()
