"""Weights in the safetensors format, for a PyTorch architecture."""

from __future__ import annotations

import struct

import msgspec

from convert.errors import LoadError, UnknownSource
from convert.sources import SOURCES, TORCH, LoadedModel, Probe, Source
from convert.sources._architecture import fit, require
from convert.spec import LoadOptions, SourceFile

HEADER_LIMIT = 100_000_000  # bytes; the format's own bound


def recognise(seen: Probe) -> str | None:
    """Know the format by its eight-byte header length and the JSON object that follows."""
    if len(seen.head) < 10 or seen.head[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", seen.head[:8])
    if length > HEADER_LIMIT:
        return None
    with seen.path.open("rb") as stream:
        stream.seek(8)
        header = stream.read(length)
    damaged = UnknownSource(
        f"{seen.path} starts like a safetensors file but is truncated or damaged", fix="copy or download it again"
    )
    try:
        entries = msgspec.json.decode(header, type=dict[str, dict[str, object]])
    except msgspec.MsgspecError as error:
        raise damaged from error
    tensors = [entry for name, entry in entries.items() if name != "__metadata__"]
    ends = [_end(entry.get("data_offsets")) for entry in tensors]
    if None in ends or seen.path.stat().st_size != 8 + length + max((end for end in ends if end), default=0):
        raise damaged
    return f"safetensors weights ({len(tensors)} tensors)"


def _end(offsets: object) -> int | None:
    """Give where a tensor's bytes end, or None where its header entry does not say."""
    match offsets:
        case [int(), int() as end]:
            return end
    return None


def load(file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Read the tensors and fit them into the architecture."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(file.path)
    except SafetensorError as error:
        raise LoadError(f"cannot read the weights in {file.path}: {error}", fix="save them again") from error
    require(options, file, list(weights))
    return fit(weights, file, options)


TITLE = "safetensors weights with --architecture"
SOURCES.register(Source("safetensors", TITLE, TORCH, recognise, load, has_model=False))
