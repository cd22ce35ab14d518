"""Stages for the tests of workers: one returns, the others end in every other way there is."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from convert.errors import MissingInputs, UsageError


@dataclass(frozen=True, slots=True)
class Order:
    """What a stage is asked to do."""

    text: str = ""
    number: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a stage answers."""

    text: str
    process: int
    pair: tuple[int, ...] = ()


class PlugInError(UsageError):
    """An error that a plug-in defined below one of ours."""


def echo(order: Order) -> Answer:
    return Answer(order.text, os.getpid(), (1, 2))


_KEPT: list[str] = []


def remember(order: Order) -> Answer:
    _KEPT.append(order.text)
    return echo(order)


def recall(order: Order) -> Answer:
    return Answer("".join(_KEPT), os.getpid())


def raise_ours(order: Order) -> Answer:
    raise MissingInputs("the model does not say", fix=f"add {order.text}")


def raise_a_plug_ins(order: Order) -> Answer:
    raise PlugInError("the plug-in says no", fix="ask another")


def raise_another(order: Order) -> Answer:
    raise ValueError(f"first line\n\n\x1b[31mred line\x1b[0m\n{order.text}")


def miss_a_module(order: Order) -> Answer:
    raise ModuleNotFoundError(f"No module named {order.text!r}", name=order.text)


def abort(order: Order) -> Answer:
    print("about to fall over", file=sys.stderr, flush=True)
    time.sleep(order.number)
    os.abort()


def leave_with_7(order: Order) -> Answer:
    os._exit(7)


def hang(order: Order) -> Answer:
    Path(order.text).write_text(str(os.getpid()))
    time.sleep(600)
    return echo(order)


def grow(order: Order) -> Answer:
    held = []
    while True:
        held.append(b"x" * (8 << 20))
        time.sleep(0.01)


def grow_in_a_child(order: Order) -> Answer:
    code = "import time\nheld = []\nwhile True:\n    held.append(b'x' * (8 << 20)); time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return echo(order)


def shout(order: Order) -> Answer:
    print("done")  # what the channel itself says
    print(f"from Python: {order.text}")
    os.write(1, b"from C\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return echo(order)


def read_input(order: Order) -> Answer:
    return Answer(sys.stdin.readline(), os.getpid())


def variable(order: Order) -> Answer:
    return Answer(os.environ.get(order.text, ""), os.getpid())


def attribute(order: Order) -> Answer:
    """Give what `module:name` is, the module imported now unless it was before."""
    module, _, name = order.text.partition(":")
    return Answer(str(getattr(importlib.import_module(module), name)), os.getpid())


def garbage(order: Order) -> Answer:
    """Count what a collection looks through; -1 where there is none."""
    return Answer(str(len(gc.get_objects()) if gc.isenabled() else -1), os.getpid())


def loaded(order: Order) -> Answer:
    return Answer(",".join(name for name in order.text.split(",") if name in sys.modules), os.getpid())
