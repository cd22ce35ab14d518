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
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]


GRAPH = """
import keras, numpy as np
from convert.spec import TensorSpec
from validators.runtimes import keras as runtime
inputs = (TensorSpec("x", "float32", ("batch", 4)),)
rows = [np.random.default_rng(size).standard_normal((size, 4)).astype("float32") for size in (2, 3, 1)]
x = keras.Input((4,), name="x")
model = keras.Model(x, keras.layers.Dense(2, name="y")(keras.layers.BatchNormalization()(keras.layers.Dense(9)(x))))
eager = [runtime.KerasSession(model, "", inputs).run({"x": row})["y"] for row in rows]
runtime.SLOW_SECONDS = 0
at_once = runtime.KerasSession(model, "", inputs, traced=True)
assert np.array_equal(at_once.run({"x": rows[0]})["y"], eager[0])
assert at_once.traced
session = runtime.KerasSession(model, "", inputs)
first, *others = [session.run({"x": row})["y"] for row in (rows[0], *rows)]
assert session.traced
assert session._graph.experimental_get_tracing_count() == 1
assert np.array_equal(first, eager[0])
assert all(np.array_equal(one, other) for one, other in zip(others, eager, strict=True))
"""


def test_a_slow_model_runs_as_a_graph_of_the_same_bits_at_every_size():
    done = subprocess.run([sys.executable, "-c", GRAPH], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]


UNTRACEABLE = """
import keras, numpy as np
from convert.spec import TensorSpec
from validators.runtimes import keras as runtime
inputs = (TensorSpec("x", "float32", ("batch", 4)),)
class Counting(keras.layers.Layer):
    calls = 0
    def call(self, x):
        Counting.calls += 1
        return x * (1.0 if Counting.calls < 4 else 2.0)
class Looking(keras.layers.Layer):
    def call(self, x):
        return x + float(np.asarray(x).sum())
    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)
row = np.ones((1, 4), "float32")
runtime.SLOW_SECONDS = 0
for layer in (Counting, Looking):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layer(name="y")(x))
    Counting.calls = 2
    session = runtime.KerasSession(model, "", inputs)
    session.run({"x": row})
    assert not session.traced, layer
    assert set(session.run({"x": row})) == {"y"}
    at_once = runtime.KerasSession(model, "", inputs, traced=True)
    assert set(at_once.run({"x": row})) == {"y"}
    assert at_once.traced == (layer is Counting)
"""


def test_a_slow_model_that_cannot_be_traced_or_then_answers_otherwise_runs_as_it_is():
    done = subprocess.run([sys.executable, "-c", UNTRACEABLE], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]


STATE = """
import keras, numpy as np
from convert.spec import TensorSpec
from validators.runtimes import keras as runtime
inputs = (TensorSpec("x", "float32", ("batch", 4)),)
class Summing(keras.layers.Layer):
    def build(self, shape):
        self.sum = self.add_weight(shape=(1, 4), initializer="zeros", trainable=False)
    def call(self, x):
        self.sum.assign(self.sum + x)
        return self.sum + 0.0
x = keras.Input((4,), name="x", batch_size=1)
model = keras.Model(x, Summing(name="y")(x))
model.layers[-1].sum.assign(np.zeros((1, 4)))
runtime.SLOW_SECONDS = 0
session = runtime.KerasSession(model, "", inputs)
answers = [float(session.run({"x": np.ones((1, 4), "float32")})["y"][0, 0]) for _ in range(4)]
assert answers == [1.0, 2.0, 3.0, 4.0], answers
"""


def test_looking_whether_a_model_can_be_traced_is_no_step_of_its_state():
    done = subprocess.run([sys.executable, "-c", STATE], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]


GROUPED = """
import keras, numpy as np
from pathlib import Path
from convert.sources import identify
from convert.sources._frozen import freeze, without_compiler
from validators.runtimes import Subject, _float64_graph
from validators.runtimes.keras import open_keras
tried = []
opened = _float64_graph._opened
def watched(native, frozen, signature):
    tried.append(without_compiler(frozen) is None)
    return opened(native, frozen, signature)
_float64_graph._opened = watched
def compare(layer, shape, dtype="float32", tolerance=1e-5):
    x = keras.Input(shape, name="x")
    keras.Model(x, keras.layers.Dense(3, dtype="float32", name="y")(layer(x))).save("grouped.keras")
    source = identify(Path("grouped.keras"))
    rows = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    native, wide = open_keras(Subject(source)), open_keras(Subject(source, dtype="float64"))
    single, double = native.run({"x": rows})["y"], wide.run({"x": rows})["y"]
    assert isinstance(wide, _float64_graph.WideSession), wide
    assert double.dtype == np.float64
    assert tolerance / 100 < abs(double - single).max() < tolerance, abs(double - single).max()
    ways = tried.copy()
    tried.clear()
    return ways
ways = compare(keras.layers.Conv2D(6, 3, groups=3), (8, 8, 6))
assert ways == [True], "without the compiler"
ways = compare(keras.layers.Conv3D(4, 3, groups=2), (6, 8, 8, 4))
assert ways == [True, False], "TensorFlow has no kernel for these but the compiled one"
half = keras.layers.Conv2D(6, 3, groups=3, dtype="mixed_float16")
ways = compare(half, (8, 8, 6), tolerance=1e-2)
assert ways == [True]
"""


def test_grouped_convolutions_run_in_float64_without_the_compiler_where_there_are_kernels(tmp_path):
    command = [sys.executable, "-c", GROUPED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
