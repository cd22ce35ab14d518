"""Networks of the zoo in Keras 2 (tf_keras), whose files look different from those of Keras 3."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from places import PACKAGES

SEED = 11


def keras2() -> Any:
    """Import Keras 2 from where `make zoo` puts it."""
    sys.path.append(str(PACKAGES))
    import tf_keras

    tf_keras.utils.set_random_seed(SEED)
    return tf_keras


def separable() -> Any:
    """Build depthwise and separable convolutions, which carry `groups` in a Keras 2 file."""
    keras = keras2()
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.LeakyReLU(alpha=0.1)(layers.SeparableConv2D(12, 3)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return ready(keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x)))


def recurrent() -> Any:
    """Build a recurrent network in Keras 2."""
    keras = keras2()
    layers = keras.layers
    steps = keras.Input((12, 6), name="steps")
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(steps)
    return ready(keras.Model(steps, layers.Dense(4, name="scores")(layers.GRU(6)(x))))


def mobilenet() -> Any:
    """Build MobileNetV2 in Keras 2."""
    keras = keras2()
    return ready(keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=10), 64)


def ready(model: Any, size: int = 0) -> Any:
    """Make the outputs vary with the input: constant weights drawn, batch statistics calibrated."""
    random = np.random.default_rng(SEED)
    for weight in model.trainable_weights:
        values = weight.numpy()
        if values.size > 1 and values.std() < 1e-4:
            offset = float(values.flat[0]) == 0.0
            weight.assign(0.2 * random.standard_normal(values.shape) if offset else 0.5 + random.random(values.shape))
    if size:
        norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
        for norm in norms:
            norm.momentum = 0.0
        model(random.standard_normal((16, size, size, 3)).astype("float32"), training=True)
        for norm in norms:
            norm.momentum = 0.99
    return model
