"""LiteRT, with XNNPACK, as phones run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.worker import Environment
from validators.delegation import names_left, undelegated
from validators.runtimes import RUNTIMES, Arrays, Runtime, Subject, cannot_open

if TYPE_CHECKING:
    import numpy as np

LITERT = Environment("litert", ("numpy", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"))


class LiteRTSession:
    """An interpreter that resizes to what it is given; `kernels` names one of LiteRT's resolvers of operators."""

    def __init__(self, path: str, threads: int, kernels: str = "AUTO") -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_path=path, num_threads=threads, experimental_op_resolver_type=OpResolverType[kernels]
        )
        signatures = self._interpreter.get_signature_list()
        self._runner: Any = None
        if signatures:
            key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
            self._runner = self._interpreter.get_signature_runner(key)
            self._order = list(signatures[key]["outputs"])
        else:
            self._inputs = {d["name"]: d for d in self._interpreter.get_input_details()}
            self._outputs = {d["name"]: d["index"] for d in self._interpreter.get_output_details()}
            self._interpreter.allocate_tensors()

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run by the signature where the file has one, else by tensor names."""
        if self._runner is not None:
            found = self._runner(**inputs)
            return {name: found[name] for name in self._order}
        for name, array in inputs.items():
            if tuple(self._inputs[name]["shape"]) != array.shape:
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], array.shape, strict=True)
        self._interpreter.allocate_tensors()
        for name, array in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


def open_litert(subject: Subject, kernels: str = "AUTO") -> LiteRTSession:
    """Load the file, with the default delegates where no other `kernels` are named."""
    try:
        return LiteRTSession(subject.file.path, subject.threads, kernels)
    except (ValueError, RuntimeError) as error:
        raise cannot_open("LiteRT", subject.file.path, error) from error


RUNTIMES.register(
    Runtime(
        "litert",
        "LiteRT with XNNPACK",
        LITERT,
        open_litert,
        formats=("tflite",),
        drags=undelegated,
        blames=names_left,
    )
)
