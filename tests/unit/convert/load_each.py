"""Load the model files named on the command line, without trust, in one process; print how each ended as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from convert.sources import identify, load
from convert.spec import LoadOptions


def ending(path: str) -> str:
    """Say which error refused the file: its class, or nothing when the file was loaded."""
    try:
        load(identify(Path(path)), LoadOptions())
    except Exception as error:  # noqa: BLE001  a framework's own errors are an ending too, and not a good one
        return type(error).__name__
    return ""


if __name__ == "__main__":
    endings = {path: ending(path) for path in sys.argv[1:]}
    sys.stdout.write(f"\n{json.dumps(endings)}\n")
