"""Constants that a file lists as inputs that callers must feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.rewrites import REWRITES, Rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Take the inputs that have a value in the file off its list of inputs."""
    known = {tensor.name for tensor in model.graph.initializer}
    known |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    listed = [value for value in model.graph.input if value.name in known]
    if not listed:
        return ()
    _keep_inputs(model, {value.name for value in listed})
    model.ir_version = max(model.ir_version, 4)  # the first that lets a constant be no input
    return (f"{len(listed)} constant(s) were listed as inputs; they are constants now",)


def bind(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Make inputs whose values the exporter knew constants again; give what was changed.

    tf2onnx turns what a traced function captures, Normalization's mean say, into inputs that callers must feed.
    """
    from onnx import numpy_helper

    bound = [value.name for value in model.graph.input if value.name in values]
    if not bound:
        return ()
    model.graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in bound)
    _keep_inputs(model, set(bound))
    return (f"{len(bound)} constant(s) that the exporter left as required inputs made constants again",)


def _keep_inputs(model: onnx.ModelProto, dropped: set[str]) -> None:
    kept = [
        type(value).FromString(value.SerializeToString()) for value in model.graph.input if value.name not in dropped
    ]
    del model.graph.input[:]
    model.graph.input.extend(kept)


REWRITES.register(
    Rewrite(
        name="leaked-constants",
        title="constants are no inputs",
        why="before IR version 4 every constant had to be listed as an input, and some exporters still do",
        rank=5,
        apply=apply,
    )
)
