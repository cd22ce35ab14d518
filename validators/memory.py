"""Resident memory of this process: how high it went since a point in time."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Start the high-water mark over; False where the system cannot, and the mark is the whole life of the process."""
    try:
        _CLEAR.write_text("5")  # proc(5): writing 5 resets the peak resident set size
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """The highest resident memory since the last reset, in bytes."""
    if _STATUS.exists():
        return _field("VmHWM:")
    scale = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def resident_bytes() -> int:
    """The resident memory now, in bytes."""
    if _STATUS.exists():
        return _field("VmRSS:")
    import psutil

    return int(psutil.Process().memory_info().rss)


def _field(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0
