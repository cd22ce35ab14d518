"""What a command says on stderr while it works."""

from __future__ import annotations

import io
import sys
import threading
import time

from convert.terminal import Talk


class _Slow(io.StringIO):
    """A stream that lets other threads run between any two pieces written to it."""

    def write(self, text: str) -> int:
        """Write the text, then wait."""
        written = super().write(text)
        time.sleep(0.002)
        return written


def test_lines_of_stages_that_run_side_by_side_stay_whole(monkeypatch):
    stream = _Slow()
    monkeypatch.setattr(sys, "stderr", stream)
    with Talk(quiet=False) as say:
        threads = [threading.Thread(target=lambda: [say("a stage began") for _ in range(10)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 40
    assert all(line.endswith(" s  a stage began") and line.count("stage") == 1 for line in lines)


def test_nothing_is_said_when_quiet(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Talk(quiet=True) as say:
        say("a stage began")
    assert stream.getvalue() == ""
