"""The command line: argv to a request, a report to text and an exit code. Only this and `terminal` print or exit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from convert.device import DeviceRequest, device_options
from convert.errors import UsageError
from convert.spec import QualityGate
from convert.terminal import (
    Command,
    Talk,
    allowed,
    artifact_options,
    deliver,
    exits,
    memory_of,
    model_options,
    precision_options,
    quality_options,
    require_own_validators,
    run_options,
    share_of,
    threads_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert import api
    from convert.plan import Plan

EPILOG = """\b
Exit codes: 0 every artifact passed; 1 artifacts were made but a check failed or could not run; 2 usage or input;
3 nothing could be made; 130 or 143 interrupted.
\b
Examples:
  python -m convert samples/digits.pt --to tflite
  python -m convert model.keras --to all --out build/release
  python -m convert weights.pt --architecture net.py:Net --input 'image:float32[batch,3,224,224]' --to onnx
  python -m convert model.pt --to tflite --race --layout nhwc
  python -m convert model.pt --to tflite,onnx --precision fp32,int8 --calibration train.npz --inputs test.npz
  python -m convert model.pt --inspect"""


@click.command(
    cls=Command, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.argument("model", required=False, default="")
@click.option(
    "--to",
    "targets",
    default="",
    metavar="FORMAT[,FORMAT]",
    help="Formats to make: tflite, onnx, torchscript, savedmodel, or all.",
)
@click.option("--inspect", is_flag=True, help="Say what MODEL is and what can be made of it, and convert nothing.")
@click.option(
    "--toolchains",
    "toolchains",
    is_flag=False,
    flag_value="list",
    default="",
    metavar="[list|prepare[:NAME]|remove[:NAME]]",
    help="List the converters that live in environments of their own, prepare them, or remove them; without MODEL.",
)
@click.option(
    "--out", default="", metavar="DIR", help="Folder for artifacts and report.  [default: build/<model name>]"
)
@click.option("--race", is_flag=True, help="Build and prove every candidate, and keep the fastest that passes.")
@click.option(
    "--via", default="", metavar="NAME", help="Take this candidate, or those whose way leads over this route."
)
@click.option(
    "--plan", "only_plan", is_flag=True, help="Print the candidates in the order to try them, and run nothing."
)
@artifact_options
@precision_options
@quality_options
@model_options
@device_options
@run_options
@click.version_option(package_name="edgeproof", prog_name="edgeproof")
def main(
    model: str,
    targets: str,
    *,
    inspect: bool,
    toolchains: str,
    out: str,
    race: bool,
    via: str,
    only_plan: bool,
    layout: str,
    allow_flex: bool,
    allow_custom: bool,
    precisions: str,
    calibration: str,
    preprocess: str,
    io: str,
    recipe: str,
    search_seconds: float,
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
    timeout: float,
    memory_limit: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert the trained model in the file or folder MODEL, and prove every artifact.

    Keras, TensorFlow, PyTorch, Hugging Face, ONNX and TFLite models are recognised by their content.

    Each artifact is checked for its contract (names, dtypes, shapes), for numerical parity with the model, and timed.
    Artifacts that pass, and report.json, are written to the output folder; the table goes to stdout.
    """
    with exits():
        require_own_validators()
        if toolchains:
            with Talk(quiet=quiet) as say:
                answer = keep_toolchains(toolchains, model, timeout, memory_of(memory_limit), say, as_json=as_json)
            deliver(answer)
            return
        if not model:
            raise UsageError("no model file was named", fix="python -m convert MODEL --to tflite; --help says the rest")
        # NOTE: Why imported here: --help must not wait for anything.
        from convert import api

        allow = allowed(flex=allow_flex, custom=allow_custom)
        if inspect:
            refuse_with_inspect()
            inspected = api.inspect(
                model,
                architecture=architecture,
                input=specs,
                inputs=inputs_file,
                trust=trust,
                timeout_seconds=timeout,
                memory_bytes=memory_of(memory_limit),
                signature=signature,
                fix=fixed,
                allow=allow,
            )
            show(inspected, as_json=as_json)
            return
        if not targets:
            raise UsageError("no format to convert to", fix="add --to tflite,onnx,torchscript,savedmodel, or --to all")
        if only_plan:
            show_plan(api.candidates(model, targets, via=via, allow=allow), as_json=as_json)
            return
        from validators.enforcement import found_policy
        from validators.plots import draw, require_plots

        pictures = require_plots(plots, plots_format)
        with Talk(quiet=quiet) as say:
            report = api.convert(
                model,
                targets,
                out=out,
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
                race=race,
                via=via,
                allow=allow,
                precision=precisions,
                calibration=calibration,
                preprocess=preprocess,
                io=io,
                recipe=recipe,
                search_seconds=search_seconds,
                golden=golden,
                self_test=self_test,
                device=device(),
                instructions=instructions,
                profile=profile,
                gate=QualityGate(labels, metric, min_agreement, max_accuracy_drop, min_sqnr_db),
                say=say,
            )
            if pictures:
                say(f"drew {len(draw(report, Path(plots), pictures))} picture(s) into {plots}")
        from validators.reports import RENDERINGS

        deliver(RENDERINGS["json" if as_json else "terminal"].render(report))
        sys.exit(report.exit_code)


def refuse_with_inspect() -> None:
    """Raise UsageError for options that say how to convert beside --inspect, which would ignore them."""
    context = click.get_current_context()
    converting = (
        "targets",
        "out",
        "seed",
        "protocol",
        "policy",
        "no_policy",
        "baseline",
        "max_regression",
        "threads",
        "plots",
        "plots_format",
        "race",
        "via",
        "only_plan",
        "layout",
        "precisions",
        "recipe",
        "device",
    )
    for name in (*converting, "golden", "self_test", "instructions", "profile"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words = {"targets": "to", "only_plan": "plan", "precisions": "precision"}
            option = words.get(name, name.replace("_", "-"))
            raise UsageError(f"--inspect converts nothing, so --{option} has no meaning", fix="leave one of them out")


def keep_toolchains(
    asked: str, model: str, timeout: float, memory_bytes: int, say: Callable[[str], None], *, as_json: bool
) -> str:
    """List, prepare or remove toolchains as --toolchains asks, and give the answer."""
    from convert.toolchains import _command

    if model:
        raise UsageError(f"--toolchains converts nothing, so {model} has no meaning", fix="leave one of them out")
    return _command.perform(asked, timeout, memory_bytes, say, as_json=as_json)


def show(inspected: api.Inspected, *, as_json: bool) -> None:
    """Print what --inspect found."""
    import msgspec

    source, model = inspected.source, inspected.model
    routes = {form: [candidate.name for candidate in plans] for form, plans in inspected.routes}
    if as_json:
        answer = {"source": source, "model": model, "routes": routes}
        deliver(msgspec.json.format(msgspec.json.encode(answer)).decode() + "\n")
        return
    lines = [
        f"{source.path}: {source.detail} (kind {source.kind}, {source.file_bytes:,} bytes, sha256 {source.sha256})",
        f"parameters: {model.parameters:,}",
        *(f"input: {spec}" for spec in model.signature.inputs),
        *(f"output: {spec}" for spec in model.signature.outputs),
        *(
            f"{form}: {', then if that fails '.join(names) if names else 'no route yet'}"
            for form, names in routes.items()
        ),
        *(f"note: {note}" for note in model.notes),
    ]
    deliver("\n".join(lines) + "\n")


def show_plan(found: tuple[tuple[str, tuple[Plan, ...]], ...], *, as_json: bool) -> None:
    """Print what --plan found: each format's candidates, in the order in which they are tried."""
    import msgspec

    if as_json:
        answer = {
            target: [
                {"name": plan.name, "title": plan.title, "why": [route.why for route in plan.routes]} for plan in plans
            ]
            for target, plans in found
        }
        deliver(msgspec.json.format(msgspec.json.encode(answer)).decode() + "\n")
        return
    lines = []
    for target, plans in found:
        lines.append(f"{target}:")
        for position, plan in enumerate(plans, 1):
            lines.append(f"  {position}. {plan.name} ({plan.title})")
            lines += [f"     {route.name}: {route.why}" for route in plan.routes]
            lines += [f"     needs the toolchain {name}" for name in plan.toolchains]
    lines.append("The model was not loaded: --inspect loads it and lists those that apply to it, in the order for it.")
    deliver("\n".join(lines) + "\n")
