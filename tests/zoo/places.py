"""Where the zoo keeps what it makes; nothing of it is in the repository."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

KEPT = ROOT / "build" / "zoo"

#: What only builds models, and must not be seen by the tool: torchvision without its binary, and Keras 2.
PACKAGES = KEPT / "packages"

PAGE = ROOT / "docs" / "zoo.md"
