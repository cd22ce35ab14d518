"""The half that needs TensorFlow: `python -m convert.torch_tensorflow.writing FOLDER OUT` makes a SavedModel."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import convert.torch_tensorflow
from convert.errors import RouteError
from convert.sources._tensorflow import input_names, output_names
from convert.torch_tensorflow.program import DTYPE, NUMBER, VALUE, WEIGHTS, Program, Step, load
from convert.torch_tensorflow.table import OPERATORS, Call, Folding, Kept, Operator

#: A step on constants alone is computed now, unless it makes this many times the bytes it takes, as expanding does.
FOLDED_GROWTH = 4
FOLDED_BYTES = 65536


def write(folder: Path, out: Path) -> None:
    """Write what `recording.record` left as a SavedModel with a signature of positions."""
    program = load(folder)
    known = operators()
    unknown = sorted({step.operator for step in program.steps} - set(known))
    if unknown:
        raise RouteError(f"no counterpart in TensorFlow is known yet for {', '.join(unknown)}")
    with np.load(folder / WEIGHTS) as stored:
        weights = {name: stored[name] for name in program.weights}
    kept = Kept()
    names = output_names(program.signature)
    specs = [
        tf.TensorSpec([None if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype, name=name)
        for spec, name in zip(program.signature.inputs, input_names(program.signature), strict=True)
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        found = run(program, dict(zip(program.inputs, tensors, strict=True)) | weights, kept)
        return {
            name: tf.cast(tensor(value, kept), spec.dtype)
            for name, value, spec in zip(names, found, program.signature.outputs, strict=True)
        }

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    module.serve.get_concrete_function()
    module.weights = kept.variables
    tf.saved_model.save(module, str(out), signatures={"serving_default": module.serve})


def operators() -> dict[str, Operator]:
    """Import every family of operators, and give all of them by their full names."""
    for found in pkgutil.iter_modules(convert.torch_tensorflow.__path__, f"{convert.torch_tensorflow.__name__}."):
        if found.name != __name__ and not (__name__ == "__main__" and found.name.endswith(".writing")):
            importlib.import_module(found.name)
    # Names of Python's own functions, which compute sizes, have no overload.
    return {f"aten.{name}" if "." in name else name: operator for name, operator in OPERATORS.items()}


def run(program: Program, values: dict[str, Any], kept: Kept) -> list[Any]:
    """Compute every step in turn and give the outputs."""
    known = operators()
    for step in program.steps:
        values[step.name] = compute(step, known[step.operator], values, kept)
    return [values[name] for name in program.outputs]


def compute(step: Step, operator: Operator, values: dict[str, Any], kept: Kept) -> Any:
    """Compute one step, now where it is settled by constants alone."""
    args = [resolved(arg, values) for arg in step.args]
    kwargs = {key: resolved(arg, values) for key, arg in step.kwargs.items()}
    if step.dtypes and not any(isinstance(value, tf.Tensor) for value in leaves([args, kwargs])):
        folded = kept.once(step.name, lambda: folded_now(step, operator, args, kwargs))
        taken = sum(value.nbytes for value in leaves([args, kwargs]) if isinstance(value, np.ndarray))
        made = sum(value.nbytes for value in leaves(folded) if isinstance(value, np.ndarray))
        if made <= max(FOLDED_GROWTH * taken, FOLDED_BYTES):
            return folded
    return shaped(called(step, operator, args, kwargs, kept), step)


def folded_now(step: Step, operator: Operator, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Compute a step on constants, outside of the function that is traced."""
    with tf.init_scope():
        return numpy_of(called(step, operator, args, kwargs, Folding()))


def called(step: Step, operator: Operator, args: list[Any], kwargs: dict[str, Any], kept: Kept) -> Any:
    """Call an operator's function, constants made tensors but where it wants to see them."""
    call = Call(step.name, step.operator, step.dtypes, step.shapes, kept)
    given = [arg if place in operator.raw else tensors(arg, kept) for place, arg in enumerate(args)]
    return operator.compute(call, *given, **{key: tensors(arg, kept) for key, arg in kwargs.items()})


def resolved(arg: Any, values: dict[str, Any]) -> Any:
    """Give a recorded argument's value."""
    if isinstance(arg, dict):
        if VALUE in arg:
            return values[arg[VALUE]]
        return tf.as_dtype(arg[DTYPE]) if DTYPE in arg else float(arg[NUMBER])
    return [resolved(one, values) for one in arg] if isinstance(arg, list) else arg


def leaves(value: Any) -> list[Any]:
    """Give everything that nested lists and dictionaries hold."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else None
    return [value] if inner is None else [leaf for one in inner for leaf in leaves(one)]


def tensor(value: Any, kept: Kept) -> Any:
    """Give a constant as a tensor."""
    return kept.tensor(value) if isinstance(value, np.ndarray) else value


def tensors(value: Any, kept: Kept) -> Any:
    """Give constants as tensors, in lists too."""
    return [tensors(one, kept) for one in value] if isinstance(value, list) else tensor(value, kept)


def numpy_of(value: Any) -> Any:
    """Give what was computed now as arrays."""
    if isinstance(value, (list, tuple)):
        return [numpy_of(one) for one in value]
    return np.asarray(value)


def shaped(value: Any, step: Step) -> Any:
    """Tell tensors the sizes that PyTorch knew."""
    if isinstance(value, (list, tuple)):
        if len(value) == len(step.shapes):
            for one, shape in zip(value, step.shapes, strict=True):
                tell(one, shape)
    elif step.shapes:
        tell(value, step.shapes[0])
    return value


def tell(value: Any, shape: tuple[int | None, ...]) -> None:
    """Tell one tensor its sizes."""
    if isinstance(value, tf.Tensor):
        value.set_shape(shape)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
