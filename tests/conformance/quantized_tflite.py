"""A float TFLite file with data, to be quantized, broken and run in workers; and small networks to make more of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.formats import tflite
from convert.precision import QUANTIZERS, Reduction, perform
from convert.recipe import Calibration, Recipe, sample_path
from convert.sources import identify
from convert.spec import Artifact, LoadOptions, fingerprint
from convert.worker import Workers
from validators.ideals import IDEALS, Building, Built, build
from validators.runtimes import Execution, Subject, execute
from validators.runtimes.litert import LITERT


class Bench:
    """One float file with data, to be reduced, broken and run in workers."""

    def __init__(
        self, workers: Workers, folder: Path, base: Path, name: str, samples: np.ndarray, source: Path | None = None
    ) -> None:
        self.workers, self.folder, self.base, self.name = workers, folder, base, name
        self.samples = samples
        for index in range(24):
            np.savez(sample_path(folder, index), **{name: samples[index : index + 1]})
        self.calls = 0
        artifact = Artifact(str(base), "tflite", "fp32", tflite.read(base).signature, *fingerprint(base))
        self.batch = artifact.signature.inputs[0].shape[0]
        self.task = Reduction(
            Recipe("tflite", "int8", "ai-edge-quantizer"),
            "",
            artifact,
            identify(source or base),
            LoadOptions(),
            "",
            Calibration(str(folder), 24, name, "a test"),
        )

    def _stage(self) -> str:
        self.calls += 1
        return f"{self.folder.name}-{self.calls}"

    def reduced(self, precision: str, **recipe: object) -> Path:
        out = self.folder / f"{precision}.tflite"
        wanted = replace(self.task.recipe, precision=precision, **recipe)
        quantizer = QUANTIZERS[wanted.quantizer]
        task = replace(self.task, recipe=wanted, out=str(out), module=quantizer.quantize.__module__)
        self.workers.run(self._stage(), perform, task, quantizer.environment)
        return out

    def answers(self, path: Path, runtime: str = "litert") -> np.ndarray:
        """Run on rows 24 on, as batches of 1 and of all the rest where the batch is free."""
        rows = self.samples[24:]
        batches = [rows[:1], rows[1:]] if self.batch == "batch" else [rows[i : i + 1] for i in range(len(rows))]
        stage = self._stage()
        given, found = self.folder / f"{stage}.in.npz", self.folder / f"{stage}.out.npz"
        np.savez(given, **{f"{i}/{self.name}": batch for i, batch in enumerate(batches)})
        job = Execution(runtime, Subject(identify(path)), str(given), str(found))
        ran = self.workers.run(stage, execute, job, LITERT).value
        assert not ran.failures, ran.failures
        with np.load(found) as file:
            return np.concatenate([file[f"{i}/{ran.names[0]}"] for i in range(len(batches))])

    def ideal(self, path: Path, *, alone: bool = False) -> Built:
        out = self.folder / "ideal.tflite"
        task = Building("tflite", tflite.read(path).precision, "" if alone else str(self.base), str(path), str(out))
        return self.workers.run(self._stage(), build, task, LITERT).value

    def ratio(self, path: Path, *, alone: bool = False) -> float:
        right = self.answers(self.base)
        built = self.ideal(path, alone=alone)
        assert bool(built.notes) == alone
        found = self.answers(path), self.answers(Path(built.path), IDEALS["tflite"].runtime)
        actual, least = (np.sqrt(np.mean((answers - right) ** 2)) for answers in found)
        return float(actual / least)

    def broken(self, path: Path, fault: Callable[[Any], None]) -> Path:
        model = tflite.read_model(path)
        fault(model)
        out = path.with_name(f"broken-{path.name}")
        tflite.write_model(out, model)
        return out


@dataclass(frozen=True)
class Network:
    """A Keras network to make and save; travels to a worker."""

    name: str  # of the function here that makes it
    out: str


@dataclass(frozen=True)
class Saved:
    """Where it was saved."""

    path: str


def save(network: Network) -> Saved:
    """Make a network with numbers that differ everywhere, also where fresh ones are all zeros or ones."""
    import keras

    keras.utils.set_random_seed(0)
    model = {"attention": attention, "recurrent": recurrent, "mobile": mobile}[network.name](keras)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "beta" in weight.path or "bias" in weight.path:
            weight.assign(weight.numpy() + rng.normal(0, 0.2, weight.shape))
    model.save(network.out)
    return Saved(network.out)


def attention(keras: Any) -> Any:
    """One block of a transformer's encoder, and a classifier."""
    given = keras.Input((12, 16), name="tokens")
    x = keras.layers.Dense(32)(given)
    h = keras.layers.LayerNormalization()(x)
    x = x + keras.layers.MultiHeadAttention(4, 8)(h, h)
    h = keras.layers.Dense(64, activation="gelu")(keras.layers.LayerNormalization()(x))
    x = keras.layers.LayerNormalization()(x + keras.layers.Dense(32)(h))
    return keras.Model(given, keras.layers.Dense(5, name="logits")(keras.layers.GlobalAveragePooling1D()(x)))


def recurrent(keras: Any) -> Any:
    """Two recurrent layers, which TFLiteConverter makes loops of."""
    given = keras.Input((10, 8), name="steps")
    x = keras.layers.LSTM(16)(keras.layers.LSTM(16, return_sequences=True)(given))
    return keras.Model(given, keras.layers.Dense(4, name="logits")(x))


def mobile(keras: Any) -> Any:
    """Convolutions of all kinds that kernels scale inputs for as they run: whole, pointwise, depthwise, transposed."""
    given = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(16, 3, 2, padding="same", activation="hard_swish")(given)
    h = keras.layers.Conv2D(48, 1, activation="relu6")(x)
    h = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(h)
    x = x + keras.layers.Conv2D(16, 1)(h)
    x = keras.layers.Conv2DTranspose(16, 2, 2)(keras.layers.Conv2D(24, 1, 2, activation="relu")(x))
    return keras.Model(given, keras.layers.Dense(5, name="logits")(keras.layers.GlobalAveragePooling2D()(x)))
