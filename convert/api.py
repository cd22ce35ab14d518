"""The Python API: what the command line does, as functions that return the report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convert import pipeline, plan
from convert.errors import UsageError
from convert.formats import FORMATS
from convert.plan import Plan
from convert.sources import identify
from convert.spec import LoadOptions, ModelFacts, Request, SourceFile, check_run, command_line, specs_from
from convert.worker import Workers, limits_of
from validators.inputs import read_user_file, specs_of
from validators.prove import load_source
from validators.report import Report

Names = str | Iterable[str]


def names_of(value: Names) -> tuple[str, ...]:
    """Split `a,b` or take the items of an iterable."""
    parts = value.split(",") if isinstance(value, str) else list(value)
    return tuple(name.strip() for name in parts if name.strip())


def convert(
    model: str | os.PathLike[str],
    to: Names,
    *,
    out: str | os.PathLike[str] = "",
    architecture: str = "",
    input: Names = (),  # noqa: A002  named as the option
    inputs: str | os.PathLike[str] = "",
    trust: bool = False,
    threads: Iterable[int] = (1,),
    seed: int = 0,
    timeout_seconds: float = Request.timeout_seconds,
    memory_bytes: int = 0,
    say: pipeline.Say = lambda _: None,
) -> Report:
    """Convert a model file to one or more formats and prove each artifact.

    Args:
        model: path of a Keras or PyTorch model file.
        to: formats, such as `"tflite,onnx"` or `["tflite"]`; `"all"` for every one that can be reached.
        out: folder for artifacts and report; default `build/<model name>`.
        architecture: for weights, what builds their model: `package.module:callable` or `path/file.py:callable`.
        input: specs such as `"image:float32[batch,1,8,8]"`, one or an iterable; needed where the file has none.
        inputs: an `.npz` of example inputs by name; they are added to the seeded cases.
        trust: let the model file run code of its own.
        threads: numbers of threads to time at; none to leave timing out.
        seed: of the generated inputs.
        timeout_seconds: limit of each stage.
        memory_bytes: limit of each stage's resident memory; 0 for nine tenths of the machine's.
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
    threads = tuple(threads)
    check_run(seed, threads, timeout_seconds, memory_bytes)
    if not targets:
        raise UsageError("no format to convert to", fix=f"name some of: {', '.join(FORMATS.names())}, {plan.ALL}")
    request = Request(
        model=str(model),
        targets=targets,
        out=str(out),
        options=LoadOptions(architecture, specs_from(specs), trust=trust),
        inputs_file=str(inputs),
        seed=seed,
        threads=threads,
        timeout_seconds=timeout_seconds,
        memory_bytes=memory_bytes,
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
                ("threads", ",".join(map(str, threads)) if threads != (1,) else ""),
                ("trust", trust),
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
) -> Inspected:
    """Recognise and load a model file, and list the candidates for every format, without converting anything.

    Raises as `convert` does.
    """
    import tempfile

    specs = (input,) if isinstance(input, str) else tuple(input)
    examples = specs_of(read_user_file(Path(inputs))) if inputs else ()
    check_run(0, (), timeout_seconds, memory_bytes)
    options = LoadOptions(architecture, specs_from(specs), examples, trust)
    source = identify(Path(model))
    with (
        tempfile.TemporaryDirectory() as folder,
        Workers(Path(folder), limits_of(timeout_seconds, memory_bytes)) as workers,
    ):
        facts, _ = load_source(workers, source, options)
    routes = tuple((form, plan.candidates(source.kind, form, facts.signature)) for form in FORMATS.names())
    return Inspected(source, facts, routes)
