"""Results of the precision bench: what became of each model and format, kept as JSON in build/zoo/precision."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fingerprint
from cells import Store
from models import BY_NAME
from places import HERE, KEPT, ROOT

FOLDER = KEPT / "precision"

#: What is measured, by name, with its family: the samples, then one of each family, then more.
SUBJECTS = {
    "samples/digits.pt": "convolutions, trained",
    "samples/digits.keras": "convolutions, trained",
    "samples/digits.onnx": "convolutions, an ONNX file",
    "samples/digits.tflite": "convolutions, a TFLite file",
    "keras/hand_lstm": "recurrent (LSTM)",
    "keras/hand_unet": "U-Net",
    "torch/hand_block": "attention block",
    "torch/hf_bert_classifier": "transformer encoder, text",
    "keras/app_mobilenetv2": "depthwise, inverted residuals",
    "torch/timm_mobilenetv3": "depthwise, hard-swish, squeeze-excite",
    "torch/timm_efficientnet_lite0": "EfficientNet",
    "torch/timm_convnext_atto": "ConvNeXt",
    "torch/timm_vit_tiny": "vision transformer",
    "torch/timm_resnet18": "ResNet",
    "keras/app_mobilenetv3small": "depthwise, hard-swish, squeeze-excite",
    "torch/hand_segmenter": "U-Net, GroupNorm",
    "torch/timm_mobilenetv4_conv_small_050": "depthwise, inverted bottlenecks",
    "keras/hand_attention": "transformer encoder, text",
    "torch/tv_squeezenet1_1": "fire modules",
    "torch/tv_shufflenet_v2_x0_5": "channel shuffle",
    "torch/timm_repvit_m0_9": "RepViT",
    "torch/timm_regnet": "grouped convolutions",
    "keras/hand_conv1d": "1-D convolutions",
    "keras/app_efficientnetb0": "EfficientNet, swish",
    "torch/hand_lstm": "recurrent (LSTM), unrolled",
}
FORMATS = ("tflite", "onnx")

PRECISION = "int8"
SEARCH_SECONDS = 120

#: How quantizers say that not every layer computes in integers.
IN_FLOAT = ("in float", "only weights are quantized")

#: Below this, two measurements of one file differ by the order of additions.
SAME_DB = 0.05


@dataclass(frozen=True, slots=True)
class File:
    """One reduced file: what it lost, its size, and its latency over the float file's; or why there is none."""

    sqnr_db: float | None = None
    agreement: float | None = None
    bytes: int = 0
    latency_share: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One model and format; kept as JSON."""

    model: str
    form: str
    tool: str = ""
    built_as: str = ""
    status: str = "ERROR"
    reason: str = ""
    command: str = ""
    seconds: float = 0.0
    base: str = ""  # the candidate that made the float file
    quantizer: str = ""
    float_bytes: int = 0
    ours: File = field(default_factory=File)
    reported_db: float | None = None
    first_db: float | None = None  # before any search
    ratio: float | None = None
    ranges: str = ""
    equalised: bool = False
    kept: tuple[tuple[str, str], ...] = ()  # layer and precision
    tries: int = 0
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    by_hand: dict[str, File] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def best_by_hand(self) -> float | None:
        return max((made.sqnr_db for made in self.by_hand.values() if made.sqnr_db is not None), default=None)

    @property
    def beaten(self) -> bool:
        """Whether a tool's defaults keep more of the signal than ours does."""
        best, ours = self.best_by_hand, self.ours.sqnr_db
        return best is not None and (ours is None or ours < best - SAME_DB)

    @property
    def whole(self) -> bool:
        """Whether every layer is quantized."""
        return not self.kept and not any(word in note for note in self.notes for word in IN_FLOAT)


def source_of(name: str) -> tuple[str, dict[str, Any]]:
    """Give the digest of what a model is, and its arguments for `python -m convert`."""
    if name.startswith("samples/"):
        path = ROOT / name
        return fingerprint.digest(str(path.stat().st_size), path.read_bytes().hex()), {"model": str(path)}
    entry = BY_NAME[name]
    return fingerprint.of_model(entry), Store().model(entry)


def file_name(name: str) -> str:
    return name.replace("/", "-")


def path_of(name: str, form: str) -> Path:
    return FOLDER / "cells" / f"{file_name(name)}.{form}.json"


def read(name: str, form: str) -> Result | None:
    """Give the kept result, of whatever code; None where there is none that can be read."""
    path = path_of(name, form)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        found["ours"] = File(**found["ours"])
        found["by_hand"] = {tool: File(**made) for tool, made in found["by_hand"].items()}
        return Result(**found)
    except (ValueError, KeyError, TypeError) as error:
        print(f"{path.name} is of another bench, or damaged, and is measured again: {error}")
        return None


def keep(result: Result) -> None:
    path = path_of(result.model, result.form)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(result), indent=1))
    new.rename(path)


def tool_of() -> str:
    """Digest the tool's code and what measures here."""
    own = ("natural", "by_defaults", "loss", "paired")
    return fingerprint.digest(fingerprint.of_tool(), *((HERE / f"{name}.py").read_text() for name in own))
