"""`python -m validators compare`: which of several artifacts is faster, on a machine that is busy with other things."""

from __future__ import annotations

import sys

import click

from convert.terminal import Command, Talk, deliver, exits, memory_of, share_of
from validators.commands import COMMANDS, SETTINGS, Other

EPILOG = """\b
Exit codes: 0 compared, and within --max-regression; 1 slower than that, or it cannot be told; 2 usage or input; 3 an
artifact could not be loaded; 130 or 143 interrupted.
\b
Examples:
  python -m validators compare build/net/net.tflite build/net/net.onnx
  python -m validators compare released.tflite candidate.tflite --max-regression 5%"""


@click.command("compare", cls=Command, epilog=EPILOG, context_settings=SETTINGS)
@click.argument("artifacts", nargs=-1, metavar="FIRST OTHER...")
@click.option("--inputs", "inputs_file", default="", metavar="FILE.npz", help="Your own inputs by FIRST's names.")
@click.option(
    "--fix",
    "fixed",
    multiple=True,
    metavar="NAME=SIZE",
    help="Give a free dimension of FIRST a size, such as batch=4; else batch is 1, others 16. Repeat it for several.",
)
@click.option(
    "--max-regression", default="", metavar="SHARE", help="By how much the others may be slower than FIRST, as 5%."
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    metavar="N",
    help="Of the engines. CPU time decides at 1, wall time at more.",
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="Seed of the generated inputs.")
@click.option(
    "--seconds", default=60.0, show_default=True, metavar="SECONDS", help="Begin no further block after that."
)
@click.option("--timeout", default=1800.0, show_default=True, metavar="SECONDS", help="Limit of each stage.")
@click.option(
    "--memory-limit",
    type=float,
    metavar="GIB",
    help="Limit of each stage's memory.  [default: nine tenths of this machine's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def main(
    artifacts: tuple[str, ...],
    *,
    inputs_file: str,
    fixed: tuple[str, ...],
    max_regression: str,
    threads: int,
    seed: int,
    seconds: float,
    timeout: float,
    memory_limit: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say whether OTHER artifacts are faster or slower than FIRST, the same, or whether that cannot be told.

    TFLite, ONNX, TorchScript and SavedModel are mixed freely. They take turns in fresh processes, and FIRST is timed
    against itself too, to know the least difference that would show.
    """
    with exits():
        # NOTE: Why imported here: --help must not wait for anything.
        from validators.commands import _compare
        from validators.versus import compare

        with Talk(quiet=quiet) as say:
            found = compare(
                artifacts,
                inputs=inputs_file,
                fix=fixed,
                max_regression=share_of(max_regression, "max-regression"),
                threads=threads,
                seed=seed,
                seconds=seconds,
                timeout_seconds=timeout,
                memory_bytes=memory_of(memory_limit),
                say=say,
            )
        deliver(_compare.as_json(found) if as_json else _compare.as_text(found))
        sys.exit(found.exit_code)


COMMANDS.register(Other("compare", main))
