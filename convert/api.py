"""The Python API: what the command line does, as functions that return the report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convert import pipeline, plan
from convert.building import Say
from convert.device import DeviceRequest, device_words
from convert.errors import UnknownName, UsageError
from convert.formats import FORMATS
from convert.plan import Plan, Wish
from convert.sources import identify
from convert.spec import (
    FLOAT_IO,
    FOREIGN,
    FP32,
    IO_TYPES,
    KEEP,
    LAYOUTS,
    PRECISIONS,
    LoadOptions,
    ModelFacts,
    QualityGate,
    Request,
    SourceFile,
    check_run,
    command_line,
    gate_words,
    sizes_from,
    specs_from,
)
from convert.worker import Workers, limits_of
from validators.inputs import read_user_file, specs_of
from validators.protocol import DEFAULT, protocol_of
from validators.prove import load_source
from validators.report import Report

Names = str | Iterable[str]


def names_of(value: Names) -> tuple[str, ...]:
    """Split `a,b` or take the items of an iterable."""
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(name.strip() for name in parts if name.strip())


def one_of(noun: str, name: str, known: Iterable[str]) -> str:
    """Give `name` where it is known; raises UnknownName, with the nearest known one, where not."""
    if name not in (known := tuple(known)):
        raise UnknownName.among(noun, name, known)
    return name


def convert(
    model: str | os.PathLike[str],
    to: Names,
    *,
    out: str | os.PathLike[str] = "",
    architecture: str = "",
    input: Names = (),  # noqa: A002  named as the option
    inputs: str | os.PathLike[str] = "",
    trust: bool = False,
    threads: Iterable[int] | None = None,
    protocol: str = DEFAULT,
    policy: str | os.PathLike[str] = "",
    baseline: str | os.PathLike[str] = "",
    max_regression: float | None = None,
    seed: int = 0,
    timeout_seconds: float = Request.timeout_seconds,
    memory_bytes: int = 0,
    signature: str = "",
    fix: Names = (),
    layout: str = KEEP,
    race: bool = False,
    via: str = "",
    allow: Names = (),
    precision: Names = (FP32,),
    calibration: str | os.PathLike[str] = "",
    preprocess: str = "",
    io: str = FLOAT_IO,
    recipe: str | os.PathLike[str] = "",
    search_seconds: float = Request.search_seconds,
    golden: str | os.PathLike[str] = "",
    self_test: bool = False,
    instructions: bool = False,
    profile: bool = False,
    gate: QualityGate | None = None,
    device: DeviceRequest | None = None,
    say: Say = lambda _: None,
) -> Report:
    """Convert a model file to one or more formats and prove each artifact.

    Args:
        model: path of a model file or folder, of any kind that is recognised.
        to: formats, such as `"tflite,onnx"` or `["tflite"]`; `"all"` for every one that can be reached.
        out: folder for artifacts and report; default `build/<model name>`.
        architecture: for weights, what builds their model: `package.module:callable` or `path/file.py:callable`.
        input: specs such as `"image:float32[batch,1,8,8]"`, one or an iterable; needed where the file has none.
        inputs: an `.npz` of example inputs by name; they are added to the seeded cases.
        trust: let the model file run code of its own.
        threads: numbers of threads to time at, an empty iterable to leave timing out; None for the protocol's own.
        protocol: how thoroughly to time: `"quick"`, `"default"`, `"release"` or `"mlperf"`; see `validators.protocol`.
        seed: of the generated inputs.
        timeout_seconds: limit of each stage.
        memory_bytes: limit of each stage's resident memory; 0 for nine tenths of the machine's.
        signature: which signature, of a model file that holds several.
        fix: sizes for free dimensions, such as `"batch=1"`, one or an iterable.
        layout: of image inputs in TFLite files: `"nhwc"`, `"nchw"`, or `"keep"` for the source's.
        race: build and prove every candidate and keep the fastest, rather than the first that passes.
        via: name of the candidate to take, or of a route that it must take.
        allow: kinds of operators a stock runtime lacks to accept: `"flex"`, `"custom"`.
        precision: precisions to make, such as `"fp32,int8"`; see `convert.spec.PRECISIONS`.
        calibration: real inputs that `int8` and `int16x8` take ranges of activations from; see `convert.calibration`.
        preprocess: how images of the calibration data become inputs.
        io: what quantized artifacts take and give: `"float"`, `"int8"` or `"uint8"`.
        recipe: a recipe file of an earlier run, to quantize the same way again without a search.
        search_seconds: time to search for a mixed precision that passes, per artifact; 0 for none.
        self_test: plant faults in every proven artifact and see whether the checks catch them.
        instructions: count the executed instructions of an inference, too; see `validators.instructions`.
        profile: time every operator, too; see `validators.profiles`.
        golden: folder for golden vectors of each proven artifact, which `validators.replay` judges a device by.
        policy: a file of what artifacts are held against beside the tool's own bounds; see `validators.policy`.
        baseline: an artifact of one of the formats, as released before: both are timed now, in turns.
        max_regression: share by which an artifact may be slower than its baseline; None for 0.05.
        gate: how good a reduced artifact has to be, where not as good as the defaults of its precision say.
        device: time proven artifacts there instead of on this machine.
        say: called with a line of text when a stage begins or ends.

    Returns:
        The report, also written to `report.json` in `out`; its `exit_code` is that of the command line.

    Raises:
        UsageError: the request or its input cannot be honoured.
        LoadError: the model's framework cannot load it.
        WorkerError: the process that loads or runs the source failed.
    """
    specs = (input,) if isinstance(input, str) else tuple(input)
    targets = names_of(to)
    timing = protocol_of(protocol)
    threads = timing.threads if threads is None else tuple(threads)
    check_run(seed, threads, timeout_seconds, memory_bytes)
    precisions = tuple(dict.fromkeys(one_of("precision", name, PRECISIONS) for name in names_of(precision)))
    if not precisions:
        raise UsageError("no precision to make", fix=f"name some of: {', '.join(PRECISIONS)}")
    gate = gate or QualityGate()
    if not search_seconds >= 0:
        raise UsageError(f"--search-seconds {search_seconds:g} is no time", fix="give seconds, or 0 for no search")
    if not targets:
        raise UsageError("no format to convert to", fix=f"name some of: {', '.join(FORMATS.names())}, {plan.ALL}")
    request = Request(
        model=str(model),
        targets=targets,
        out=str(out),
        options=LoadOptions(
            architecture, specs_from(specs), trust=trust, signature=signature, fixed=sizes_from(names_of(fix))
        ),
        inputs_file=str(inputs),
        seed=seed,
        threads=threads,
        protocol=protocol,
        policy=str(policy),
        baseline=str(baseline),
        max_regression=max_regression,
        timeout_seconds=timeout_seconds,
        memory_bytes=memory_bytes,
        layout=one_of("layout", layout, LAYOUTS),
        race=race,
        via=via,
        allow=tuple(one_of("kind of operators", kind, FOREIGN) for kind in names_of(allow)),
        precisions=precisions,
        io=one_of("type of inputs and outputs", io, IO_TYPES),
        calibration=str(calibration),
        preprocess=preprocess,
        recipe=str(recipe),
        gate=gate,
        search_seconds=search_seconds,
        golden=str(golden),
        self_test=self_test or timing.self_test,
        device=device,
        instructions=instructions,
        profile=profile,
        command=command_line(
            "convert",
            str(model),
            [
                ("to", ",".join(targets)),
                ("architecture", architecture),
                *(("input", spec) for spec in specs),
                ("inputs", str(inputs)),
                ("out", str(out)),
                ("seed", str(seed or "")),
                ("policy", str(policy)),
                ("baseline", str(baseline)),
                ("max-regression", "" if max_regression is None else f"{max_regression * 100:g}%"),
                ("protocol", protocol if protocol != DEFAULT else ""),
                ("threads", ",".join(map(str, threads)) if threads != timing.threads else ""),
                *device_words(device),
                ("trust", trust),
                ("signature", signature),
                *(("fix", size) for size in names_of(fix)),
                ("layout", layout if layout != KEEP else ""),
                ("race", race),
                ("via", via),
                *((f"allow-{kind}", True) for kind in names_of(allow)),
                ("precision", ",".join(precisions) if precisions != (FP32,) else ""),
                ("calibration", str(calibration)),
                ("preprocess", preprocess),
                ("io", io if io != FLOAT_IO else ""),
                ("recipe", str(recipe)),
                ("search-seconds", f"{search_seconds:g}" if search_seconds != Request.search_seconds else ""),
                *gate_words(gate),
                ("golden", str(golden)),
                ("self-test", self_test),
                ("instructions", instructions),
                ("profile", profile),
            ],
        ),
    )
    return pipeline.run(request, say)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a model file is, and where one can go from it."""

    source: SourceFile
    model: ModelFacts
    routes: tuple[tuple[str, tuple[Plan, ...]], ...]  # by format


def inspect(
    model: str | os.PathLike[str],
    *,
    architecture: str = "",
    input: Names = (),  # noqa: A002  named as the option
    inputs: str | os.PathLike[str] = "",
    trust: bool = False,
    timeout_seconds: float = Request.timeout_seconds,
    memory_bytes: int = 0,
    signature: str = "",
    fix: Names = (),
    allow: Names = (),
) -> Inspected:
    """Recognise and load a model file, and list the candidates for every format, without converting anything.

    Raises as `convert` does.
    """
    import tempfile

    specs = (input,) if isinstance(input, str) else tuple(input)
    examples = specs_of(read_user_file(Path(inputs))) if inputs else ()
    check_run(0, (), timeout_seconds, memory_bytes)
    options = LoadOptions(architecture, specs_from(specs), examples, trust, signature, sizes_from(names_of(fix)))
    source = identify(Path(model))
    with (
        tempfile.TemporaryDirectory() as folder,
        Workers(Path(folder), limits_of(timeout_seconds, memory_bytes)) as workers,
    ):
        facts, _ = load_source(workers, source, options)
    wish = Wish(source.kind, names_of(allow), facts)
    return Inspected(source, facts, tuple((form, plan.candidates(wish, form)) for form in FORMATS.names()))


def candidates(
    model: str | os.PathLike[str], to: Names, *, via: str = "", allow: Names = ()
) -> tuple[tuple[str, tuple[Plan, ...]], ...]:
    """List, by format, the candidates that a conversion would try, in order, without loading or running anything.

    Those that only apply to some models are listed too. Raises UsageError as `convert` does.
    """
    wish = Wish(identify(Path(model)).kind, names_of(allow))
    return tuple((target, plan.require_candidates(wish, target, via)) for target in plan.targets(names_of(to), wish))
