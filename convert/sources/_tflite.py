"""TFLite files run by LiteRT's own kernels, without the delegates that phones use: the plainest reading of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError, UnknownName, UsageError
from convert.spec import BATCH, DTYPES, Dim, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import numpy as np

DEFAULT = "serving_default"


@dataclass(frozen=True)
class TfliteModel:
    """A TFLite file in an interpreter, and the tensors of its signature: their names in it and in the graph."""

    path: Path
    interpreter: Any
    runner: Any  # of the signature; None for a file without one
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run on named arrays, resized to them, and give the outputs by name."""
        import numpy as np

        if self.runner is not None:
            found = self.runner(**inputs)
            return {name: np.array(found[name]) for name in self.outputs}
        for name, array in inputs.items():
            self.interpreter.resize_tensor_input(self.inputs[name]["index"], array.shape, strict=True)
        self.interpreter.allocate_tensors()
        for name, array in inputs.items():
            self.interpreter.set_tensor(self.inputs[name]["index"], array)
        self.interpreter.invoke()
        return {name: np.array(self.interpreter.get_tensor(detail["index"])) for name, detail in self.outputs.items()}


def open_model(path: Path, signature: str = "", threads: int = 1) -> TfliteModel:
    """Open a file by its signature of that name, else the default one, else the only one, else its graph.

    Raises LoadError where LiteRT refuses the file, UnknownName or UsageError where no signature is the one.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        signatures = interpreter.get_signature_list()
        key = choose(path, tuple(signatures), signature)
        if key:
            runner = interpreter.get_signature_runner(key)
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
            names = [(side, list(signatures[key][side])) for side in ("inputs", "outputs")]
            inputs, outputs = (
                {name: details[name] for name in listed}
                for (_, listed), details in zip(names, (inputs, outputs), strict=True)
            )
            return TfliteModel(path, interpreter, runner, inputs, outputs)
    except (ValueError, RuntimeError) as error:
        raise LoadError(f"LiteRT cannot load {path}: {summary(error, 2)}", fix=_fix_of(str(error))) from error
    sides = (interpreter.get_input_details(), interpreter.get_output_details())
    named = [{detail["name"]: detail for detail in side} for side in sides]
    if [len(side) for side in named] != [len(side) for side in sides]:
        raise LoadError(f"{path} has two inputs or outputs of one name", fix="convert it again with a signature")
    return TfliteModel(path, interpreter, None, named[0], named[1])


def _fix_of(said: str) -> str:
    if "Flex" in said or "custom op" in said.lower() or "unresolved" in said.lower():
        return "convert it again with built-in operators only; this one has operators a stock interpreter lacks"
    return "copy or convert it again"


def choose(path: Path, signatures: tuple[str, ...], wanted: str) -> str:
    """Choose a signature; an empty string where the file has none and none was asked for."""
    if wanted and wanted not in signatures:
        raise UnknownName.among(f"signature in {path}", wanted, signatures)
    if wanted or not signatures:
        return wanted
    if DEFAULT in signatures:
        return DEFAULT
    if len(signatures) > 1:
        raise UsageError(
            f"{path} has several signatures and none is the default: {', '.join(signatures)}",
            fix=f"choose one with --signature, for example --signature {signatures[0]}",
        )
    return signatures[0]


def inputs_of(model: TfliteModel) -> tuple[TensorSpec, ...]:
    """Read what callers feed; raises LoadError for a type that is not supported."""
    return tuple(_spec(name, detail, model.path) for name, detail in model.inputs.items())


def _spec(name: str, detail: dict[str, Any], path: Path) -> TensorSpec:
    import numpy as np

    dtype = np.dtype(detail["dtype"]).name
    if dtype not in DTYPES:
        raise LoadError(f"the input {name} of {path} is of type {dtype}, which edgeproof does not feed")
    shape: list[Dim] = [int(size) for size in detail["shape"]]
    for axis, size in enumerate(detail.get("shape_signature", ())):
        if size == -1:
            shape[axis] = BATCH if axis == 0 else f"{name}_{axis}"
    return TensorSpec(name, dtype, tuple(shape))


def parameters_of(model: TfliteModel) -> int:
    """Count the numbers in floating and 8-bit constants that operators read."""
    import math

    import numpy as np

    # NOTE: Why a private name: nothing public tells constants from what is computed.
    operators = model.interpreter._get_ops_details()
    read = {int(index) for operator in operators for index in operator["inputs"]}
    computed = {int(index) for operator in operators for index in operator["outputs"]}
    computed |= {int(detail["index"]) for detail in model.inputs.values()}
    return sum(
        math.prod(int(size) for size in detail["shape"])
        for detail in model.interpreter.get_tensor_details()
        if detail["index"] in read - computed
        and len(detail["shape"])
        and np.dtype(detail["dtype"]).name in ("float32", "float16", "int8", "uint8")
    )
