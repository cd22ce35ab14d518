"""Opening a file in processes where nothing ran yet: copies of this one, made before it opens anything itself."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable

#: NOTE: Why copies: a process of its own imports its engine first, 0.3 s for LiteRT and 2 for PyTorch. A copy of one
#: that has only imported it is as fresh, and is there in milliseconds. Only Linux copies processes safely that use
#: system libraries with threads.
ABLE = sys.platform == "linux"

#: One that gives no answer within this time is taken to hang, and no other is tried.
ANSWER_SECONDS = 120.0

#: No further opening begins after this time.
ENOUGH_SECONDS = 10.0

Opening = tuple[float, float]  # seconds of opening the file and of the first inference


def openings(once: Callable[[], Opening], count: int) -> tuple[list[Opening], str]:
    """Run `once` in up to `count` copies of this process, one after another; and say why there are fewer."""
    if not ABLE:
        return [], "" if not count else "this system copies no processes"
    found: list[Opening] = []
    began = time.monotonic()
    while len(found) < count:
        if time.monotonic() - began > ENOUGH_SECONDS:
            return found, f"no more openings fit into {ENOUGH_SECONDS:g} s"
        answer, reason = _apart(once)
        if answer is None:
            return found, reason
        found.append(answer)
    return found, ""


def _apart(once: Callable[[], Opening]) -> tuple[Opening | None, str]:
    """Run `once` in one copy; give what it answered, or why it did not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps(once()).encode())
        finally:
            # NOTE: Why at once: what the parent would tidy up at its end is not the copy's.
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], ANSWER_SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        answer = os.read(reading, 1024) if ready else b""
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
    if answer:
        load, first = json.loads(answer)
        return (load, first), ""
    if not ready:
        return None, f"an opening in a process of its own gave no answer within {ANSWER_SECONDS:g} s"
    if os.WIFSIGNALED(status):
        return None, f"an opening in a process of its own was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return None, "an opening in a process of its own failed"
