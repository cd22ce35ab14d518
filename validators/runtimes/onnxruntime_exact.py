"""ONNX Runtime on the CPU with products of integers that overflow on no processor."""

from __future__ import annotations

from validators.runtimes import RUNTIMES, Runtime, Subject
from validators.runtimes.onnxruntime import ONNXRUNTIME, OnnxRuntimeSession, open_onnxruntime

#: ONNX Runtime's option for products of integers that do not overflow on x86 processors without VNNI, but are slower.
EXACT = ("session.x64quantprecision", "1")


def open_exact(subject: Subject) -> OnnxRuntimeSession:
    """Load the file with exact products of integers."""
    return open_onnxruntime(subject, entries=(EXACT,))


RUNTIMES.register(
    Runtime(
        "onnxruntime_exact",
        "ONNX Runtime with exact products of integers",
        ONNXRUNTIME,
        open_exact,
        path_of="onnx",
        acquits="on ARM, and on x86 processors with VNNI, it is right; on this one ONNX Runtime adds two products of "
        "8-bit integers in 16 bits, which overflow (onnxruntime#6004): quantize its weights to 7 bits (reduce_range)",
    )
)
