"""Calibration data as a TFLite file takes it, and what it makes of every tensor of the file's main graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.layout import axes_to
from convert.precision import Reduction
from convert.recipe import Calibration
from convert.sources import SOURCES
from convert.worker import summary

if TYPE_CHECKING:
    import numpy as np

    from convert.precision._ranges import Observer


def samples(task: Reduction) -> Iterator[dict[str, np.ndarray]]:
    """Give the calibration samples under the names and dtypes, and in the layout, of the float artifact."""
    import numpy as np

    native = SOURCES[task.source.kind].family.layout
    axes = {
        spec.name: axes_to(replace(spec, layout=native), spec.layout) if spec.layout else ()
        for spec in task.base.signature.inputs
    }
    for sample in required(task).samples():
        given = {}
        for spec in task.base.signature.inputs:
            array = sample[spec.name].astype(spec.dtype, copy=False)
            given[spec.name] = np.ascontiguousarray(array.transpose(axes[spec.name])) if axes[spec.name] else array
        yield given


def required(task: Reduction) -> Calibration:
    """Give the calibration data; raises RouteError where the caller forgot it."""
    if task.calibration is None:
        raise RouteError(
            f"{task.recipe.precision} takes its ranges from calibration data, and there is none",
            fix="give some with --calibration",
        )
    return task.calibration


def observe(task: Reduction, observer: Observer) -> None:
    """Run the float artifact on all samples and feed every float tensor of its main graph to the observer.

    Raises RouteError where a sample does not run.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # NOTE: Why without delegates: with XNNPACK, tensors that it fuses away are kept as well, and hold nothing.
    interpreter = Interpreter(
        model_path=task.base.path,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    run = interpreter.get_signature_runner()
    for index, sample in enumerate(samples(task)):
        try:
            run(**sample)
        except (ValueError, RuntimeError) as error:
            raise RouteError(
                f"sample {index} of the calibration data does not run on the float file: {summary(error, 2)}",
                fix="give samples of the shapes that the file takes",
            ) from error
        _feed(interpreter, observer)


def _feed(interpreter: Any, observer: Observer) -> None:
    import numpy as np

    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] != np.float32 or not tensor["name"]:
            continue
        try:
            values = interpreter.get_tensor(tensor["index"])
        except ValueError:  # of a tensor without data, such as one that only a loop's body writes
            continue
        if values.size:
            observer.feed(tensor["name"], values)
