"""How an image file becomes an input: `--preprocess size=224x224,scale=1/255,mean=0.485:0.456:0.406,...`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import UnknownName, UsageError
from convert.layout import CHANNELS
from convert.spec import NCHW, NHWC, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

EXAMPLE = "--preprocess size=224x224,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"

#: What each key means, and what its values look like.
KEYS = {
    "size": "HEIGHTxWIDTH of the input; default: the model's",
    "scale": "what pixels of 0..255 are multiplied with, such as 1/255 or 1; models of floats need it said",
    "mean": "subtracted after scaling, one number or one per channel, separated by colons",
    "std": "divided by after that, likewise",
    "layout": "nchw or nhwc; default: the model's",
    "resize": "nearest, bilinear, bicubic, lanczos or box; default: bilinear",
    "crop": "none stretches to the size, center covers it and cuts off what hangs over; default: none",
    "shorter": "with crop=center: what the shorter side is resized to before; default: what just covers",
    "channels": "rgb, bgr, grey or rgba; default: by the model's number of channels",
}
RESIZES = ("nearest", "bilinear", "bicubic", "lanczos", "box")
CROPS = ("none", "center")
#: Pillow's mode for each order of channels, and how many there are.
MODES = {"rgb": ("RGB", 3), "bgr": ("RGB", 3), "grey": ("L", 1), "rgba": ("RGBA", 4)}

#: Modes of images whose channels have more than 8 bits.
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True, slots=True)
class Preprocess:
    """All that turns a decoded image into one row; `height` and `width` are None where images keep their own size."""

    spec: TensorSpec
    height: int | None
    width: int | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str
    resize: str
    crop: str
    shorter: int | None
    channels: str

    def apply(self, path: Path) -> np.ndarray:
        """Read an image file; raises UsageError where it is damaged."""
        import numpy as np
        import PIL.Image

        try:
            with PIL.Image.open(path) as image:
                if image.mode in DEEP:
                    raise UsageError(
                        f"--calibration: {path} has more than 8 bits per channel",
                        fix="save it as 8 bits, or give arrays",
                    )
                pixels = np.asarray(self._sized(image.convert(MODES[self.channels][0])))
        except (OSError, SyntaxError, ValueError, struct.error, PIL.Image.DecompressionBombError) as error:
            raise UsageError(
                f"--calibration: cannot read the image {path}: {error}", fix="leave it out, or save it again"
            ) from error
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        pixels = pixels[:, :, ::-1] if self.channels == "bgr" else pixels
        if np.dtype(self.spec.dtype).kind == "f":
            scaled = pixels.astype(np.float64) * self.scale
            pixels = ((scaled - np.array(self.mean)) / np.array(self.std)).astype(self.spec.dtype)
        return (pixels.transpose(2, 0, 1) if self.layout == NCHW else pixels)[None]

    def _sized(self, image: Image) -> Image:
        """Bring an image to the size, stretched or cropped."""
        import PIL.Image

        if self.height is None or self.width is None:
            return image
        how = PIL.Image.Resampling[self.resize.upper()]
        if self.crop == "none":
            return image.resize((self.width, self.height), how)
        factor = max(self.width / image.width, self.height / image.height)
        if self.shorter is not None:
            factor = self.shorter / min(image.width, image.height)
        width, height = (max(round(side * factor), 1) for side in (image.width, image.height))
        if width < self.width or height < self.height:
            raise UsageError(
                f"--preprocess: {self.height}x{self.width} cannot be cut out of {height}x{width}",
                fix=f"give shorter={max(self.width, self.height)} or more, or leave it out",
            )
        left, top = (width - self.width) // 2, (height - self.height) // 2
        return image.resize((width, height), how).crop((left, top, left + self.width, top + self.height))


def parse(text: str, spec: TensorSpec) -> Preprocess:
    """Read what `--preprocess` says, for an image input.

    Raises UsageError for what cannot be read, does not fit the input, or must be said and is not.
    """
    said = _pairs(text)
    layout = _one_of("layout", said.get("layout") or spec.layout or _layout(spec), (NCHW, NHWC))
    rows, columns, depth = spec.shape[1:] if layout == NHWC else (*spec.shape[2:], spec.shape[1])
    channels = _one_of("channels", said["channels"], tuple(MODES)) if "channels" in said else _channels(depth, spec)
    count = MODES[channels][1]
    if isinstance(depth, int) and depth != count:
        raise UsageError(
            f"--preprocess: channels={channels} are {count}, and {spec} has {depth} as {layout}",
            fix="state the layout and channels the model takes",
        )
    floats = "float" in spec.dtype
    for key in ("scale", "mean", "std"):
        if key in said and not floats:
            raise UsageError(f"--preprocess: {key} has no meaning for {spec}, which takes pixels", fix="leave it out")
    if floats and "scale" not in said:
        raise UsageError(
            f"--preprocess does not say the scale, and {spec} takes floats",
            fix="add what the model was trained with: scale=1/255, or scale=1 for 0..255",
        )
    height, width = _size(said.get("size", ""), rows, columns, spec)
    crop = _one_of("crop", said.get("crop", "none"), CROPS)
    if "shorter" in said and (crop == "none" or height is None):
        raise UsageError("--preprocess: shorter has a meaning only with crop=center and a size", fix="add crop=center")
    std = _numbers("std", said.get("std", "1"), count)
    if 0 in std:
        raise UsageError("--preprocess: std is divided by, and has a 0", fix="give numbers above zero")
    return Preprocess(
        spec,
        height,
        width,
        _number("scale", said.get("scale", "1")),
        _numbers("mean", said.get("mean", "0"), count),
        std,
        layout,
        _one_of("resize", said.get("resize", "bilinear"), RESIZES),
        crop,
        _whole("shorter", said["shorter"]) if "shorter" in said else None,
        channels,
    )


def _pairs(text: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UsageError(f"cannot read --preprocess {part!r}", fix=f"write KEY=VALUE, as {EXAMPLE}")
        if key not in KEYS:
            raise UnknownName.among("key of --preprocess", key, KEYS)
        if key in said:
            raise UsageError(f"--preprocess states {key!r} twice", fix="state every key once")
        said[key] = value
    return said


def _one_of(key: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UnknownName.among(f"{key} of --preprocess", value, known)
    return value


def _number(key: str, text: str) -> float:
    """Read a number or a fraction such as 1/255."""
    above, slash, below = text.partition("/")
    try:
        value = float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        value = float("nan")
    if not abs(value) < float("inf"):
        raise _unreadable(key, text)
    return value


def _numbers(key: str, text: str, count: int) -> tuple[float, ...]:
    values = tuple(_number(key, part) for part in text.split(":"))
    if len(values) not in (1, count):
        raise UsageError(
            f"--preprocess: {key} has {len(values)} numbers for {count} channel(s)", fix=f"{key}: {KEYS[key]}"
        )
    return values


def _whole(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise _unreadable(key, text)
    return int(text)


def _unreadable(key: str, text: str) -> UsageError:
    return UsageError(f"cannot read --preprocess {key}={text}", fix=f"{key}: {KEYS[key]}")


def _size(text: str, rows: Any, columns: Any, spec: TensorSpec) -> tuple[int | None, int | None]:
    """Give the size that is said, else the model's; None where both leave it open and images keep their own."""
    if not text:
        return (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else (None, None)
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise _unreadable("size", text)
    for stated, own in ((int(height), rows), (int(width), columns)):
        if isinstance(own, int) and own != stated:
            raise UsageError(
                f"--preprocess: size={text} does not fit {spec}", fix=f"leave size out, or give size={rows}x{columns}"
            )
    return int(height), int(width)


def _layout(spec: TensorSpec) -> str:
    """Say where an input has its channels, by their number, where the source does not say it."""
    found = [layout for layout, axis in ((NCHW, 1), (NHWC, 3)) if spec.shape[axis] in CHANNELS]
    if len(found) != 1:
        raise UsageError(
            f"--preprocess does not say the layout, and {spec} does not show it", fix="add layout=nchw or layout=nhwc"
        )
    return found[0]


def _channels(depth: Any, spec: TensorSpec) -> str:
    usual: dict[Any, str] = {1: "grey", 3: "rgb", 4: "rgba"}
    if depth not in usual:
        raise UsageError(
            f"--preprocess does not say the channels, and {spec} does not show them", fix="add channels=rgb or another"
        )
    return usual[depth]
