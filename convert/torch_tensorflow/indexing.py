"""Looking up and writing by index."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.shapes import cut
from convert.torch_tensorflow.table import OFF, Call, axes_of, cast, length, operator, shape_of, sizes

SUM, MEAN, MAX = 0, 1, 2  # as PyTorch numbers the modes of an EmbeddingBag


@operator("embedding.default")
def embedding(_: Call, weight: tf.Tensor, ids: tf.Tensor, *__: Any, **___: Any) -> tf.Tensor:
    """Look rows up."""
    return tf.gather(weight, ids)


@operator("index_select.default")
def index_select(_: Call, x: tf.Tensor, dim: int, index: tf.Tensor) -> tf.Tensor:
    """Look places of an axis up."""
    return tf.gather(x, index, axis=axes_of(x, dim)[0])


@operator("gather.default")
def gather(_: Call, x: tf.Tensor, dim: int, index: tf.Tensor, **__: Any) -> tf.Tensor:
    """Look up along an axis, by an index of its own for every place of the others."""
    axis, rank = axes_of(x, dim)[0], len(x.shape)
    for other in range(rank):
        if other != axis and (x.shape[other] is None or x.shape[other] != index.shape[other]):
            x = cut(x, other, slice(0, length(index, other)))
    order = [*(other for other in range(rank) if other != axis), axis]
    back = [order.index(other) for other in range(rank)]
    found = tf.gather(tf.transpose(x, order), tf.transpose(index, order), axis=-1, batch_dims=rank - 1)
    return tf.transpose(found, back)


def counted(index: Any, size: Any) -> tf.Tensor:
    """Give an index counted from the front."""
    index = tf.cast(index, tf.int32)
    return tf.where(index < 0, index + size, index)


def places(x: tf.Tensor, indices: list[Any]) -> tuple[tf.Tensor, list[int], int]:
    """Give the places that indices of some axes name, the axes, and the rank of what they are broadcast to."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    given = [counted(indices[axis], length(x, axis)) for axis in axes]
    if len(given) > 1:
        shape = tf.shape(given[0])
        for index in given[1:]:
            shape = tf.broadcast_dynamic_shape(shape, tf.shape(index))
        rank = max(len(index.shape) for index in given)
        given = [tf.broadcast_to(index, shape) for index in given]
    else:
        rank = len(given[0].shape)
    return tf.stack(given, axis=-1), axes, rank


@operator("index.Tensor")
def index(call: Call, x: tf.Tensor, indices: list[Any]) -> tf.Tensor:
    """Look up by an index for some of the axes, as NumPy does."""
    if any(one is not None and one.dtype == tf.bool for one in indices):
        if len(indices) == 1:
            return tf.boolean_mask(x, indices[0])
        raise call.unsupported("a mask among the indices")
    named = [axis for axis, one in enumerate(indices) if one is not None]
    if len(named) == 1:
        return tf.gather(x, counted(indices[named[0]], length(x, named[0])), axis=named[0])
    where, axes, rank = places(x, indices)
    others = [axis for axis in range(len(x.shape)) if axis not in axes]
    found = tf.gather_nd(tf.transpose(x, [*axes, *others]), where)
    first = first_of(axes)
    total = rank + len(others)
    order = [*range(rank, rank + first), *range(rank), *range(rank + first, total)]
    return tf.transpose(found, order) if first else found


@operator("index_put.default", "_unsafe_index_put.default")
def index_put(call: Call, x: tf.Tensor, indices: list[Any], values: tf.Tensor, accumulate: Any = OFF) -> tf.Tensor:
    """Write at the places that indices of some axes name."""
    if any(one is not None and one.dtype == tf.bool for one in indices):
        if len(indices) != 1 or values.shape.rank:
            raise call.unsupported("a mask among the indices")
        mask = tf.reshape(indices[0], shape_of([*sizes(indices[0]), *[1] * (len(x.shape) - len(indices[0].shape))]))
        return tf.where(mask, cast(values, x.dtype), x)
    where, axes, rank = places(x, indices)
    others = [axis for axis in range(len(x.shape)) if axis not in axes]
    order = [*axes, *others]
    turned = tf.transpose(x, order)
    named, rest = tf.shape(where)[:-1], tf.shape(turned)[len(axes) :]
    first = first_of(axes)
    source = tf.broadcast_to(cast(values, x.dtype), tf.concat([rest[:first], named, rest[first:]], 0))
    if first:
        total = rank + len(others)
        source = tf.transpose(source, [*range(first, first + rank), *range(first), *range(first + rank, total)])
    write = tf.tensor_scatter_nd_add if accumulate else tf.tensor_scatter_nd_update
    return tf.transpose(write(turned, where, source), [order.index(axis) for axis in range(len(order))])


def first_of(axes: list[int]) -> int:
    """Say where the axes of an index stand in what it looks up: where neighbours stood, else first."""
    return axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0


def scattered(x: tf.Tensor, dim: int, index: tf.Tensor) -> tf.Tensor:
    """Give the full places that an index along one axis names."""
    axis = axes_of(x, dim)[0]
    grid = tf.meshgrid(*[tf.range(size) for size in sizes(index)], indexing="ij")
    grid[axis] = counted(index, length(x, axis))
    return tf.stack(grid, axis=-1)


@operator("scatter.src", "scatter.value")
def scatter(_: Call, x: tf.Tensor, dim: int, index: tf.Tensor, source: Any) -> tf.Tensor:
    """Write along an axis at an index."""
    return tf.tensor_scatter_nd_update(x, scattered(x, dim, index), _like(source, x, index))


@operator("scatter_add.default")
def scatter_add(_: Call, x: tf.Tensor, dim: int, index: tf.Tensor, source: Any) -> tf.Tensor:
    """Add along an axis at an index."""
    return tf.tensor_scatter_nd_add(x, scattered(x, dim, index), _like(source, x, index))


def _like(source: Any, x: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    if not isinstance(source, tf.Tensor) or not source.shape.rank:
        return tf.fill(tf.shape(index), cast(source, x.dtype))
    for axis in range(len(index.shape)):
        source = cut(source, axis, slice(0, length(index, axis)))
    return cast(source, x.dtype)


@operator("_embedding_bag_forward_only.default", "_embedding_bag.default")
def embedding_bag(
    call: Call, weight: tf.Tensor, ids: tf.Tensor, offsets: tf.Tensor, _: Any = OFF, mode: int = SUM, *more: Any
) -> tuple[Any, ...]:
    """Look rows up and reduce each bag's; a bag begins at its offset."""
    given: list[Any] = [*more, *[OFF, None, OFF, -1][len(more) :]]  # sparse gradients come first
    weights, last, padding = given[1:]
    bags = tf.shape(offsets)[0] - (1 if last else 0)
    owner = tf.searchsorted(offsets[:bags], tf.range(tf.shape(ids)[0], dtype=offsets.dtype), side="right") - 1
    rows = tf.gather(weight, ids)
    rows = rows if weights is None else rows * weights[:, None]
    counts = tf.ones_like(ids, weight.dtype)
    if padding >= 0:
        counts = cast(ids != padding, weight.dtype)
        rows = rows * counts[:, None]
    if mode == MAX:
        if padding >= 0:
            raise call.unsupported("the greatest of padded bags")
        found = tf.math.unsorted_segment_max(rows, owner, bags)
    else:
        found = tf.math.unsorted_segment_sum(rows, owner, bags)
    if mode == MEAN:
        found = found / tf.maximum(tf.math.unsorted_segment_sum(counts, owner, bags), 1.0)[:, None]
    return found, None, None, None  # the others serve training


@operator("nonzero.default")
def nonzero(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Say where something is."""
    return tf.where(cast(x, tf.bool))
