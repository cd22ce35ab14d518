"""How the Keras samples are trained: seeded, on one thread, with deterministic operators."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from digits_data import SEED

BATCH_SIZE = 32
LEARNING_RATE = 3e-3


def make_deterministic() -> None:
    """Hold TensorFlow to one thread and to deterministic operators; only possible before its first operator ran."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()


def start_afresh() -> None:
    """Seed Keras and reset its counters, so that a network does not depend on those built before it."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED)


def cross_entropy() -> keras.losses.Loss:
    """Give the loss of logits against whole-number labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(network: keras.Model, inputs: Any, targets: Any, loss: Any, epochs: int) -> None:
    """Train `network` in place with Adam; the arguments are nested as the network's inputs and outputs are."""
    network.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=loss)
    network.fit(inputs, targets, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
