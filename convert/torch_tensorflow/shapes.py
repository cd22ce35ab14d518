"""Shapes: turning, cutting, joining, padding."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import Call, axes_of, cast, length, operator, shape_of, sizes, static

#: From here on a bound of a slice means "to the end".
END = 2**31 - 1


@operator("sym_size.int")
def size_of(_: Call, x: Any, dim: int) -> Any:
    """Give one size."""
    return length(x, dim)


@operator("sym_numel.default")
def numbers_in(_: Call, x: Any) -> Any:
    """Count the elements."""
    return tf.size(x)


@operator("view.default", "reshape.default", "_unsafe_view.default", "view_copy.default", "_reshape_copy.default")
def view(_: Call, x: tf.Tensor, shape: Any) -> tf.Tensor:
    """Give the same elements in another shape; one size that is not known is left to TensorFlow to count."""
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(free) == 1 and -1 not in [size for size in shape if isinstance(size, int)]:
        shape = [-1 if axis == free[0] else size for axis, size in enumerate(shape)]
    return tf.reshape(x, shape_of(shape))


@operator("expand.default")
def expand(_: Call, x: tf.Tensor, shape: Any, **__: Any) -> tf.Tensor:
    """Repeat what has size one, and add axes before."""
    more = len(shape) - len(x.shape)
    kept = [isinstance(size, int) and size == -1 for size in shape]
    wanted = [length(x, axis - more) if kept[axis] else size for axis, size in enumerate(shape)]
    return x if static(wanted) and list(x.shape) == wanted else tf.broadcast_to(x, shape_of(wanted))


@operator("permute.default", "permute_copy.default")
def permute(_: Call, x: tf.Tensor, dims: list[int]) -> tf.Tensor:
    """Put the axes in another order."""
    return tf.transpose(x, axes_of(x, dims) if dims else [])


@operator("transpose.int")
def transpose(_: Call, x: tf.Tensor, first: int, second: int) -> tf.Tensor:
    """Swap two axes."""
    order = list(range(len(x.shape)))
    first, second = axes_of(x, [first, second])
    order[first], order[second] = order[second], order[first]
    return tf.transpose(x, order)


@operator("t.default")
def turn(_: Call, x: tf.Tensor) -> tf.Tensor:
    """Transpose a matrix."""
    return tf.transpose(x)


@operator("unsqueeze.default")
def unsqueeze(_: Call, x: tf.Tensor, dim: int) -> tf.Tensor:
    """Add an axis of size one."""
    return tf.expand_dims(x, dim)


@operator("squeeze.dim", "squeeze.dims", "squeeze.default")
def squeeze(_: Call, x: tf.Tensor, dims: Any = None) -> tf.Tensor:
    """Take away axes of size one."""
    gone = [axis for axis in axes_of(x, dims) if x.shape[axis] == 1]
    return tf.squeeze(x, gone) if gone else x


def cut(x: tf.Tensor, axis: int, part: Any) -> tf.Tensor:
    """Index or slice along one axis."""
    return x[(slice(None),) * axis + (part,)]


def bound(value: Any) -> Any:
    """Give a bound of a slice as Python writes it."""
    return None if isinstance(value, int) and abs(value) >= END else value


@operator("slice.Tensor", "slice_copy.Tensor")
def slice_of(_: Call, x: tf.Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> tf.Tensor:
    """Give a slice along an axis."""
    return cut(x, axes_of(x, dim)[0], slice(bound(start), bound(end), step))


@operator("select.int", "select_copy.int")
def select(_: Call, x: tf.Tensor, dim: int, index: Any) -> tf.Tensor:
    """Give one place of an axis."""
    return cut(x, axes_of(x, dim)[0], index)


@operator("narrow.default")
def narrow(_: Call, x: tf.Tensor, dim: int, start: Any, size: Any) -> tf.Tensor:
    """Give a number of places from one on."""
    return cut(x, axes_of(x, dim)[0], slice(start, start + size))


@operator("select_scatter.default")
def select_scatter(_: Call, x: tf.Tensor, source: tf.Tensor, dim: int, index: Any) -> tf.Tensor:
    """Replace one place of an axis."""
    axis = axes_of(x, dim)[0]
    index = index + length(x, axis) if isinstance(index, int) and index < 0 else index
    return replaced(x, tf.expand_dims(source, axis), axis, index, index + 1)


@operator("slice_scatter.default")
def slice_scatter(
    call: Call, x: tf.Tensor, source: tf.Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> tf.Tensor:
    """Replace a slice along an axis."""
    if step != 1:
        raise call.unsupported(f"the step {step}")
    axis = axes_of(x, dim)[0]
    size = length(x, axis)
    start, end = (0 if bound(start) is None else start), (size if bound(end) is None else end)
    start, end = (value + size if isinstance(value, int) and value < 0 else value for value in (start, end))
    return replaced(x, source, axis, start, end)


def replaced(x: tf.Tensor, source: tf.Tensor, axis: int, start: Any, end: Any) -> tf.Tensor:
    """Put `source` in the place of what lies from `start` to `end`."""
    return tf.concat([cut(x, axis, slice(0, start)), cast(source, x.dtype), cut(x, axis, slice(end, None))], axis)


@operator("cat.default")
def cat(call: Call, parts: list[tf.Tensor], dim: int = 0) -> tf.Tensor:
    """Join along an axis; a part that holds nothing may have any rank."""
    kept = [part for part in parts if part.shape != [0]] or parts[:1]
    return tf.concat([cast(part, call.dtype) for part in kept], axes_of(kept[0], dim)[0])


@operator("stack.default")
def stack(call: Call, parts: list[tf.Tensor], dim: int = 0) -> tf.Tensor:
    """Join along a new axis."""
    return tf.stack([cast(part, call.dtype) for part in parts], dim)


@operator("split_with_sizes.default", "split_with_sizes_copy.default")
def split_with_sizes(_: Call, x: tf.Tensor, parts: Any, dim: int = 0) -> list[tf.Tensor]:
    """Cut into parts of given sizes."""
    return list(tf.split(x, shape_of(parts), axis=axes_of(x, dim)[0], num=len(parts)))


@operator("split.Tensor", "split_copy.Tensor")
def split(call: Call, x: tf.Tensor, size: int, dim: int = 0) -> list[tf.Tensor]:
    """Cut into as many parts as the graph says, the last one maybe smaller."""
    axis = axes_of(x, dim)[0]
    return [cut(x, axis, slice(place * size, (place + 1) * size)) for place in range(len(call.shapes))]


@operator("unbind.int")
def unbind(_: Call, x: tf.Tensor, dim: int = 0) -> list[tf.Tensor]:
    """Give all places of an axis one by one."""
    return list(tf.unstack(x, axis=dim))


@operator("flip.default")
def flip(_: Call, x: tf.Tensor, dims: list[int]) -> tf.Tensor:
    """Turn axes round."""
    return tf.reverse(x, axes_of(x, dims))


@operator("roll.default")
def roll(_: Call, x: tf.Tensor, shifts: list[int], dims: Any = None) -> tf.Tensor:
    """Shift along axes, what leaves at one end entering at the other."""
    if not dims:
        return tf.reshape(tf.roll(tf.reshape(x, [-1]), shifts[0], 0), shape_of(sizes(x)))
    return tf.roll(x, shifts, axes_of(x, dims))


@operator("repeat.default")
def repeat(_: Call, x: tf.Tensor, times: Any) -> tf.Tensor:
    """Repeat along axes, new ones before."""
    more = len(times) - len(x.shape)
    return tf.tile(tf.reshape(x, shape_of([*[1] * more, *sizes(x)])), shape_of(times))


@operator("constant_pad_nd.default")
def pad(_: Call, x: tf.Tensor, amounts: Any, value: Any = 0) -> tf.Tensor:
    """Put a number around, or cut off where an amount is negative; the last axis's two amounts come first."""
    rank = len(x.shape)
    pairs: list[Any] = [[0, 0]] * (rank - len(amounts) // 2)
    pairs += [amounts[place : place + 2] for place in range(len(amounts) - 2, -1, -2)]
    for axis, pair in enumerate(pairs):
        before, after = (min(amount, 0) if isinstance(amount, int) else 0 for amount in pair)
        if before or after:
            x = cut(x, axis, slice(-before, after or None))
    more = [[max(amount, 0) if isinstance(amount, int) else amount for amount in pair] for pair in pairs]
    if static([amount for pair in more for amount in pair]) and not any(map(any, more)):
        return x
    return tf.pad(x, more, constant_values=cast(value, x.dtype))


@operator("reflection_pad1d.default", "reflection_pad2d.default", "reflection_pad3d.default")
def reflect(_: Call, x: tf.Tensor, amounts: list[int]) -> tf.Tensor:
    """Mirror at the borders."""
    pairs = [amounts[place : place + 2] for place in range(len(amounts) - 2, -1, -2)]
    return tf.pad(x, [[0, 0]] * (len(x.shape) - len(pairs)) + pairs, mode="REFLECT")


@operator("replication_pad1d.default", "replication_pad2d.default", "replication_pad3d.default")
def replicate(_: Call, x: tf.Tensor, amounts: list[int]) -> tf.Tensor:
    """Repeat the borders."""
    pairs = [amounts[place : place + 2] for place in range(len(amounts) - 2, -1, -2)]
    for axis, (before, after) in enumerate(pairs, start=len(x.shape) - len(pairs)):
        size = length(x, axis)
        x = tf.gather(x, tf.clip_by_value(tf.range(-before, size + after), 0, size - 1), axis=axis)
    return x


@operator("tril.default")
def tril(_: Call, x: tf.Tensor, diagonal: int = 0) -> tf.Tensor:
    """Keep what is on and below a diagonal."""
    return tf.where(_offsets(x) <= diagonal, x, cast(0, x.dtype))


@operator("triu.default")
def triu(_: Call, x: tf.Tensor, diagonal: int = 0) -> tf.Tensor:
    """Keep what is on and above a diagonal."""
    return tf.where(_offsets(x) >= diagonal, x, cast(0, x.dtype))


def _offsets(x: tf.Tensor) -> tf.Tensor:
    return tf.range(length(x, -1))[None, :] - tf.range(length(x, -2))[:, None]


@operator("unfold.default")
def unfold(call: Call, x: tf.Tensor, dim: int, size: int, step: int) -> tf.Tensor:
    """Give windows along an axis, their elements along a new last one."""
    if not isinstance(size, int):
        raise call.unsupported("a window of a free size")
    axis = axes_of(x, dim)[0]
    starts = tf.range(0, length(x, axis) - size + 1, step)
    windows = tf.gather(x, starts[:, None] + tf.range(size), axis=axis)
    rank = len(x.shape) + 1
    return tf.transpose(windows, [*(place for place in range(rank) if place != axis + 1), axis + 1])
