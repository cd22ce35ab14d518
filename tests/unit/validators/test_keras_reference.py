"""The oracle of Keras models: the model in float64 answers as the model itself, but for rounding."""

import subprocess
import sys

PROGRAM = """
import keras, numpy as np
from validators.runtimes.keras import in_float64
norm = keras.layers.Normalization()
norm.adapt(3.0 + 2.0 * np.random.default_rng(0).standard_normal((16, 4)).astype("float32"))
x = keras.Input((4,))
model = keras.Model(x, keras.layers.Dense(2)(norm(x)))
rows = np.random.default_rng(1).standard_normal((3, 4))
wide = in_float64(model, trusted=False)(rows).numpy()
assert wide.dtype == np.float64
assert np.abs(wide - model(rows.astype("float32")).numpy()).max() < 1e-5
"""


def test_what_a_normalisation_layer_was_adapted_to_is_there_in_float64():
    # TensorFlow stays out of the tests' own process.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


GRAPH = """
import keras, numpy as np
from validators.runtimes.keras import KerasSession
x = keras.Input((4,), name="x")
session = KerasSession(keras.Model(x, keras.layers.Dense(2, name="y")(x)), "")
rows = [np.ones((size, 4), "float32") for size in (2, 3)]
eager = [session.run({"x": row}) for row in rows]
session.compile()
graph = [session.run({"x": row}) for row in rows]
assert [set(one) for one in graph] == [{"y"}, {"y"}]
assert all(np.abs(a["y"] - b["y"]).max() < 1e-6 for a, b in zip(eager, graph, strict=True))
"""


def test_a_slow_oracle_run_as_a_graph_answers_the_same_at_every_size():
    done = subprocess.run([sys.executable, "-c", GRAPH], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
