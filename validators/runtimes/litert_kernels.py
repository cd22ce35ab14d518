"""LiteRT without XNNPACK: its own optimised kernels, and its reference kernels, which other builds run."""

from __future__ import annotations

from functools import partial

from validators.runtimes import RUNTIMES, Runtime
from validators.runtimes.litert import LITERT, open_litert

for name, title, kernels in (
    ("litert_builtin", "LiteRT's built-in kernels", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
    ("litert_reference", "LiteRT's reference kernels", "BUILTIN_REF"),
):
    RUNTIMES.register(Runtime(name, title, LITERT, partial(open_litert, kernels=kernels), path_of="tflite"))
