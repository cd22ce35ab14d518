"""ONNX Runtime on the CPU, with all its graph optimisations."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from convert.spec import CUSTOM
from convert.worker import Environment
from validators.fusion import converted
from validators.runtimes import RUNTIMES, Arrays, Inference, Runtime, Session, Subject, cannot_open, whole_run

if TYPE_CHECKING:
    import numpy as np

ONNXRUNTIME = Environment("onnxruntime", ("numpy", "onnxruntime", "onnx"))


class OnnxRuntimeSession(Session):
    """An inference session; `plain` leaves every operator as the file has it, none joined to another.

    `entries` are options of the session by their keys.
    """

    def __init__(
        self, path: str, threads: int, *, plain: bool = False, entries: tuple[tuple[str, str], ...] = ()
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if plain:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for key, value in entries:
            options.add_session_config_entry(key, value)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._foreign = [
            value.name
            for value in (*self._session.get_inputs(), *self._session.get_outputs())
            if not value.type.startswith("tensor(") or value.type == "tensor(string)"
        ]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the whole graph."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))

    def ready(self, inputs: Arrays) -> Inference:
        """Bind inputs and outputs, as ONNX Runtime's C API does; text, sequences and optional values cannot be.

        A binding is of one set of inputs, because it keeps the outputs' memory, which has the shapes they had first.
        """
        import onnxruntime

        if self._foreign:
            return whole_run(self, inputs, f"ONNX Runtime binds tensors of numbers, and {self._foreign[0]} is none")
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name in self._names:
            binding.bind_output(name, "cpu")
        return Inference(functools.partial(self._session.run_with_iobinding, binding))


def open_onnxruntime(
    subject: Subject, *, plain: bool = False, entries: tuple[tuple[str, str], ...] = ()
) -> OnnxRuntimeSession:
    """Load the file, with all graph optimisations on unless it is to be `plain`."""
    try:
        return OnnxRuntimeSession(subject.file.path, subject.threads, plain=plain, entries=entries)
    except Exception as error:
        how = "ONNX Runtime without optimisations" if plain else "ONNX Runtime"
        raise cannot_open(how, subject.file.path, error) from error


RUNTIMES.register(
    Runtime(
        "onnxruntime",
        "ONNX Runtime",
        ONNXRUNTIME,
        open_onnxruntime,
        formats=("onnx",),
        supports=(CUSTOM,),
        drags=converted,
    )
)
