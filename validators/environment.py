"""Where and with what a run was made: the versions of what can change a result, and the machine."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

#: Distributions whose versions can change a result.
FRAMEWORKS = (
    "edgeproof",
    "tensorflow",
    "keras",
    "torch",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "tf2onnx",
    "numpy",
    "protobuf",
)


def versions(names: Iterable[str] = FRAMEWORKS) -> dict[str, str]:
    """Give the installed versions of everything that can change a result; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Describe the machine the numbers were measured on."""
    import psutil

    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": str(psutil.cpu_count(logical=True)),
        "memory_bytes": str(psutil.virtual_memory().total),
    }
