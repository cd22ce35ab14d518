"""Train small Keras networks, each with one trait that conversions tend to get wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from digits_data import BRIGHTEST, LabelledImages, load_split
from training_keras import cross_entropy, fit, make_deterministic, start_afresh

FOLDER = Path(__file__).resolve().parent
EPOCHS = 30
LEAST_ACCURACY = 0.9


def two_by_two() -> keras.Model:
    """Two inputs, the halves of an image [batch,8,4,1]; two outputs, digit [batch,10] and parity [batch,2]."""
    left = keras.Input((8, 4, 1), name="left")
    right = keras.Input((8, 4, 1), name="right")
    convolved = [layers.Conv2D(8, 3, padding="same", activation="relu")(half) for half in (left, right)]
    features = layers.Flatten()(layers.MaxPooling2D()(layers.Concatenate(axis=2)(convolved)))
    outputs = [layers.Dense(10, name="digit")(features), layers.Dense(2, name="parity")(features)]
    return keras.Model([left, right], outputs, name="two_by_two")


def tokens() -> keras.Model:
    """Integer inputs: 64 tokens int32 [batch,64] in 0..16, embedded, averaged two by two, to logits [batch,10]."""
    ids = keras.Input((64,), dtype="int32", name="ids")
    pooled = layers.AveragePooling1D(2)(layers.Embedding(BRIGHTEST + 1, 8)(ids))
    return keras.Model(ids, layers.Dense(10, name="logits")(layers.Flatten()(pooled)), name="tokens")


def recurrent() -> keras.Model:
    """A loop over time: the 8 rows of an image [batch,8,8] through an LSTM, to logits [batch,10]."""
    rows = keras.Input((8, 8), name="rows")
    return keras.Model(rows, layers.Dense(10, name="logits")(layers.LSTM(24)(rows)), name="recurrent")


def dictionary() -> keras.Model:
    """Outputs by key: logits and probabilities, both [batch,10], of an image [batch,8,8,1]."""
    image = keras.Input((8, 8, 1), name="image")
    hidden = layers.Dense(32, activation="relu")(layers.Flatten()(image))
    logits = layers.Dense(10, name="logits")(hidden)
    probabilities = layers.Softmax(name="probabilities")(logits)
    return keras.Model(image, {"logits": logits, "probabilities": probabilities}, name="dictionary")


def halves(data: LabelledImages) -> list[np.ndarray]:
    """Cut the images into a left and a right half, [count,8,4,1] each."""
    return np.split(data.nhwc, 2, axis=2)


@dataclass(frozen=True, slots=True)
class Hazard:
    """One network, what it is fed and taught, and which of its outputs are the digit's logits."""

    build: Callable[[], keras.Model]
    inputs: Callable[[LabelledImages], Any]
    targets: Callable[[LabelledImages], Any]
    loss: Callable[[], Any]
    logits: Callable[[Any], np.ndarray]


HAZARDS = (
    Hazard(
        two_by_two,
        halves,
        lambda data: [data.labels, data.labels % 2],
        lambda: [cross_entropy(), cross_entropy()],
        lambda outputs: outputs[0],
    ),
    Hazard(
        tokens,
        lambda data: data.ids.astype(np.int32),
        lambda data: data.labels,
        cross_entropy,
        lambda logits: logits,
    ),
    Hazard(
        recurrent,
        lambda data: data.images,
        lambda data: data.labels,
        cross_entropy,
        lambda logits: logits,
    ),
    Hazard(
        dictionary,
        lambda data: data.nhwc,
        lambda data: {"logits": data.labels},
        lambda: {"logits": cross_entropy()},
        lambda outputs: outputs["logits"],
    ),
)


def train_hazard(hazard: Hazard, train: LabelledImages, test: LabelledImages) -> None:
    """Train, measure and save one network."""
    start_afresh()
    network = hazard.build()
    fit(network, hazard.inputs(train), hazard.targets(train), hazard.loss(), EPOCHS)
    accuracy = test.accuracy(hazard.logits(network.predict(hazard.inputs(test), verbose=0)))
    print(f"{network.name} (keras): test accuracy {accuracy:.4f}")
    if accuracy <= LEAST_ACCURACY:
        sys.exit(f"{network.name} (keras) must be more accurate than {LEAST_ACCURACY}; it was not saved")
    network.save(FOLDER / f"{network.name}.keras")


def main() -> None:
    make_deterministic()
    train, test = load_split()
    for hazard in HAZARDS:
        train_hazard(hazard, train, test)


if __name__ == "__main__":
    main()
