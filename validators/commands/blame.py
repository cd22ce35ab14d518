"""`python -m validators blame`: the first layer of an artifact that introduces error."""

from __future__ import annotations

import sys

import click

from convert.terminal import Command, Talk, accepting, allowed, deliver, exits, memory_of, model_options, running
from validators.commands import COMMANDS, SETTINGS, Other
from validators.commands._options import against

EPILOG = """\b
Exit codes: 0 the artifact passes, nothing is to blame; 1 a layer was blamed, or could not be; 2 usage or input;
3 the reference cannot be loaded; 130 or 143 interrupted.
\b
Example:
  python -m validators blame build/net/net.tflite --reference net.pt --out guilty"""


@click.command("blame", cls=Command, epilog=EPILOG, context_settings=SETTINGS)
@against(
    match="How inputs and outputs correspond: by name, or by position where the artifact's are named otherwise.",
    out="Write the guilty operator there, alone, with its inputs.",
    base="The float artifact that ARTIFACT was quantized from.",
)
@accepting(
    layout="Where image inputs of the artifact have their channels; keep: where the model has them.",
    flex="Accept TensorFlow's own operators (Select-TF).",
    custom="Accept custom operators and ONNX domains.",
)
@model_options
@running(proves=False, answer="Print what was found as JSON.")
def main(
    artifact: str,
    reference: str,
    *,
    match: str,
    out: str,
    base: str,
    layout: str,
    allow_flex: bool,
    allow_custom: bool,
    architecture: str,
    specs: tuple[str, ...],
    inputs_file: str,
    signature: str,
    fixed: tuple[str, ...],
    trust: bool,
    seed: int,
    timeout: float,
    memory_limit: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Name the first layer of ARTIFACT, a TFLite, ONNX or TorchScript file, that introduces error.

    Every tensor of it is compared with the source's, in float64 where that runs, along the graph.
    """
    with exits():
        # NOTE: Why imported here: --help must not wait for anything.
        from validators.blame import blame
        from validators.commands import _blame

        with Talk(quiet=quiet) as say:
            report = blame(
                artifact,
                reference,
                out=out,
                match=match,
                architecture=architecture,
                input=specs,
                inputs=inputs_file,
                trust=trust,
                seed=seed,
                timeout_seconds=timeout,
                memory_bytes=memory_of(memory_limit),
                signature=signature,
                fix=fixed,
                layout=layout,
                allow=allowed(flex=allow_flex, custom=allow_custom),
                base=base,
                say=say,
            )
        deliver(_blame.as_json(report) if as_json else _blame.as_text(report))
        sys.exit(report.exit_code)


COMMANDS.register(Other("blame", main))
