"""Write small Keras models, one per trait, into the folder named by the first argument."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import keras
from keras import layers

FOLDER = Path(sys.argv[1])
keras.utils.set_random_seed(3)


def as_keras_2(path: Path) -> None:
    """Add what Keras 2 wrote for these layers, and Keras 3 does not."""

    def age(described: object) -> None:
        if isinstance(described, dict):
            if described.get("class_name") == "DepthwiseConv2D":
                described["config"]["groups"] = 1
            if described.get("class_name") in ("LSTM", "GRU"):
                described["config"]["time_major"] = False
        for inner in described.values() if isinstance(described, dict) else described:
            if isinstance(inner, (dict, list)):
                age(inner)

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        age(config)
        file.attrs["model_config"] = json.dumps(config)


image = keras.Input((6, 6, 2), name="image")
rows = layers.Reshape((16, 4))(layers.DepthwiseConv2D(3, depth_multiplier=2)(image))
x = layers.Bidirectional(layers.GRU(3))(layers.LSTM(5, return_sequences=True)(rows))
keras.Model(image, layers.Dense(2, name="scores")(x)).save(FOLDER / "keras_2.h5")
as_keras_2(FOLDER / "keras_2.h5")

words = layers.TextVectorization(max_tokens=50, output_sequence_length=8, name="words")
words.adapt(["a b c d", "c d e f g", "h i j k a b"])
text, numbers = keras.Input((), dtype="string", name="text"), keras.Input((3,), name="numbers")
x = layers.GlobalAveragePooling1D()(layers.Embedding(50, 6)(words(text)))
keras.Model([text, numbers], layers.Dense(3, name="scores")(layers.Concatenate()([x, numbers]))).save(
    FOLDER / "text.keras"
)

p, q, r = (keras.Input((3,), name=name) for name in "pqr")
x = layers.Dense(4, activation="tanh")(layers.Concatenate()([p, q, r]))
outputs = {"z": {"deep": layers.Dense(2)(x), "again": layers.Dense(3)(x)}, "flat": x}
keras.Model({"u": {"b": p, "a": q}, "v": r}, outputs).save(FOLDER / "nested.keras")

keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="tanh"), layers.Dense(3)]).save(
    FOLDER / "sequential.keras"
)
keras.Sequential([layers.LayerNormalization(), layers.Activation("tanh")]).save(FOLDER / "unbuilt.keras")
