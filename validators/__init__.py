"""Judge artifacts: structure, numerical parity against the original model, latency, memory and size.

    python -m validators build/digits/digits.tflite --reference samples/digits.pt

Importing this package loads no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["replay", "validate"]
__edgeproof__ = True  # another package of this name is on the index; see convert.terminal.require_own_validators

if TYPE_CHECKING:
    from validators.api import validate
    from validators.golden import replay


def __getattr__(name: str) -> Any:
    # NOTE: Why lazy: `python -m validators --help` imports this package first and must stay instant.
    if name == "validate":
        from validators.api import validate

        return validate
    if name == "replay":
        from validators.golden import replay

        return replay
    raise AttributeError(f"module 'validators' has no attribute {name!r}")
