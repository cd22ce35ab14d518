"""LiteRT, with XNNPACK, as phones run it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from convert.worker import Environment
from validators.delegation import names_left, undelegated
from validators.runtimes import RUNTIMES, Arrays, Inference, Runtime, Session, Subject, cannot_open, whole_run

if TYPE_CHECKING:
    import numpy as np

LITERT = Environment("litert", ("numpy", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"))


class LiteRTSession(Session):
    """An interpreter that resizes to what it is given; `kernels` names one of LiteRT's resolvers of operators."""

    def __init__(self, path: str, threads: int, kernels: str = "AUTO") -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_path=path, num_threads=threads, experimental_op_resolver_type=OpResolverType[kernels]
        )
        signatures = self._interpreter.get_signature_list()
        self._key = "serving_default" if "serving_default" in signatures else next(iter(signatures), "")
        self._runner: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}  # that inputs were set to by name; empty where that is not known
        if self._key:
            self._runner = self._interpreter.get_signature_runner(self._key)
            self._order = list(signatures[self._key]["outputs"])
            self._inputs = self._runner.get_input_details()
            self._whole = "" if len(signatures) == 1 else f"the file has {len(signatures)} signatures"
            if not self._whole and not self._is_whole_graph():
                self._whole = "the inputs and outputs of its signature are not those of its graph"
        else:
            self._whole = ""
            self._inputs = {d["name"]: d for d in self._interpreter.get_input_details()}
            self._outputs = {d["name"]: d["index"] for d in self._interpreter.get_output_details()}
            self._interpreter.allocate_tensors()

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run by the signature where the file has one, else by tensor names."""
        self._shapes = {}
        if self._key:
            self._runner = self._runner or self._interpreter.get_signature_runner(self._key)
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

    def ready(self, inputs: Arrays) -> Inference:
        """Set the input tensors, and invoke the interpreter: where a signature is the file's only graph, or none is."""
        if self._whole:
            return whole_run(self, inputs, self._whole)
        return Inference(self._interpreter.invoke, functools.partial(self._place, inputs))

    def _place(self, inputs: Arrays) -> None:
        # NOTE: Why the runner goes: LiteRT's interpreter refuses to be invoked while anything else holds it.
        self._runner = None
        shapes = {name: array.shape for name, array in inputs.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                # A signature's runner resizes fixed dimensions, too.
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape, strict=not self._key)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, array in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], array)

    def _is_whole_graph(self) -> bool:
        """Whether the signature's tensors are those that the interpreter itself takes and gives."""
        sides = (
            (self._inputs.values(), self._interpreter.get_input_details()),
            (self._runner.get_output_details().values(), self._interpreter.get_output_details()),
        )
        return all({(d["name"], d["index"]) for d in one} == {(d["name"], d["index"]) for d in o} for one, o in sides)


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
