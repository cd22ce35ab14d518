"""ONNX Runtime on the CPU without graph optimisations: every operator as the file has it, none joined to another."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes.onnxruntime import ONNXRUNTIME, OnnxRuntimeSession, open_onnxruntime


def open_plain(subject: Subject) -> OnnxRuntimeSession:
    """Load the file with all graph optimisations off: in float is multiplied what stands between integers."""
    return open_onnxruntime(subject, plain=True)


RUNTIMES.register(
    Runtime("onnxruntime_plain", "ONNX Runtime without graph optimisations", ONNXRUNTIME, open_plain, path_of="onnx")
)
