"""The other commands of `python -m validators`: one file each, which registers its click command."""

from __future__ import annotations

from dataclasses import dataclass

import click

from convert.registry import Registry

__all__ = ["COMMANDS", "SETTINGS", "Other", "others"]

#: Context settings of every command.
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@dataclass(frozen=True, slots=True)
class Other:
    """A command and the word that it is asked for by."""

    name: str
    command: click.Command


COMMANDS: Registry[Other] = Registry("command", "validators.commands")


def others() -> dict[str, click.Command]:
    """Give all commands by their names."""
    return {other.name: other.command for other in COMMANDS}
