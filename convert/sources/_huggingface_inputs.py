"""What a Hugging Face model takes: inputs named as tokenizers and image processors do, with sizes and ranges."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec

from convert.errors import MissingInputs
from convert.sources._measure import OTHER_SIZES
from convert.spec import BATCH, Dim, TensorSpec

#: Beside the words themselves, in the order of every tokenizer-fed model's documentation.
TEXT = ("input_ids", "attention_mask", "token_type_ids")

#: The free dimensions of text, and of what a decoder has written so far.
SEQUENCE = "sequence"
DECODED = "decoder_sequence"


class _Size(msgspec.Struct):
    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None


class _Preprocessor(msgspec.Struct):
    """What of an image or audio processor's configuration tells sizes."""

    size: int | _Size | None = None
    crop_size: int | _Size | None = None
    do_center_crop: bool = False
    sampling_rate: int | None = None
    nb_max_frames: int | None = None
    feature_size: int | None = None


class _Tokenizer(msgspec.Struct):
    model_input_names: list[str] | None = None


def inputs_of(model: Any, config: Any, folder: Path) -> tuple[TensorSpec, ...]:
    """Derive a model's inputs from its class, its configuration and the files of its tokenizer or processor.

    Raises MissingInputs, with the exact option to add, where they do not tell.
    """
    taken = inspect.signature(model.forward).parameters
    main = model.main_input_name
    specs: list[TensorSpec] = []
    if "input_ids" in taken and main in ("input_ids", "pixel_values"):
        specs += text(taken, config, folder)
    if "pixel_values" in taken and (main == "pixel_values" or _own(config, "vision_config") is not None):
        specs.append(image(config, _read(folder / "preprocessor_config.json", _Preprocessor)))
    if main in ("input_values", "input_features"):
        specs.append(audio(main, config, _read(folder / "preprocessor_config.json", _Preprocessor)))
    if "decoder_input_ids" in taken and _own(config, "is_encoder_decoder"):
        high = int(_of(config, "vocab_size", "text_config") or 1) - 1
        specs.append(TensorSpec("decoder_input_ids", "int64", (BATCH, DECODED), 0, high))
    if not specs:
        needed = [name for name, p in taken.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        raise missing(needed or [main], "float32[batch,SIZE]")
    return tuple(specs)


def missing(names: list[str], form: str, hint: str = "with the true sizes") -> MissingInputs:
    """Build the error that shows the exact `--input` to add."""
    added = " ".join(f"--input '{name}:{form}'" for name in names)
    return MissingInputs(f"the folder does not say what size its model's {names[0]} is", fix=f"add {added} {hint}")


def text(taken: Any, config: Any, folder: Path) -> list[TensorSpec]:
    """Give the tokenizer's inputs: those that its configuration names, else those that the model was trained with."""
    said = _read(folder / "tokenizer_config.json", _Tokenizer).model_input_names
    types = int(_of(config, "type_vocab_size", "text_config") or 0)
    # NOTE: Why not the class alone: RoBERTa's forward takes token types and its one type is always 0.
    wanted = said if said is not None else [name for name in TEXT if name != TEXT[2] or types > 1]
    longest = _of(config, "max_position_embeddings", "text_config") or _of(config, "n_positions", "text_config")
    length: Dim = SEQUENCE
    if isinstance(longest, int) and 0 < longest < max(OTHER_SIZES):
        length = longest  # too short to vary
    highs = {TEXT[0]: int(_of(config, "vocab_size", "text_config") or 1) - 1, TEXT[1]: 1, TEXT[2]: max(types, 1) - 1}
    names = [name for name in TEXT if name in taken and (name == TEXT[0] or name in wanted)]
    return [TensorSpec(name, "int64", (BATCH, length), 0, highs[name]) for name in names]


def image(config: Any, processor: _Preprocessor) -> TensorSpec:
    """Give the image a model takes, at the size it was configured for or its processor cuts."""
    channels = _of(config, "num_channels", "vision_config", "backbone_config") or 3
    size = _of(config, "image_size", "vision_config", "backbone_config")
    cut = processor.crop_size if processor.do_center_crop and processor.crop_size is not None else processor.size
    for found in (size, cut):
        pair = _pair(found)
        if pair is not None:
            return TensorSpec("pixel_values", "float32", (BATCH, int(channels), *pair))
    raise missing(["pixel_values"], f"float32[{BATCH},{channels},HEIGHT,WIDTH]")


def audio(name: str, config: Any, processor: _Preprocessor) -> TensorSpec:
    """Give the sound a model takes, where its length is fixed; raises MissingInputs where any length will do."""
    bins = _of(config, "num_mel_bins")
    if name == "input_features" and bins and _own(config, "max_source_positions"):
        # Whisper's encoder halves the frames, so it takes twice as many as it has positions.
        return TensorSpec(name, "float32", (BATCH, int(bins), 2 * int(config.max_source_positions)))
    if name == "input_values" and bins and _own(config, "max_length") and _own(config, "frequency_stride"):
        return TensorSpec(name, "float32", (BATCH, int(config.max_length), int(bins)))
    if name == "input_values":
        rate = processor.sampling_rate or 16000
        raise missing(
            [name], f"float32[{BATCH},{rate}]", f"for one second at {rate} Hz, or the length your app records"
        )
    raise missing([name], f"float32[{BATCH},FRAMES,{bins or processor.feature_size or 'BINS'}]")


def _own(config: Any, name: str) -> Any:
    return getattr(config, name, None)


def _of(config: Any, name: str, *parts: str) -> Any:
    """Read a setting of a configuration, or of the first of its parts that has it."""
    for holder in (config, *(_own(config, part) for part in parts)):
        value = _own(holder, name)
        if value is not None:
            return value
    return None


def _pair(size: Any) -> tuple[int, int] | None:
    match size:
        case int():
            return size, size
        case [int() as height, int() as width]:
            return height, width
        case _Size(height=int() as height, width=int() as width):
            return height, width
        case _Size(shortest_edge=int() as edge):
            return edge, edge
    return None


def _read(path: Path, kind: type[Any]) -> Any:
    """Read a file that may be missing; what is not as expected in it says nothing either."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return kind()
