"""Keras networks of the zoo by task: sound, detection, generation, points, graphs, text, and layers converters miss.

Every callable takes no argument; all but those said otherwise return a functional model.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from keras_models import SEED, images, ready


def drawn(*shape: int) -> np.ndarray:
    """Draw a batch of sixteen."""
    return np.random.default_rng(SEED).standard_normal((16, *shape)).astype("float32")


def hand_siamese() -> keras.Model:
    image = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, activation="relu")(x))
    trunk = keras.Model(image, layers.UnitNormalization()(layers.Dense(8)(x)), name="trunk")
    left, right = keras.Input((24, 24, 3), name="left"), keras.Input((24, 24, 3), name="right")
    alike = layers.Dot(axes=1, name="alike")([trunk(left), trunk(right)])
    return ready(keras.Model([left, right], alike))


def hand_autoencoder() -> keras.Model:
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="selu")(x)
    code = layers.Flatten()(x)
    mean, spread = layers.Dense(6, name="mean")(code), layers.Dense(6, name="spread")(code)
    y = layers.Reshape((7, 7, 12))(layers.Dense(7 * 7 * 12, activation="softplus")(mean))
    y = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(y)
    picture = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid", name="picture")(y)
    return ready(keras.Model(image, [picture, mean, spread]))


def hand_generator() -> keras.Model:
    noise = keras.Input((16,), name="noise")
    x = layers.Reshape((4, 4, 16))(layers.Dense(256, use_bias=False)(noise))
    for width in (12, 8):
        x = layers.Conv2DTranspose(width, 5, strides=2, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    return ready(keras.Model(noise, layers.Conv2D(3, 5, padding="same", activation="tanh")(x)), drawn(16))


def hand_detector() -> keras.Model:
    image = keras.Input((32, 32, 3), name="image")
    fine = layers.Conv2D(12, 3, strides=4, padding="same", activation="swish")(image)
    coarse = layers.SeparableConv2D(16, 3, strides=2, padding="same", activation="swish")(fine)
    boxes = [layers.Reshape((-1, 4))(layers.Conv2D(12, 3, padding="same")(x)) for x in (fine, coarse)]
    scores = [layers.Reshape((-1, 5))(layers.Conv2D(15, 3, padding="same")(x)) for x in (fine, coarse)]
    found = {
        "scores": layers.Softmax()(layers.Concatenate(axis=1)(scores)),
        "boxes": layers.Concatenate(axis=1)(boxes),
    }
    return ready(keras.Model(image, found))


def hand_spectral() -> keras.Model:
    wave = keras.Input((512,), name="wave")
    real, imaginary = ops.stft(wave, sequence_length=64, sequence_stride=32, fft_length=64)
    power = ops.square(real) + ops.square(imaginary)
    bands = np.random.default_rng(SEED).random((33, 10)).astype("float32")
    levels = ops.expand_dims(ops.log(ops.matmul(power, bands) + 1e-3), -1)
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(levels)
    return ready(keras.Model(wave, layers.Dense(4)(layers.GlobalAveragePooling2D()(x))))


def hand_convlstm() -> keras.Model:
    clip = keras.Input((5, 12, 12, 2), name="clip")
    x = layers.ConvLSTM2D(6, 3, padding="same")(clip)
    return ready(keras.Model(clip, layers.Dense(4)(layers.GlobalAveragePooling2D()(x))))


def hand_frames() -> keras.Model:
    clip = keras.Input((6, 16, 16, 3), name="clip")
    x = layers.TimeDistributed(layers.Conv2D(8, 3, strides=2, activation="relu"))(clip)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    return ready(keras.Model(clip, layers.Dense(4)(layers.GRU(10)(x))))


def hand_masked() -> keras.Model:
    steps = keras.Input((12, 5), name="steps")
    x = layers.LSTM(10, return_sequences=True)(layers.Masking()(steps))
    return ready(keras.Model(steps, layers.Dense(3)(layers.SimpleRNN(6)(x))))


def hand_points() -> keras.Model:
    points = keras.Input((48, 3), name="points")
    x = layers.Conv1D(16, 1, activation="relu")(points)
    x = layers.BatchNormalization()(layers.Conv1D(24, 1, activation="relu")(x))
    return ready(keras.Model(points, layers.Dense(6)(layers.GlobalMaxPooling1D()(x))), drawn(48, 3))


def hand_graph() -> keras.Model:
    nodes, edges = keras.Input((10, 6), name="nodes"), keras.Input((10, 10), name="edges")
    x = layers.Dense(12, activation="relu")(ops.matmul(edges, nodes) / (ops.sum(edges, -1, keepdims=True) ** 2 + 1.0))
    weights = ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))) / 3.5, axis=-1)
    return ready(keras.Model([nodes, edges], layers.Dense(3)(ops.mean(ops.matmul(weights, x), axis=1))))


def hand_vit() -> keras.Model:
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Reshape((16, 24))(layers.Conv2D(24, 8, strides=8)(image))
    x = x + layers.Embedding(16, 24)(ops.arange(16))
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = x + layers.MultiHeadAttention(3, 8)(y, y)
    y = layers.Dense(48, activation=keras.activations.gelu)(layers.LayerNormalization(epsilon=1e-6)(x))
    return ready(keras.Model(image, layers.Dense(5)(ops.mean(x + layers.Dense(24)(y), axis=1))))


def hand_translator() -> keras.Model:
    text, so_far = keras.Input((10,), dtype="int32", name="text"), keras.Input((8,), dtype="int32", name="so_far")
    x, y = layers.Embedding(30, 16)(text), layers.Embedding(35, 16)(so_far)
    y = y + layers.MultiHeadAttention(2, 8)(y, y, use_causal_mask=True)
    y = y + layers.MultiHeadAttention(2, 8)(y, x)
    return ready(keras.Model([text, so_far], layers.Dense(35)(layers.LayerNormalization()(y))))


def hand_wavenet() -> keras.Model:
    wave = keras.Input((64, 1), name="wave")
    x = layers.Conv1D(8, 1)(wave)
    for depth in range(3):
        gate = layers.Conv1D(8, 2, dilation_rate=2**depth, padding="causal", activation="sigmoid")(x)
        value = layers.Conv1D(8, 2, dilation_rate=2**depth, padding="causal", activation="tanh")(x)
        x = x + layers.Conv1D(8, 1)(gate * value)
    return ready(keras.Model(wave, layers.Conv1D(6, 1, activation="softmax")(x)))


def hand_super_resolution() -> keras.Model:
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(12, 5, padding="same", activation="relu")(image)
    x = layers.Conv2D(12, 3, padding="same")(x)
    x = ops.transpose(ops.reshape(x, (-1, 16, 16, 2, 2, 3)), (0, 1, 3, 2, 4, 5))
    return ready(keras.Model(image, ops.clip(ops.reshape(x, (-1, 32, 32, 3)), -1.0, 1.0)))


def hand_exact_gelu() -> keras.Model:
    x = keras.Input((20,), name="features")
    y = layers.Dense(24)(x)
    y = layers.LayerNormalization()(0.5 * y * (1.0 + ops.erf(y / 1.4142135)))
    return ready(keras.Model(x, layers.Dense(4)(y)))


def hand_recommender() -> keras.Model:
    user, items = keras.Input((), dtype="int64", name="user"), keras.Input((5,), dtype="int64", name="items")
    context = keras.Input((4,), name="context")
    joined = [layers.Embedding(50, 8)(user), ops.mean(layers.Embedding(30, 8)(items), axis=1), context]
    return ready(keras.Model([user, items, context], layers.Dense(1, "sigmoid")(layers.Concatenate()(joined))))


def hand_normalised() -> keras.Model:
    """Normalise with what was adapted to data, as Keras's EfficientNets do: constants that are no weights."""
    norm = layers.Normalization()
    norm.adapt(3.0 + 2.0 * drawn(10))
    x = keras.Input((10,), name="features")
    return ready(keras.Model(x, layers.Dense(3)(layers.Dense(12, activation="mish")(norm(x)))))


def hand_strings() -> keras.Model:
    """Classify sentences: a string layer in front, which no target has."""
    split = layers.TextVectorization(max_tokens=40, output_sequence_length=8)
    split.adapt(["the cat sat on the mat", "a dog ran away", "no road leads home", "every model has a file"])
    text = keras.Input((), dtype="string", name="text")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(40, 12)(split(text)))
    return ready(keras.Model(text, layers.Dense(3)(x)))


@keras.saving.register_keras_serializable("zoo")
class Subclassed(keras.Model):
    """A subclassed model that takes a dictionary; only its own code knows what it does."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.left, self.right = layers.Dense(8, "relu"), layers.Dense(8, "tanh")
        self.head = layers.Dense(3)

    def call(self, inputs: dict[str, object]) -> dict[str, object]:
        joined = self.left(inputs["zeta"]) + self.right(inputs["alpha"])
        return {"scores": self.head(joined), "joined": joined}


def hand_subclassed() -> keras.Model:
    """Give a model that is not functional: it is saved by exporting it."""
    keras.utils.set_random_seed(SEED)
    model = Subclassed()
    model({"zeta": images(2)[:, 0, 0], "alpha": images(2)[:, 0, 1]})
    return ready(model)
