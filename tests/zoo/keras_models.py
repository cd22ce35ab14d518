"""Keras networks of the zoo: keras.applications and hand-written hazards; random, calibrated weights.

Every callable here takes no argument and returns a functional model.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

SEED = 11


def app(name: str, size: int, **options: object) -> keras.Model:
    """Build one of keras.applications for ten classes."""
    keras.utils.set_random_seed(SEED)
    build = getattr(keras.applications, name)
    model = build(weights=None, classes=10, input_shape=(size, size, 3), **options)
    return ready(model, images(size))


def app_mobilenetv2() -> keras.Model:
    return app("MobileNetV2", 64, alpha=0.35)


def app_mobilenetv3small() -> keras.Model:
    return app("MobileNetV3Small", 64)


def app_efficientnetb0() -> keras.Model:
    return app("EfficientNetB0", 64)


def hand_lstm() -> keras.Model:
    return sequence([layers.LSTM(12, return_sequences=True), layers.LSTM(8), layers.Dense(4)], 10)


def hand_gru_free_length() -> keras.Model:
    return sequence([layers.GRU(12), layers.Dense(4)], None)


def hand_bidirectional() -> keras.Model:
    return sequence([layers.Bidirectional(layers.LSTM(8, return_sequences=True)), layers.Dense(4)], 10)


def hand_bigru() -> keras.Model:
    return sequence([layers.Bidirectional(layers.GRU(8, reset_after=False)), layers.Dense(4)], 10)


def hand_conv1d() -> keras.Model:
    parts = [
        layers.Conv1D(8, 5, strides=2, padding="same"), layers.BatchNormalization(), layers.Activation("relu"),
        layers.SeparableConv1D(12, 3), layers.Conv1D(8, 3, dilation_rate=2, padding="causal"),
        layers.GlobalMaxPooling1D(), layers.Dense(4, activation="softmax"),
    ]  # fmt: skip
    return sequence(parts, 64)


def hand_conv3d() -> keras.Model:
    clip = keras.Input((8, 16, 16, 1), name="clip")
    x = layers.Conv3D(6, 3, padding="same", activation="relu")(clip)
    x = layers.MaxPooling3D(2)(x)
    x = layers.Conv3D(8, (1, 3, 3), strides=(1, 2, 2))(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling3D()(layers.ELU()(x))
    return ready(keras.Model(clip, layers.Dense(5)(x)), np.random.randn(8, 8, 16, 16, 1).astype("float32"))


def hand_named() -> keras.Model:
    zeta, alpha = keras.Input((12,), name="zeta"), keras.Input((5,), name="alpha")
    joined = layers.Concatenate()([layers.Dense(16, "tanh")(zeta), layers.Dense(16, "relu")(alpha)])
    outputs = [layers.Dense(3, name="second")(joined), layers.Dense(7, name="first")(joined)]
    return ready(keras.Model([zeta, alpha], outputs))


def hand_dictionary() -> keras.Model:
    zeta, alpha = keras.Input((12,), name="zeta"), keras.Input((5,), name="alpha")
    joined = layers.Concatenate()([layers.Dense(16, "tanh")(zeta), layers.Dense(16, "relu")(alpha)])
    outputs = {"second": layers.Dense(3)(joined), "first": layers.Dense(7)(joined)}
    return ready(keras.Model({"zeta": zeta, "alpha": alpha}, outputs))


def hand_argmax() -> keras.Model:
    x = keras.Input((20,), name="features")
    scores = layers.Dense(12, name="scores")(x)
    return ready(keras.Model(x, [scores, ops.argmax(scores, axis=-1), ops.top_k(scores, 3)[1]]))


def hand_attention() -> keras.Model:
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(60, 24)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(3, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(24)(layers.Dense(96, activation="gelu")(x)))
    return ready(keras.Model(ids, layers.Dense(4, name="logits")(layers.GlobalAveragePooling1D()(x))))


def hand_unet() -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    fine = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(fine)
    x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    up = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(x)
    wide = layers.UpSampling2D(2, interpolation="bilinear")(x)
    mask = layers.Conv2D(2, 1, activation="sigmoid", name="mask")(layers.Concatenate()([fine, up, wide]))
    return ready(keras.Model(image, mask), images(32))


def hand_preprocessing() -> keras.Model:
    image = keras.Input((40, 30, 3), name="image")
    x = layers.Rescaling(2.0, offset=-0.5)(layers.Resizing(32, 32)(image))
    x = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(x)
    x = layers.DepthwiseConv2D(3, strides=2)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    x = layers.GroupNormalization(3)(layers.PReLU(shared_axes=[1, 2])(x))
    return ready(keras.Model(image, layers.Dense(5)(layers.Flatten()(layers.AveragePooling2D(4)(x)))))


def sequence(parts: list[object], length: int | None) -> keras.Model:
    """Chain layers over a sequence of six features per step."""
    keras.utils.set_random_seed(SEED)
    steps = keras.Input((length, 6), name="steps")
    x = steps
    for part in parts:
        x = part(x)  # type: ignore[operator]
    return ready(keras.Model(steps, x), np.random.randn(16, length or 16, 6).astype("float32"))


def images(size: int) -> np.ndarray:
    """Draw sixteen images of noise and gradients."""
    random, ramp = np.random.default_rng(SEED), np.linspace(-1, 1, size)[:, None]
    values = random.standard_normal((16, size, size, 3)) + random.standard_normal((16, 1, 1, 3)) * ramp
    return (values + random.standard_normal((16, 1, 1, 3))).astype("float32")


def ready(model: keras.Model, batch: np.ndarray | None = None) -> keras.Model:
    """Make a model's outputs vary with the input: constant weights drawn, batch statistics calibrated."""
    random = np.random.default_rng(SEED)
    for weight in model.trainable_weights:
        values = np.asarray(weight)
        if values.size > 1 and values.std() < 1e-4:
            offset = float(values.flat[0]) == 0.0
            weight.assign(0.2 * random.standard_normal(values.shape) if offset else 0.5 + random.random(values.shape))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    if norms and batch is not None:
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        model(batch, training=True)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
    return model
