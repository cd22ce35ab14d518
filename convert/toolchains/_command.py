"""What --toolchains answers: a list, or what was prepared or removed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from convert import toolchains
from convert.errors import UsageError
from convert.worker import Workers, limits_of


def perform(asked: str, timeout: float, memory_bytes: int, say: Callable[[str], None], *, as_json: bool) -> str:
    """Do what `asked` says, `list`, `prepare[:NAME]` or `remove[:NAME]`, and give the list that follows from it.

    Raises UsageError for anything else, ToolchainError where one cannot be prepared.
    """
    action, _, name = asked.partition(":")
    if action not in ("list", "prepare", "remove") or (action == "list" and name):
        raise UsageError(
            f"cannot read --toolchains {asked!r}", fix="give list, prepare, prepare:NAME, remove or remove:NAME"
        )
    names = (toolchains.TOOLCHAINS[name].name,) if name else toolchains.TOOLCHAINS.names()
    for chosen in names:
        if action == "prepare":
            with (
                tempfile.TemporaryDirectory() as folder,
                Workers(Path(folder), limits_of(timeout, memory_bytes)) as workers,
            ):
                toolchains.prepared(chosen, workers, say, f"prepare-{chosen}")
        elif action == "remove":
            for removed in toolchains.remove(chosen):
                say(f"removed {removed}")
    listed = toolchains.listing()
    if as_json:
        return msgspec.json.format(msgspec.json.encode(listed)).decode() + "\n"
    return "".join(f"{line}\n" for state in listed for line in lines(state))


def lines(state: toolchains.State) -> tuple[str, ...]:
    """Say in words what there is of one toolchain."""
    if state.state == toolchains.MISSING:
        return (f"{state.name}: {state.title}, {state.state}; prepared at first use in {state.folder}",)
    size = f"{state.size_bytes / 2**20:,.0f} MiB"
    python = f", Python {state.python}" if state.python else ""
    return (f"{state.name}: {state.title}, {state.state}, {size} in {state.folder}{python}",)
