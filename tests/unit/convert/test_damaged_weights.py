"""Weights that changed on their way are noticed, although PyTorch does not look at an archive's checksums."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "samples"

#: The member that holds most of each sample's weights.
LARGEST = {"digits.pt": "data/2", "digits.pt2": "data/weights/weight_2"}


def damage(sample: str, member: str, path: Path) -> None:
    """Copy a sample with one bit of a member's content turned over."""
    content = bytearray((SAMPLES / sample).read_bytes())
    with zipfile.ZipFile(SAMPLES / sample) as archive:
        (entry,) = [entry for entry in archive.infolist() if entry.filename.endswith(f"/{member}")]
        start = content.index(archive.read(entry), entry.header_offset)
    content[start + entry.file_size // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, str]:
    """Load every damaged sample, all in one process, and say which error each ended in."""
    folder = tmp_path_factory.mktemp("damaged")
    for sample, member in LARGEST.items():
        damage(sample, member, folder / sample)
    loader = Path(__file__).with_name("load_each.py")
    line = [sys.executable, loader, *LARGEST]
    ran = subprocess.run(line, capture_output=True, text=True, check=True, timeout=120, cwd=folder)
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("sample", LARGEST)
def test_one_bit_that_changed_in_a_weight_is_noticed(endings, sample):
    assert endings[sample] in ("UnknownSource", "LoadError")
