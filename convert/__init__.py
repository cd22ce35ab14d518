"""Convert trained models to the formats phones and edge boards run, and prove every artifact.

    from convert import convert
    report = convert("samples/digits.pt", to=["tflite", "onnx"])
    assert report.exit_code == 0

Importing this package loads no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "convert", "inspect", "signature_file"]

if TYPE_CHECKING:
    from convert.api import convert, inspect
    from convert.spec import signature_file


def __getattr__(name: str) -> Any:
    # NOTE: Why lazy: `python -m convert --help` imports this package first and must stay instant.
    if name in ("convert", "inspect"):
        from convert.terminal import require_own_validators

        require_own_validators()
        from convert import api

        return getattr(api, name)
    if name == "signature_file":
        from convert.spec import signature_file

        return signature_file
    raise AttributeError(f"module 'convert' has no attribute {name!r}")
