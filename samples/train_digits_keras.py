"""Train the digits network in Keras and save it in both of Keras' file formats."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
from keras import layers

from digits_data import load_split, write_test_data
from training_keras import cross_entropy, fit, make_deterministic, start_afresh

FOLDER = Path(__file__).resolve().parent
EPOCHS = 20
LEAST_ACCURACY = 0.97


def build() -> keras.Model:
    """Build the twin of digits_torch.Digits: NHWC, with PyTorch's own batch-normalisation constants."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.25)(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="digits")


def main() -> None:
    make_deterministic()
    start_afresh()
    train, test = load_split()
    network = build()
    fit(network, train.nhwc, train.labels, cross_entropy(), EPOCHS)
    accuracy = test.accuracy(network.predict(test.nhwc, verbose=0))
    print(f"digits (keras): test accuracy {accuracy:.4f}")
    if accuracy <= LEAST_ACCURACY:
        sys.exit(f"digits (keras) must be more accurate than {LEAST_ACCURACY}; nothing was saved")
    network.save(FOLDER / "digits.keras")
    network.save(FOLDER / "digits.h5")
    write_test_data(test, FOLDER)


if __name__ == "__main__":
    main()
