"""The options of commands that hold one artifact against the model it was made from."""

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


sweep_options = adding(
    click.option(
        "--sweep",
        multiple=True,
        metavar="NAME=N[,N]",
        help="Measure it at these sizes of a free dimension too, such as batch=1,2,4,8, or at threads=1,2,4. Repeat it "
        "for several.",
    ),
    click.option(
        "--batch-within",
        default="",
        metavar="SIZE",
        help="Find the largest batch whose peak memory is within a size, such as 512MiB.",
    ),
)
