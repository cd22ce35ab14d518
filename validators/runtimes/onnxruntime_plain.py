"""ONNX Runtime on the CPU without graph optimisations: every operator as the file has it, none joined to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validators.runtimes import RUNTIMES, Arrays, Runtime, Subject, cannot_open
from validators.runtimes.onnxruntime import ONNXRUNTIME

if TYPE_CHECKING:
    import numpy as np


class PlainSession:
    """An inference session that multiplies in float what stands between QuantizeLinear and DequantizeLinear."""

    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the whole graph."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


def open_plain(subject: Subject) -> PlainSession:
    """Load the file with all graph optimisations off."""
    try:
        return PlainSession(subject.file.path, subject.threads)
    except Exception as error:
        raise cannot_open("ONNX Runtime without optimisations", subject.file.path, error) from error


RUNTIMES.register(Runtime("onnxruntime_plain", "ONNX Runtime without graph optimisations", ONNXRUNTIME, open_plain))
