"""TensorFlow programs of the zoo that no Keras made: `tf.Module`s with signatures of their own."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

SEED = 11


def weights(*shape: int) -> tf.Variable:
    """Draw a matrix by its width."""
    random = np.random.default_rng(SEED + len(shape) + shape[0])
    return tf.Variable((random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype("float32"))


class Dense(tf.Module):
    """Two dense layers; the outputs have names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = weights(12, 16), weights(16, 4)

    @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32, "features")])
    def serve(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        hidden = tf.nn.gelu(features @ self.first)
        return {"scores": tf.nn.softmax(hidden @ self.second), "hidden": hidden}


class Spectral(tf.Module):
    """A sound's short-time Fourier transform as TensorFlow does it, and a convolution over it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.head = weights(3, 3, 1, 6), weights(6, 4)

    @tf.function(input_signature=[tf.TensorSpec([None, 512], tf.float32, "wave")])
    def serve(self, wave: tf.Tensor) -> dict[str, tf.Tensor]:
        spectrum = tf.abs(tf.signal.stft(wave, 64, 32, 64))
        x = tf.nn.relu(tf.nn.conv2d(tf.math.log(spectrum + 1e-3)[..., None], self.kernel, 2, "SAME"))
        return {"scores": tf.reduce_mean(x, [1, 2]) @ self.head}


class Encoder(tf.Module):
    """A text encoder as hubs give them away: ids and a mask by name, a pooled vector and the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = weights(50, 16), weights(16, 16)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 10], tf.int32, "input_ids"), tf.TensorSpec([None, 10], tf.int32, "mask")]
    )
    def serve(self, input_ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.gather(self.table, input_ids)
        bias = (1.0 - tf.cast(mask, tf.float32))[:, None, :] * -1e4
        x = tf.nn.softmax(tf.einsum("bid,bjd->bij", x @ self.mix, x) + bias) @ x
        return {"pooled": tf.tanh(tf.reduce_mean(x, 1)), "sequence": x}


def dense() -> tf.Module:
    return Dense()


def spectral() -> tf.Module:
    return Spectral()


def encoder() -> tf.Module:
    return Encoder()
