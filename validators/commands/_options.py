"""The options of every command that holds one artifact against the model it was made from."""

from __future__ import annotations

import click

from convert.terminal import Options, adding


def against(*, match: str, out: str, base: str) -> Options:
    """Give the words that say what is held against what, with what a command says of some."""
    return adding(
        click.argument("artifact"),
        click.option("--reference", required=True, metavar="MODEL", help="The model file the artifact was made from."),
        click.option("--match", default="names", show_default=True, metavar="names|position", help=match),
        click.option("--out", default="", metavar="DIR", help=out),
        click.option("--base", default="", metavar="FLOAT", help=base),
    )
