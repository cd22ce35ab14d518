"""Keras on TensorFlow as the reference, in the source's precision or in float64."""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.sources import KERAS, load
from convert.sources._keras import call, run
from convert.spec import TensorSpec
from validators.runtimes import RUNTIMES, Arrays, Runtime, Session, Subject
from validators.runtimes._float64_graph import open_wide
from validators.runtimes.torch import trial, widened

if TYPE_CHECKING:
    import keras
    import numpy as np

#: From this many seconds for the first eager run on, a model is traced and run as a graph: most of an eager run of many
#: layers is Python. Tracing a MobileNetV2 takes as long as five of its eager runs, and makes each of the forty that
#: follow 3 (images of 224 x 224, float32) to 30 times (64 x 64) as fast.
SLOW_SECONDS = 0.05

_NARROW = ('"float32"', '"float16"', '"bfloat16"', '"mixed_float16"', '"mixed_bfloat16"')


class KerasSession(Session):
    """A Keras model that runs on named arrays: as a graph from the second run on, where that is faster and the same.

    `traced`: as a graph from the first run on, where it can be traced, since the same model was seen to be the same.
    """

    def __init__(self, model: keras.Model, dtype: str, inputs: tuple[TensorSpec, ...], *, traced: bool = False) -> None:
        self._model = model
        self._dtype = dtype
        self._inputs = inputs
        self._ran = False
        self._at_once = traced
        self._graph: Any = None

    @property
    def traced(self) -> bool:
        """Whether it runs as a graph."""
        return self._graph is not None

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the model in inference mode."""
        given = widened(inputs, self._dtype)
        if self._at_once and not self._ran:
            self._ran = True
            self._compile(given)
        if self._graph is not None:
            return self._traced(given)
        began = time.perf_counter()
        found = run(self._model, given)
        if not self._ran and time.perf_counter() - began > SLOW_SECONDS:
            self._compile(given, found)
        self._ran = True
        return found

    def _compile(self, given: Arrays, found: Arrays | None = None) -> None:
        """Trace the model once for inputs of all sizes, and run the graph from now on if it gives the bits `found`."""
        import tensorflow as tf

        model = self._model
        free = {spec.name: [None if isinstance(dim, str) else dim for dim in spec.shape] for spec in self._inputs}
        taken = {name: tf.TensorSpec(free[name], array.dtype) for name, array in given.items()}

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def answer(inputs: dict[str, Any]) -> dict[str, Any]:
            return call(model, inputs)

        self._graph = tf.function(answer, input_signature=[taken])
        state = [(variable, variable.numpy()) for variable in model.non_trainable_variables] if found else []
        try:
            answers = self._traced(given)
            same = found is None or _same(found, answers)
        except Exception:  # noqa: BLE001  a model that cannot be traced, for whatever reason, runs eagerly as before
            same = False
        for variable, value in state:
            variable.assign(value)  # a model with a state has been asked once, not twice
        if not same:
            self._graph = None

    def _traced(self, given: Arrays) -> dict[str, np.ndarray]:
        import tensorflow as tf

        options = tf.config.optimizer.get_experimental_options()
        # NOTE: Why: TensorFlow's graph optimizations join operators, which then round otherwise than the model does.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        try:
            return {name: value.numpy() for name, value in self._graph(dict(given)).items()}
        finally:
            tf.config.optimizer.set_experimental_options(
                {"disable_meta_optimizer": options.get("disable_meta_optimizer", False)}
            )


def _same(one: Arrays, other: Arrays) -> bool:
    import numpy as np

    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one)


def open_keras(subject: Subject) -> Session:
    """Load the model, and make it compute in float64 where asked: built again, or else its graph rewritten."""
    loaded = load(subject.file, subject.options)
    inputs = loaded.facts.signature.inputs
    native = in_own_precision(loaded.model, inputs)
    if not subject.dtype:
        return native
    signature = loaded.facts.signature

    def graph() -> Session:
        return open_wide(native, lambda inputs: call(loaded.model, inputs), signature)

    def rebuilt() -> Session:
        wide = in_float64(loaded.model, trusted=subject.options.trust)
        session = KerasSession(wide, subject.dtype, inputs, traced=native.traced)
        tried = session.run(trial(signature))
        if any(array.dtype.kind == "f" and array.dtype != "float64" for array in tried.values()):
            raise LoadError("some layers of the model compute in their own precision")
        return session

    # Keras has XLA compile grouped convolutions, and the graph does without: a ConvNeXt for images of 64 x 64 runs in
    # 0.2 s instead of 2.4 s. Others are built again sooner than their graph is frozen.
    first, second = (graph, rebuilt) if has_groups(loaded.model) else (rebuilt, graph)
    try:
        return first()
    except Exception as error:  # noqa: BLE001  Keras lacks 64-bit kernels and classes of its own; the graph may do
        try:
            return second()
        except Exception as last:  # noqa: BLE001  what the graph says is told
            raise (last if second is graph else error) from None


def has_groups(model: keras.Model) -> bool:
    """Whether a convolution has more than one group of channels."""
    import keras

    kinds = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    return any(layer.groups != 1 for layer in model._flatten_layers() if isinstance(layer, kinds))


@functools.lru_cache(maxsize=1)
def in_own_precision(model: keras.Model, inputs: tuple[TensorSpec, ...]) -> KerasSession:
    """Give the session of a loaded model, which is traced once however many stages run it in this process."""
    return KerasSession(model, "", inputs)


def in_float64(model: keras.Model, *, trusted: bool) -> keras.Model:
    """Build the model again from its configuration with every dtype policy float64, and copy the weights."""
    import keras

    text = json.dumps(keras.saving.serialize_keras_object(model))
    for name in _NARROW:
        text = text.replace(name, '"float64"')
    floatx = keras.config.floatx()
    # NOTE: Why floatx too: layers and operations without a policy of their own ask for it when they are built.
    keras.config.set_floatx("float64")
    try:
        wide = keras.saving.deserialize_keras_object(json.loads(text), safe_mode=not trusted)
        wide.set_weights(
            [weight.astype("float64") if weight.dtype.kind == "f" else weight for weight in model.get_weights()]
        )
        for layer in wide._flatten_layers():
            # NOTE: Why: Normalization computes with copies of its weights, which setting them leaves as they were.
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
    finally:
        keras.config.set_floatx(floatx)
    return wide


RUNTIMES.register(Runtime("keras", "Keras on TensorFlow", KERAS.environment, open_keras, families=("keras",)))
