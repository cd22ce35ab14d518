"""Memory of this process, resident and anonymous: how high it went since a point in time."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Marks:
    """Bytes of memory: all that is resident, and what of it is anonymous, that is, belongs to no file.

    Pages of a model file that is mapped, and of libraries, are resident and not anonymous: the system can take them
    back. `anonymous` is None where the system does not tell it apart.
    """

    resident: int
    anonymous: int | None

    def over(self, before: Marks) -> Marks:
        """Give what is beyond `before`, and nothing where it is less."""
        known = self.anonymous is not None and before.anonymous is not None
        return Marks(
            max(0, self.resident - before.resident),
            max(0, (self.anonymous or 0) - (before.anonymous or 0)) if known else None,
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """What one artifact added at most to what the process held before: while it was opened, and then while it ran."""

    load: Marks
    run: Marks


def reset_peak() -> bool:
    """Start the high-water mark over; False where the system cannot, and the mark is the whole life of the process."""
    try:
        _CLEAR.write_text("5")  # proc(5): writing 5 resets the peak resident set size
    except OSError:
        return False
    return True


def limit_allocation(more_bytes: int) -> bool:
    """Let this process allocate no more than so many bytes beyond what it has; False where the system knows no way.

    Linux holds this limit against all private memory since 4.7, setrlimit(2); an engine that wants more gets an error.
    """
    if not _STATUS.exists():
        return False
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _fields()["VmData"] + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    return True


def peak_bytes() -> int:
    """The highest resident memory since the last reset, in bytes."""
    if _STATUS.exists():
        return _fields()["VmHWM"]
    scale = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def resident_bytes() -> int:
    """The resident memory now, in bytes."""
    if _STATUS.exists():
        return _fields()["VmRSS"]
    import psutil

    return int(psutil.Process().memory_info().rss)


def held() -> Marks:
    """What this process holds now."""
    return Marks(resident_bytes(), _fields()["RssAnon"] if _STATUS.exists() else None)


def highest() -> Marks:
    """How high it went since the last reset.

    The kernel keeps a mark of resident memory alone. The anonymous one is what that leaves when the pages of files that
    are resident now are taken off; it is exact where none of them came after the peak, and too low where some did, but
    never below what is held now.
    """
    if not _STATUS.exists():
        return Marks(peak_bytes(), None)
    found = _fields()
    anonymous = max(found["RssAnon"], found["VmHWM"] - found["RssFile"] - found["RssShmem"])
    return Marks(found["VmHWM"], anonymous)


def _fields() -> dict[str, int]:
    """Read the sizes that the kernel states of this process, in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1] == "kB"}
