"""A TensorFlow function computed again in double precision, for frameworks that cannot build their model so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.sources._frozen import Call, Frozen, freeze, rename_functions, revive, without_compiler
from convert.spec import Signature
from convert.worker import summary
from validators.runtimes import Arrays, Session
from validators.runtimes.torch import trial

if TYPE_CHECKING:
    import numpy as np

MARK = "_in_float64"

#: Operators whose answer depends on how wide a number is stored, not on its value.
_BY_BITS = frozenset({"Bitcast", "DecodeRaw", "DecodePaddedRaw"})


#: How far apart a model in 32 and in 64 bits may be on average, as a share of the answers' RMS, before they are taken
#: for two models. Rounding alone makes 5e-2 on the most ill-conditioned network of the zoo (a LeViT); random numbers,
#: drawn anew in the other width, make 1.
SAME_MODEL = 0.3


class WideSession(Session):
    """A model's graph in float64, run on named arrays."""

    def __init__(self, frozen: Frozen, signature: Signature) -> None:
        self._run = in_float64(frozen, signature)
        self._names = [spec.name for spec in signature.outputs]

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the graph on inputs of any width."""
        return dict(zip(self._names, self._run(inputs), strict=True))


def open_wide(native: Session, call: Call, signature: Signature) -> WideSession:
    """Give a model that `call` runs on named tensors in float64; `native` is the same model at its own precision.

    What XLA was to compile is tried without it first: it does so to the grouped convolutions of Keras, for which its
    kernels in float64 are 4 to 40 times as slow as TensorFlow's own, where these can do them.

    Raises LoadError where it cannot compute so, or answers otherwise than rounding explains.
    """
    try:
        frozen = freeze(call, signature)
        if uncompiled := without_compiler(frozen):
            with contextlib.suppress(Exception):  # whatever a kernel lacks, or does otherwise, the compiler may do
                return _opened(native, uncompiled, signature)
        return _opened(native, frozen, signature)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"the model does not run in float64: {type(error).__name__}: {summary(error, 2)}") from error


def _opened(native: Session, frozen: Frozen, signature: Signature) -> WideSession:
    session = WideSession(frozen, signature)
    _require_same_model(native, session, signature)
    return session


def _require_same_model(native: Session, wide: Session, signature: Signature) -> None:
    import numpy as np

    arrays = trial(signature)
    expected, actual = native.run(arrays), wide.run(arrays)
    for name, answer in expected.items():
        if answer.dtype.kind != "f" or not answer.size:
            continue
        if actual[name].dtype != "float64":
            raise LoadError(f"the model does not run in float64: output {name} stayed {actual[name].dtype}")
        scale = float(np.sqrt(np.mean(np.square(actual[name]))))
        difference = np.abs(actual[name] - answer)
        if np.isfinite(difference).all() and difference.mean() > SAME_MODEL * scale:
            raise LoadError(f"in float64 the model computes something else: {name} differs by {difference.max():.1e}")


def in_float64(frozen: Frozen, signature: Signature) -> Callable[[Arrays], list[np.ndarray]]:
    """Widen a graph in place and give it as a function of arrays in double precision.

    Every narrower float of the graph becomes a 64-bit one: constants, attributes, and those of the functions it calls.
    Operators that TensorFlow only has in 32 bits are rewritten into others that it has in both. The answers come in
    the order of the signature. Raises LoadError where an operator's answer depends on its number of bits.
    """
    import tensorflow as tf

    widen(frozen)
    wide = revive(frozen)
    names = [spec.name for spec in signature.inputs]
    dtypes = [tensor.dtype for tensor in wide.inputs]

    def run(inputs: Arrays) -> list[np.ndarray]:
        tensors = (tf.constant(inputs[name], dtype) for name, dtype in zip(names, dtypes, strict=True))
        return [tensor.numpy() for tensor in wide(*tensors)]

    return run


def widen(frozen: Frozen) -> None:
    """Make every narrower float of a graph and of the functions in its library a 64-bit one, in place."""
    library = frozen.graph.library.function
    rename_functions(frozen.graph, MARK)
    for nodes in frozen.bodies:
        for node in nodes:
            _refuse_bits(node)
            for attribute in node.attr.values():
                _widen_attribute(attribute)
    for function in library:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            argument.type = _wide(argument.type)
    # A body in a function names an output by its argument (node:y:0), the graph itself by position (node:1).
    _substitute(frozen.graph, frozen.graph.node)
    for function in list(library):
        outputs = _substitute(frozen.graph, function.node_def)
        for node in function.node_def:
            node.input[:] = [outputs.get(name, name) for name in node.input]
        for name, value in function.ret.items():
            function.ret[name] = outputs.get(value, value)


def _refuse_bits(node: Any) -> None:
    types = [attribute.type for attribute in node.attr.values() if attribute.WhichOneof("value") == "type"]
    if node.op in _BY_BITS and any(_wide(dtype) != dtype for dtype in types):
        raise LoadError(f"the operator {node.op} ({node.name}) reads the bits of numbers that are to be wider")


def _wide(dtype: int) -> int:
    from tensorflow.core.framework import types_pb2

    narrow = (types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)
    return int(types_pb2.DT_DOUBLE if dtype in narrow else dtype)


def _widen_attribute(attribute: Any) -> None:
    import tensorflow as tf

    kind = attribute.WhichOneof("value")
    if kind == "type":
        attribute.type = _wide(attribute.type)
    elif kind == "list":
        attribute.list.type[:] = [_wide(dtype) for dtype in attribute.list.type]
    elif kind == "tensor" and _wide(attribute.tensor.dtype) != attribute.tensor.dtype:
        values = tf.make_ndarray(attribute.tensor).astype("float64")
        attribute.tensor.CopyFrom(tf.make_tensor_proto(values, shape=values.shape))
    elif kind == "func":
        for inner in attribute.func.attr.values():
            _widen_attribute(inner)


def _substitute(graph: Any, nodes: Any) -> dict[str, str]:
    """Replace operators without a 64-bit kernel by calls of functions that compute the same; give the outputs' renames.

    The functions are traced from TensorFlow's own operators and join the graph's library.
    """
    import tensorflow as tf

    renames: dict[str, str] = {}
    for node in nodes:
        if node.op not in SUBSTITUTES:
            continue
        body, outputs = SUBSTITUTES[node.op](node)
        arguments = [tf.TensorSpec(None, dtype) for dtype in _input_dtypes(node)]
        concrete = tf.function(body, input_signature=arguments, autograph=False).get_concrete_function()
        definition = concrete.function_def
        # The functions that this one calls (there are none yet) would have to join too.
        graph.library.function.add().CopyFrom(definition)
        for position, name in enumerate(outputs):
            result = definition.signature.output_arg[position].name if position < len(concrete.outputs) else ""
            renames[f"{node.name}:{name}:0"] = f"{node.name}:output:{position}" if result else ""
        call = tf.compat.v1.NodeDef(name=node.name, op="PartitionedCall", input=node.input, device=node.device)
        call.attr["f"].func.name = definition.signature.name
        call.attr["Tin"].list.type.extend(argument.dtype.as_datatype_enum for argument in arguments)
        call.attr["Tout"].list.type.extend(tensor.dtype.as_datatype_enum for tensor in concrete.outputs)
        node.CopyFrom(call)
    return renames


def _input_dtypes(node: Any) -> list[Any]:
    """Give the dtypes of a node's inputs, as its operator declares them."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    declared = op_def_registry.get(node.op).input_arg
    return [tf.as_dtype(node.attr[arg.type_attr].type if arg.type_attr else _wide(arg.type)) for arg in declared]


Substitute = tuple[Callable[..., Any], tuple[str, ...]]


def _batch_norm(node: Any) -> Substitute:
    """Normalise with stored statistics, as arithmetic; TensorFlow's FusedBatchNorm takes 32-bit numbers at most."""
    import tensorflow as tf

    epsilon = node.attr["epsilon"].f
    if node.attr["is_training"].b or node.attr["data_format"].s not in (b"NHWC", b"NDHWC"):
        raise LoadError(f"{node.op} ({node.name}) in training mode or channels first has no 64-bit form here")

    def body(x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> tuple[Any, ...]:
        factor = tf.math.rsqrt(variance + epsilon) * scale
        return (x - mean) * factor + offset, mean, variance, mean, variance, mean

    names = ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3")
    return body, names


def _resize_bilinear(node: Any) -> Substitute:
    """Interpolate along each axis in turn; TensorFlow's operator answers in 32 bits whatever it is given."""
    import tensorflow as tf

    corners, centers = node.attr["align_corners"].b, node.attr["half_pixel_centers"].b

    def along(x: Any, axis: int, size: Any) -> Any:
        old = tf.shape(x)[axis]
        wide_old, wide_new = tf.cast(old, tf.float64), tf.cast(size, tf.float64)
        at = tf.cast(tf.range(size), tf.float64)
        if corners:
            at *= tf.where(size > 1, (wide_old - 1) / tf.maximum(wide_new - 1, 1), wide_old / wide_new)
        elif centers:
            at = (at + 0.5) * (wide_old / wide_new) - 0.5
        else:
            at *= wide_old / wide_new
        low = tf.floor(at)
        share = tf.reshape(at - low, [-1, 1] if axis == 2 else [-1, 1, 1])
        first = tf.clip_by_value(tf.cast(low, tf.int32), 0, old - 1)
        second = tf.clip_by_value(tf.cast(low, tf.int32) + 1, 0, old - 1)
        before, after = tf.gather(x, first, axis=axis), tf.gather(x, second, axis=axis)
        return before + (after - before) * share

    def body(images: Any, size: Any) -> Any:
        images = tf.ensure_shape(tf.cast(images, tf.float64), [None] * 4)
        return along(along(images, 1, size[0]), 2, size[1])

    return body, ("resized_images",)


def _max_pool_3d(node: Any) -> Substitute:
    """Take the maximum over the image, then over the depth; TensorFlow has a 64-bit kernel for images only."""
    import tensorflow as tf

    _, depth, height, width, _ = node.attr["ksize"].list.i
    _, step, down, right, _ = node.attr["strides"].list.i
    padding = node.attr["padding"].s.decode()
    if node.attr["data_format"].s not in (b"", b"NDHWC"):
        raise LoadError(f"{node.op} ({node.name}) channels first has no 64-bit form here")

    def body(x: Any) -> Any:
        x = tf.ensure_shape(x, [None] * 5)
        shape = tf.shape(x)
        flat = tf.reshape(x, [-1, shape[2], shape[3], shape[4]])
        flat = tf.nn.max_pool2d(flat, (height, width), (down, right), padding)
        inner = tf.shape(flat)
        flat = tf.reshape(flat, [shape[0], shape[1], -1, shape[4]])
        flat = tf.nn.max_pool2d(flat, (depth, 1), (step, 1), padding)
        return tf.reshape(flat, [shape[0], -1, inner[1], inner[2], shape[4]])

    return body, ("output",)


#: Operators without a 64-bit kernel (TensorFlow 2.21 on CPUs), and what computes the same.
SUBSTITUTES: dict[str, Callable[[Any], Substitute]] = {
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "MaxPool3D": _max_pool_3d,
    "ResizeBilinear": _resize_bilinear,
}
