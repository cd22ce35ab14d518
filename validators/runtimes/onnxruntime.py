"""ONNX Runtime on the CPU, with all its graph optimisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.spec import CUSTOM
from convert.worker import Environment
from validators.fusion import converted
from validators.runtimes import RUNTIMES, Arrays, Runtime, Subject, cannot_open

if TYPE_CHECKING:
    import numpy as np

ONNXRUNTIME = Environment("onnxruntime", ("numpy", "onnxruntime", "onnx"))


class OnnxRuntimeSession:
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

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the whole graph."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


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
