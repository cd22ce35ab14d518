"""Write small SavedModels, one per trait, into the folder named by the first argument."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

FOLDER = Path(sys.argv[1])


def numbers(*shape: int) -> tf.Tensor:
    return tf.random.stateless_normal(shape, (1, sum(shape)))


def spec(*shape: int | None, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


class Two(tf.Module):
    """Two signatures, none of them the default; names against the alphabet."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(numbers(5, 4))

    @tf.function(input_signature=[spec(None, 5), spec(None, 4)])
    def crossed(self, zeta: tf.Tensor, alpha: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"softmax": tf.nn.softmax(zeta @ self.weight + alpha), "add": zeta @ self.weight + alpha}

    @tf.function(input_signature=[spec(None, 5)])
    def single(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.tanh(x @ self.weight)}


def save(name: str, function: object, module: tf.Module | None = None) -> None:
    """Save one function, which must not be a method, as the default signature."""
    module = module or tf.Module()
    module.function = function
    tf.saved_model.save(module, str(FOLDER / name), signatures={"serving_default": function})


def serving(*specs: tf.TensorSpec) -> object:
    return tf.function(input_signature=specs, autograph=False)


two = Two()
tf.saved_model.save(two, str(FOLDER / "two"), signatures={"crossed": two.crossed, "single": two.single})
tf.saved_model.save(two, str(FOLDER / "two_versions" / "3"), signatures={"crossed": two.crossed})
tf.saved_model.save(two, str(FOLDER / "two_versions" / "12"), signatures={"single": two.single})
tf.saved_model.save(two, str(FOLDER / "unsigned"), signatures={})


@serving(spec(None, 5))
def spying(x: tf.Tensor) -> dict[str, tf.Tensor]:
    tf.io.write_file(str(FOLDER / "written"), tf.io.read_file("/etc/hostname"))
    return {"y": x}


@serving(spec(None, 5))
def saving(x: tf.Tensor) -> dict[str, tf.Tensor]:
    tf.raw_ops.SaveV2(prefix=str(FOLDER / "written"), tensor_names=["x"], shape_and_slices=[""], tensors=[x])
    return {"y": x}


@serving(spec(None, 5))
def calling(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.reshape(tf.numpy_function(lambda a: a, [x], tf.float32), [-1, 5])}


@serving(spec(None, 5))
def printing(x: tf.Tensor) -> dict[str, tf.Tensor]:
    tf.print("x", output_stream=f"file://{FOLDER / 'written'}")
    return {"y": x}


@serving(spec(None, dtype=tf.int64))
def prying(x: tf.Tensor) -> dict[str, tf.Tensor]:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="prying")
    init = tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename="/etc/hostname", key_index=-2, value_index=-1, vocab_size=-1, delimiter="\t"
    )
    with tf.control_dependencies([init]):
        found = tf.raw_ops.LookupTableFindV2(table_handle=table, keys=tf.strings.as_string(x), default_value=-1)
    return {"y": found}


for hostile in (spying, saving, calling, printing, prying):
    save(hostile.__name__, hostile)


@serving(spec(None, dtype=tf.string))
def reading(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.strings.length(x)}


@serving(tf.TensorSpec(None, tf.float32))
def shapeless(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.tanh(x)}


save("reading", reading)
save("shapeless", shapeless)

vocabulary = FOLDER / "vocabulary.txt"
vocabulary.write_text("0\n2\n1\n")
words = tf.Module()
words.table = tf.lookup.StaticHashTable(
    tf.lookup.TextFileInitializer(
        str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    ),
    -1,
)


@serving(spec(None, dtype=tf.int64))
def looking_up(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": words.table.lookup(tf.strings.as_string(x))}


save("looking_up", looking_up, words)


@serving(spec(None, 4, 12, 10, 3))
def kernels_of_32_bits(clip: tf.Tensor) -> dict[str, tf.Tensor]:
    """Operators that TensorFlow has no 64-bit kernels for, one of them in a loop."""
    x = tf.nn.max_pool3d(clip, [1, 2, 3, 2, 1], [1, 2, 2, 1, 1], "SAME")
    x = tf.reshape(x, [-1, 6, 10, 3])
    four = [tf.constant(values) for values in ([1.0, 0.5, 2.0], [0.1, 0.0, -0.3], [0.2, 0.1, 0.0], [1.1, 0.2, 3.0])]

    def normalised(count: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y = tf.compat.v1.nn.fused_batch_norm(x, *four, is_training=False)[0]
        return count + 1, tf.ensure_shape(y, [None, 6, 10, 3])

    _, x = tf.while_loop(lambda count, _: count < 2, normalised, (tf.constant(0), x))
    half = tf.image.resize(x, [11, 7])
    corners = tf.compat.v1.image.resize_bilinear(x, [5, 14], align_corners=True)
    legacy = tf.compat.v1.image.resize_bilinear(x, [9, 9])
    return {"half": half, "corners": corners, "legacy": legacy}


@serving(spec(None, 5))
def drawing(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": x * tf.random.stateless_normal([5], (1, 2))}


save("kernels_of_32_bits", kernels_of_32_bits)
save("drawing", drawing)

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    taken = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
    weight = tf.compat.v1.get_variable("w", initializer=numbers(4, 3))
    given = tf.tanh(taken @ weight)
    session.run(tf.compat.v1.global_variables_initializer())
    builder = tf.compat.v1.saved_model.Builder(str(FOLDER / "first_hub"))
    described = tf.compat.v1.saved_model.predict_signature_def({"x": taken}, {"y": given})
    builder.add_meta_graph_and_variables(session, [], signature_def_map={"default": described})
    builder.save()
