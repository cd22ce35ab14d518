"""Keras sources: what every layer gives, those inside others too; or the nodes of the model's graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convert.sources import KERAS, load
from validators.divergence import Value
from validators.runtimes import Arrays, Subject
from validators.taps import TAPS, Probe, Tap, Trace

if TYPE_CHECKING:
    import keras
    import numpy as np

MOVES = frozenset({"Flatten", "Reshape", "Permute", "Dropout", "Identity", "RepeatVector", "Concatenate", "Embedding"})


class KerasProbe:
    """A model run eagerly, every call of a layer or an operation recorded."""

    how = "outputs of every Keras layer"

    def __init__(self, model: keras.Model, dtype: str) -> None:
        self._model, self._dtype = model, dtype

    def run(self, inputs: Arrays) -> Trace:
        """Run the model in inference mode; floating inputs are cast up first for float64."""
        import keras

        from convert.sources._keras import call
        from validators.runtimes.torch import widened

        given = {name: keras.ops.convert_to_tensor(a) for name, a in widened(inputs, self._dtype).items()}
        calls = _Calls(self._model, given)
        with calls.recorded():
            answer = call(self._model, given)
        return calls.trace(answer)


class _Calls:
    """The calls of layers and operations within a model, in the order they end."""

    def __init__(self, model: keras.Model, given: dict[str, Any]) -> None:
        self._model = model
        self._values: list[Value] = []
        self._arrays: list[np.ndarray | None] = []
        self._kept: list[Any] = []
        self._makers: dict[int, int] = {}
        self._names: Counter[str] = Counter()
        self._open: list[tuple[str, tuple[int, ...], Any]] = []
        for name, tensor in given.items():
            self._record(tensor, Value(name, ""))

    def _record(self, tensor: Any, value: Value) -> None:
        import numpy as np

        self._makers[id(tensor)] = len(self._values)
        self._values.append(value)
        self._kept.append(tensor)
        # Inside a compiled loop tensors have no numbers.
        self._arrays.append(np.array(tensor.numpy()) if hasattr(tensor, "numpy") else None)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record every call while this is entered."""
        import keras

        plain = keras.Operation.__call__
        calls = self

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            return calls.step(operation, plain, args, kwargs)

        keras.Operation.__call__ = call
        try:
            yield
        finally:
            keras.Operation.__call__ = plain

    def step(self, operation: Any, plain: Any, args: Any, kwargs: Any) -> Any:
        """Make one call, and record what it gives."""
        import keras

        taken = [leaf for leaf in keras.tree.flatten((args, kwargs)) if hasattr(leaf, "shape")]
        makers = tuple(sorted({self._makers[id(leaf)] for leaf in taken if id(leaf) in self._makers}))
        inside = operation is not self._model and self._open
        path = "/".join(part for part in (self._open[-1][0] if inside else "", self._name(operation)) if part)
        if operation is self._model:
            path = ""
        # What a layer computes between its own parts is not seen; their inputs come from its own, then.
        makers = makers or (self._open[-1][1] if self._open else ())
        self._open.append((path, makers, operation))
        try:
            found = plain(operation, *args, **kwargs)
        finally:
            self._open.pop()
        if makers and path:
            kind = type(operation).__name__
            for tensor in keras.tree.flatten(found):
                if hasattr(tensor, "shape") and id(tensor) not in {id(leaf) for leaf in taken}:
                    count = self._names[path]
                    self._names[path] += 1
                    name = f"{path}:{count}" if count else path
                    self._record(tensor, Value(name, kind, makers, (path,), "", kind in MOVES))
        return found

    def _name(self, operation: Any) -> str:
        """Name a layer or an operation; those that a layer makes anew at every call are numbered on, run after run."""
        import keras

        listed = getattr(self._open[-1][2], "operations", ()) if self._open else ()
        lasting = isinstance(operation, keras.Layer) or any(operation is item for item in listed)
        return str(operation.name) if lasting else re.sub(r"_\d+$", "", operation.name)

    def trace(self, answer: dict[str, Any]) -> Trace:
        """Give what was recorded."""
        outputs = tuple(
            (name, self._makers[id(tensor)]) for name, tensor in answer.items() if id(tensor) in self._makers
        )
        return Trace(tuple(self._values), self._arrays, outputs)


def open_keras(subject: Subject) -> Probe:
    """Load the model, in float64 where asked: layer by layer where it can be built so, else as a graph."""
    from convert.sources._keras import call
    from validators.runtimes.keras import in_float64
    from validators.runtimes.torch import trial
    from validators.taps._graph import GraphProbe

    loaded = load(subject.file, subject.options)
    signature = loaded.facts.signature
    try:
        wide = KerasProbe(in_float64(loaded.model, trusted=subject.options.trust), "float64")
        tried = wide.run(trial(signature))
        layered = all(a is None or a.dtype.kind != "f" or a.dtype == "float64" for a in tried.arrays)
    except Exception:  # noqa: BLE001  Keras lacks 64-bit kernels and classes of its own; the graph may do
        layered = False
    if layered:
        return wide if subject.dtype else KerasProbe(loaded.model, "")
    return GraphProbe(lambda inputs: call(loaded.model, inputs), signature, subject.dtype)


TAPS.register(Tap("keras", KERAS.environment, open_keras, families=("keras",)))
