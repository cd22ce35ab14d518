"""TorchScript archives as artifacts: self-describing through an extra file, read without PyTorch."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from convert.formats import FORMATS, Draft, Facts, Format, Unsigned
from convert.sources import Probe
from convert.sources._probe import WHOLE, probe
from convert.sources._torch import read_promise
from convert.spec import (
    FP16,
    FP32,
    INT8,
    INT8_DYNAMIC,
    INT8_WEIGHTS,
    SIGNATURE_FILE,
    Promise,
    Signature,
    TensorSpec,
)

_EXTRA = f"extra/{SIGNATURE_FILE}"
_STORAGE = re.compile(r"\btorch (\w+)Storage\b")
_OPERATOR = re.compile(r"\b(?:torch|ops\.\w+)\.(\w+)\(")


def recognise(seen: Probe) -> bool:
    """Know the archive by its constants, which only TorchScript has."""
    return seen.has("constants.pkl") and seen.has("data.pkl")


def seal(path: Path, draft: Draft) -> None:
    """Write the promised signature into the archive as its extra file; argument names are the route's to keep."""
    rewrite(path, Promise(draft.signature.inputs, _names(draft.signature.outputs), draft.signature.outputs))


def rewrite(path: Path, promise: Promise) -> None:
    """Write an archive again with `promise` as its signature and without what differs between equal modules.

    NOTE: Why rewritten: PyTorch names the archive's root after the file and adds debug pickles that hold the source
    paths of the machine it ran on; two saves of one module differ in both, and neither belongs in a release.
    """
    seen = probe(path)
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            member = entry.filename.removeprefix(f"{seen.root}/")
            if not member.endswith((".debug_pkl", _EXTRA, "serialization_id")):
                new.writestr(_entry(member), old.read(entry))
        new.writestr(_entry(_EXTRA), msgspec.json.format(msgspec.json.encode(promise)))
    partial.replace(path)


def _entry(member: str) -> zipfile.ZipInfo:
    # The earliest date a zip archive can hold: equal modules must give equal bytes.
    return zipfile.ZipInfo(f"model/{member}", (1980, 1, 1, 0, 0, 0))


def _names(specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    return tuple(spec.name for spec in specs)


def read(path: Path) -> Facts:
    """Read the extra file and count the calls in the archive's code.

    Raises Unsigned where the archive carries no full signature.
    """
    seen = probe(path)
    promise = read_promise(seen)
    if promise is None or not promise.outputs:
        raise Unsigned(f"{path} carries no full {SIGNATURE_FILE}: TorchScript itself knows no shapes")
    operators = operators_of(seen)
    precision = precision_of(operators, _dtypes(seen))
    return Facts(Signature(promise.inputs, promise.outputs), operators, precision=precision)


def operators_of(seen: Probe) -> dict[str, int]:
    """Count the calls in an archive's code, by operator."""
    operators: Counter[str] = Counter()
    for member in seen.members:
        if member.startswith(f"{seen.root}/code/") and member.endswith(".py"):
            operators.update(_OPERATOR.findall(seen.read(member).decode(errors="replace")))
    return dict(sorted(operators.items()))


def precision_of(operators: Mapping[str, int], dtypes: Collection[str]) -> str:
    """Tell the precision from the operators an archive's code calls and the dtypes of its constants."""
    if "quantize_per_tensor" in operators:
        return INT8
    if any(name in operators for name in ("linear_dynamic", "quantized_lstm", "quantized_gru")):
        return INT8_DYNAMIC
    if "embedding_byte" in operators or ("dequantize" in operators and "QInt8" in dtypes):
        return INT8_WEIGHTS
    return FP16 if "Half" in dtypes else FP32


def _dtypes(seen: Probe) -> set[str]:
    """Name the dtypes of the archive's constants by their storages, as PyTorch names these, running nothing in it."""
    found: set[str] = set()
    for name in ("constants.pkl", "data.pkl"):
        if seen.has(name):
            opcodes = pickletools.genops(seen.read(f"{seen.root}/{name}", WHOLE))
            globals_ = (str(argument) for opcode, argument, _ in opcodes if opcode.name == "GLOBAL")
            found.update(_STORAGE.findall("\n".join(globals_)))
    return found


FORMATS.register(Format("torchscript", "TorchScript (.pt)", ".pt", recognise, seal, read))
