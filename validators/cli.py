"""The command line of standalone validation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from convert.device import DeviceRequest, device_options
from convert.spec import QualityGate
from convert.terminal import (
    Front,
    Talk,
    allowed,
    artifact_options,
    deliver,
    exits,
    memory_of,
    model_options,
    quality_options,
    run_options,
    share_of,
    threads_of,
)
from validators.commands import SETTINGS, others
from validators.commands._options import against, sweep_options

EPILOG = """\b
Exit codes: 0 every check passed; 1 a check failed or could not run; 2 usage or input; 3 the reference cannot be
loaded; 130 or 143 interrupted.
\b
Examples:
  python -m validators build/digits/digits.tflite --reference samples/digits.pt
  python -m validators theirs.onnx --reference model.keras --match position
  python -m validators app.int8.tflite --reference model.pt --base app.tflite --inputs test.npz --labels answers.npy"""


@click.command(cls=Front, others=others, epilog=EPILOG, context_settings=SETTINGS)
@against(
    match="How tensors correspond: by name, or by position where the artifact's are named otherwise.",
    out="Folder for the report.  [default: ARTIFACT-proof, beside it]",
    base="The float artifact that ARTIFACT was quantized from, for a full proof.",
)
@artifact_options
@quality_options
@model_options
@sweep_options
@device_options
@run_options
@click.version_option(package_name="edgeproof", prog_name="edgeproof")
def main(
    artifact: str,
    reference: str,
    match: str,
    *,
    out: str,
    base: str,
    layout: str,
    allow_flex: bool,
    allow_custom: bool,
    labels: str,
    metric: str,
    min_agreement: float | None,
    max_accuracy_drop: float | None,
    min_sqnr_db: float | None,
    architecture: str,
    specs: tuple[str, ...],
    inputs_file: str,
    signature: str,
    fixed: tuple[str, ...],
    trust: bool,
    golden: str,
    self_test: bool,
    device: Callable[[], DeviceRequest | None],
    instructions: bool,
    profile: bool,
    seed: int,
    policy: str,
    no_policy: bool,
    baseline: str,
    max_regression: str,
    protocol: str,
    threads: str,
    plots: str,
    plots_format: str,
    sweep: tuple[str, ...],
    batch_within: str,
    timeout: float,
    memory_limit: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge ARTIFACT, a TFLite, ONNX, TorchScript or SavedModel that anybody made, against the model it was made from.

    The contract, numerical parity and latency are judged by the same rules as in `python -m convert`.
    """
    with exits():
        # NOTE: Why imported here: --help must not wait for anything.
        from validators.api import validate
        from validators.enforcement import found_policy
        from validators.plots import draw, require_plots
        from validators.reports import RENDERINGS

        pictures = require_plots(plots, plots_format)
        with Talk(quiet=quiet) as say:
            report = validate(
                artifact,
                reference,
                out=out,
                match=match,
                architecture=architecture,
                input=specs,
                inputs=inputs_file,
                trust=trust,
                threads=threads_of(threads),
                protocol=protocol,
                policy=found_policy(policy, ignored=no_policy),
                baseline=baseline,
                max_regression=share_of(max_regression, "max-regression"),
                seed=seed,
                timeout_seconds=timeout,
                memory_bytes=memory_of(memory_limit),
                signature=signature,
                fix=fixed,
                layout=layout,
                allow=allowed(flex=allow_flex, custom=allow_custom),
                base=base,
                golden=golden,
                self_test=self_test,
                sweep=sweep,
                batch_within=batch_within,
                device=device(),
                instructions=instructions,
                profile=profile,
                gate=QualityGate(labels, metric, min_agreement, max_accuracy_drop, min_sqnr_db),
                say=say,
            )
            if pictures:
                say(f"drew {len(draw(report, Path(plots), pictures))} picture(s) into {plots}")
        deliver(RENDERINGS["json" if as_json else "terminal"].render(report))
        sys.exit(report.exit_code)
