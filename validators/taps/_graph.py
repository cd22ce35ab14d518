"""Every node of a TensorFlow function's graph, as it is or in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.sources._frozen import Call, freeze, revive
from convert.spec import Signature
from validators.divergence import Value
from validators.runtimes import Arrays
from validators.runtimes._float64_graph import widen
from validators.taps import Trace

if TYPE_CHECKING:
    import numpy as np

MOVES = frozenset(
    {"Identity", "Reshape", "Transpose", "Squeeze", "ExpandDims", "Cast", "Pad", "PadV2", "MirrorPad", "ConcatV2"}
    | {"Slice", "StridedSlice", "GatherV2", "Pack", "Unpack", "Split", "SplitV", "BroadcastTo", "IdentityN"}
)


def _scope(name: str) -> str:
    """Leave out the calls of functions that a node's name begins with.

    >>> _scope("StatefulPartitionedCall/StatefulPartitionedCall_1/net/dense/MatMul")
    'net/dense/MatMul'
    """
    words = name.split("/")
    while len(words) > 1 and words[0].startswith("StatefulPartitionedCall"):
        words.pop(0)
    return "/".join(words)


class GraphProbe:
    """A frozen graph, fetched node by node."""

    how = "every node of TensorFlow's graph"

    def __init__(self, call: Call, signature: Signature, dtype: str) -> None:
        import dataclasses

        frozen = freeze(call, signature)
        if dtype:
            widen(frozen)
        self._inputs = [spec.name for spec in signature.inputs]
        places: dict[str, int] = {name.partition(":")[0]: at for at, name in enumerate(frozen.feeds)}
        values = [Value(name, "") for name in self._inputs]
        fetched: list[str] = []
        for node in frozen.graph.node:
            taken = {name.lstrip("^").partition(":")[0] for name in node.input if not name.startswith("^")}
            makers = tuple(sorted({places[name] for name in taken if name in places}))
            if makers and node.name not in places:
                places[node.name] = len(values)
                values.append(Value(node.name, node.op, makers, (_scope(node.name),), "", node.op in MOVES))
                fetched.append(f"{node.name}:0")
        self._values = tuple(values)
        self._outputs = tuple(
            (spec.name, places[name.partition(":")[0]])
            for spec, name in zip(signature.outputs, frozen.fetches, strict=True)
            if name.endswith(":0") and name.partition(":")[0] in places
        )
        self._run = revive(dataclasses.replace(frozen, fetches=tuple(fetched)))

    def run(self, inputs: Arrays) -> Trace:
        """Run the graph on inputs of any width."""
        import tensorflow as tf

        given: list[np.ndarray | None] = [inputs[name] for name in self._inputs]
        dtypes = [tensor.dtype for tensor in self._run.inputs]
        found: Any = self._run(*(tf.constant(array, dtype) for array, dtype in zip(given, dtypes, strict=True)))
        numeric = (tensor.numpy() if tensor.dtype.is_floating or tensor.dtype.is_integer else None for tensor in found)
        return Trace(self._values, [*given, *numeric], self._outputs)
