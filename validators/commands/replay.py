"""`python -m validators replay`: what a device answered to golden vectors, judged."""

from __future__ import annotations

import sys

import click

from convert.terminal import Command, deliver, exits
from validators.commands import COMMANDS, SETTINGS, Other

EPILOG = """\b
Exit codes: 0 the device answers as the model does; 1 it does not, or that could not be judged; 2 usage or input;
3 nothing could be loaded; 130 or 143 interrupted.
\b
Example:
  python -m convert model.pt --to tflite --golden golden
  (on the phone, for every step of golden/tflite/index.json: run the inputs, write outputs/<case>.<output>.bin)
  python -m validators replay golden/tflite outputs"""


@click.command("replay", cls=Command, epilog=EPILOG, context_settings=SETTINGS)
@click.argument("golden")
@click.argument("answers")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def main(golden: str, answers: str, *, as_json: bool) -> None:
    """Judge what a device ANSWERED to the golden vectors in the folder GOLDEN.

    ANSWERS is a folder with one <case>.<output>.bin (raw, little-endian) or .npy per expected output, named as in
    GOLDEN/expected, or one .npz with keys <case>/<output>. They are judged as the artifact itself was.
    """
    with exits():
        # NOTE: Why imported here: --help must not wait for anything.
        from validators.commands import _verdict
        from validators.golden import replay

        index, verdict = replay(golden, answers)
        title = f"{index.artifact} ({index.format} {index.precision}) on the device"
        deliver(_verdict.as_json(verdict) if as_json else _verdict.as_text(title, verdict))
        sys.exit(_verdict.exit_code(verdict))


COMMANDS.register(Other("replay", main))
