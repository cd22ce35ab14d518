"""Every operator of a reduced ONNX file by itself: what its ideal makes of what the file itself computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.spec import Scale
from convert.worker import summary
from validators.divergence import arrange, error_of
from validators.runtimes import dequantized, feed, quantized
from validators.taps import Stepped, Stepping

if TYPE_CHECKING:
    import numpy as np

    from validators.ideals.onnx import Rounding


@dataclass(frozen=True, slots=True)
class _Twin:
    """A tensor of the tapped run and the ideal's value it stands for; how it is stored, None for floats."""

    position: int
    value: str
    stored: tuple[str, Scale] | None


def step(job: Stepping) -> Stepped:
    """Cut the ideal at every value that the tapped run shows, and run it on these."""
    import numpy as np

    from convert.formats.onnx import read_model
    from validators.ideals._onnx_operators import split
    from validators.ideals._onnx_steps import cut, show, twins
    from validators.ideals.onnx import from_base, refuse_integer_format

    if not job.building.base:
        raise LoadError("no float file is known that its numbers could be rounded from", fix="give --base")
    reduced = read_model(Path(job.building.reduced))
    called = split(reduced)
    refuse_integer_format(reduced)
    rounding = from_base(job.building, reduced, called)
    graph = rounding.ideal.model
    kept: dict[str, np.ndarray] = {}
    with np.load(job.tapped) as tapped, np.load(job.inputs) as given:
        shown = {at: name for at, name in enumerate(job.names) if _is_float(tapped, job.cases, at)}
        known = twins(rounding, tuple(shown.values()))
        found = [_Twin(at, known[n][0], _stored(rounding, known[n][1])) for at, n in shown.items() if n in known]
        values = tuple(dict.fromkeys(twin.value for twin in found))
        show(graph, values)
        whole = _run(graph, job, values, feed(given, job.cases[0], job.feeds))
        laid = _laid(found, whole, tapped, job.cases[0])
        found = [twin for twin in found if twin.position in laid]
        source = {twin.value: twin.position for twin in reversed(found)}
        taken = cut(rounding, tuple(source))
        for case in job.cases:
            fed = feed(given, case, job.feeds)
            fed |= {taken[value]: tapped[f"{case}/{at}"].transpose(laid[at]) for value, at in source.items()}
            answers = _run(graph, job, tuple(source), fed)
            for twin in found:
                answer = answers[twin.value].transpose(np.argsort(laid[twin.position]))
                if twin.stored is not None:
                    answer = dequantized(quantized(answer, *twin.stored), twin.stored[1])
                kept[f"{case}/{twin.position}"] = answer
    np.savez(job.out, **kept)  # type: ignore[arg-type]
    return Stepped(
        job.out,
        tuple(twin.position for twin in found),
        tuple(0.0 if twin.stored is None else twin.stored[1].scale for twin in found),
    )


def _is_float(tapped: Any, cases: tuple[str, ...], at: int) -> bool:
    return all(f"{case}/{at}" in tapped.files for case in cases) and tapped[f"{cases[0]}/{at}"].dtype.kind == "f"


def _run(model: Any, job: Stepping, values: tuple[str, ...], fed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    from convert.formats.onnx import write_model

    path = Path(job.building.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what fails is raised
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        wanted = {value.name for value in session.get_inputs()}
        found = session.run(values, {name: array for name, array in fed.items() if name in wanted})
    except Exception as error:
        raise LoadError(f"the ideal does not run operator by operator: {summary(error, 2)}") from error
    return dict(zip(values, found, strict=True))


def _laid(found: list[_Twin], whole: Mapping[str, np.ndarray], tapped: Any, case: str) -> dict[int, tuple[int, ...]]:
    """Tell by its values how each tensor's axes lie: ONNX Runtime computes some operators with channels last."""
    laid = {}
    for twin in found:
        mine, ideal = tapped[f"{case}/{twin.position}"], whole[twin.value]
        orders = [axes for axes in arrange(mine, ideal) if axes is not None]
        if mine.ndim == ideal.ndim and orders:
            laid[twin.position] = min(orders, key=lambda axes: error_of([mine], [ideal], axes))
    return laid


def _stored(rounding: Rounding, numbers: tuple[str, ...]) -> tuple[str, Scale] | None:
    """Read the dtype, the one scale and the zero point that a value is stored with; None for floats."""
    if not numbers:
        return None
    scale, *zero = (rounding.actual.array(name) for name in numbers)
    if scale.size != 1:
        return None
    return (str(zero[0].dtype), Scale(float(scale), int(zero[0]))) if zero else ("uint8", Scale(float(scale), 0))
