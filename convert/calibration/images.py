"""Calibration data in a folder of images, made inputs as `--preprocess` says; tags of orientation are not followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from convert.calibration import READERS, Preparation, Reader, Row, Rows
from convert.calibration._files import ARRAYS, IMAGES, files_in, left_out, of_kind
from convert.calibration._preprocess import EXAMPLE, parse
from convert.errors import UsageError
from convert.spec import BATCH, Signature, TensorSpec


def recognise(origin: str) -> bool:
    """Whether it is a folder that holds images and no arrays."""
    if not Path(origin).is_dir():
        return False
    files = files_in(Path(origin))
    return bool(of_kind(files, IMAGES)) and not of_kind(files, ARRAYS)


def read(job: Preparation) -> Rows:
    """Open a folder; no image is decoded yet."""
    import PIL  # noqa: F401  where it is missing, that is said before anything else

    spec = _image(job.signature, job.origin)
    if not job.preprocess:
        raise UsageError(
            f"--calibration: {job.origin} holds images, and nothing says how they become {spec}",
            fix=f"add what the model was trained with, such as {EXAMPLE}",
        )
    how = parse(job.preprocess, spec)
    files = files_in(Path(job.origin))
    images = of_kind(files, IMAGES)

    def rows(wanted: Sequence[int]) -> Iterator[Row]:
        for index in wanted:
            yield str(images[index]), {spec.name: how.apply(images[index])}

    size = f"{how.height}x{how.width}" if how.height else "their own size"
    crop = "" if how.crop == "none" else " and a crop of the center"
    note = f"images were brought to {size} ({how.resize}{crop}), {how.channels}, {how.layout}"
    return Rows(len(images), rows, (note, *left_out(job.origin, files, images)))


def _image(signature: Signature, origin: str) -> TensorSpec:
    """Give the one input that images can be; raises UsageError where there is none, or more inputs than that."""
    spec = signature.inputs[0]
    if len(signature.inputs) != 1 or len(spec.shape) != 4 or spec.shape[0] not in (BATCH, 1):
        raise UsageError(
            f"--calibration: {origin} holds images, and the model takes {', '.join(map(str, signature.inputs))}",
            fix="give an .npz with an array for every input, or package.module:callable",
        )
    if spec.dtype not in ("float32", "float16", "float64", "uint8"):
        raise UsageError(
            f"--calibration: {origin} holds images of 8 bits without a sign, and the model takes {spec}",
            fix="give arrays, or package.module:callable",
        )
    return spec


READERS.register(Reader("images", "a folder of images", recognise, read, preprocesses=True))
