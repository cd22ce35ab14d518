"""Inputs that resemble real ones, to calibrate with and to judge by: smooth noise, token ids, and the real digits."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from models import Entry
from places import ROOT

from convert.spec import TensorSpec

CALIBRATION, EVALUATION = 160, 64
SEED = 20_26

#: Values are clipped here: images normalised by the mean and deviation of ImageNet lie within about as much.
GREATEST = 2.5

#: An axis with fewer places than this is channels, and two at most are space or time.
SHORTEST = 8


def write(fresh: Path, entry: Entry, paths: tuple[Path, Path]) -> None:
    """Write data for a model of the zoo: to calibrate with, and to judge by.

    `fresh` are the inputs that it was saved with, whose names, dtypes and sizes these take.
    """
    stated = {spec.name: spec for spec in map(TensorSpec.parse, entry.inputs)}
    with np.load(fresh) as file:
        like = {key.split("|")[2]: file[key] for key in file.files if key.startswith("0|in|")}
    if entry.saved == "keras":
        like = dict(zip(layers_of(fresh.with_name(f"{entry.file_name}.keras")), like.values(), strict=True))
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, count, seed in zip(paths, (CALIBRATION, EVALUATION), (SEED, SEED + 1), strict=True):
        random = np.random.default_rng(seed)
        np.savez(path, **{name: drawn(name, one, stated.get(name), count, random) for name, one in like.items()})


def layers_of(path: Path) -> list[str]:
    """Name the input layers of a functional Keras model: its tensors' names are others in every process."""
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("config.json"))["config"]["input_layers"]
    return [listed[0]] if isinstance(listed[0], str) else [name for name, *_ in listed]


def write_digits(paths: tuple[Path, Path], *, channels_last: bool) -> None:
    """Write images that the digits samples were trained on, and others, in the layout the sample takes."""
    sys.path.insert(0, str(ROOT / "samples"))
    from digits_data import load_split

    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, count, part in zip(paths, (CALIBRATION, EVALUATION), load_split(), strict=True):
        np.savez(path, image=(part.nhwc if channels_last else part.nchw)[:count])


def drawn(name: str, one: np.ndarray, stated: TensorSpec | None, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw rows of one input, along its batch; `one` is a batch of one."""
    shape = [count, *one.shape[1:]]
    if one.dtype.kind == "f":
        return smooth(shape, random).astype(one.dtype)
    if "mask" in name:
        lengths = random.integers(shape[1] // 2, shape[1], (count, 1), endpoint=True)
        return np.broadcast_to(np.arange(shape[1]) < lengths, shape).astype(one.dtype)
    low, high = (stated.low or 0, stated.high) if stated else (0, None)
    return random.integers(low, 1 if high is None else high, shape, endpoint=True).astype(one.dtype)


def smooth(shape: list[int], random: np.random.Generator) -> np.ndarray:
    """Draw noise whose spectrum falls as 1/f, as that of photographs does, each row of its own contrast and brightness.

    Rows of one axis are white noise: nothing says that neighbouring features are alike.
    """
    values = random.standard_normal(shape)
    longest = sorted(range(1, len(shape)), key=lambda axis: -shape[axis])[:2]
    axes = [axis for axis in longest if shape[axis] >= SHORTEST] if len(shape) > 2 else []
    if axes:
        squares = sum(along(np.fft.fftfreq(shape[axis]) * shape[axis], axis, len(shape)) ** 2 for axis in axes)
        values = np.fft.ifftn(np.fft.fftn(values, axes=axes) / np.sqrt(np.maximum(squares, 1.0)), axes=axes).real
    rows = (-1, *(1,) * (len(shape) - 1))
    flat = values.reshape(shape[0], -1)
    values = (values - flat.mean(1).reshape(rows)) / flat.std(1).reshape(rows)
    contrast, brightness = random.uniform(0.5, 1.3, shape[0]), 0.4 * random.standard_normal(shape[0])
    return np.clip(values * contrast.reshape(rows) + brightness.reshape(rows), -GREATEST, GREATEST)


def along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])
