"""STFT and DFT, which TFLite and most converters lack, as convolutions and matrix products of real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.rewrites import REWRITES, Rewrite
from convert.rewrites._graph import (
    Names,
    add_constant,
    attribute,
    constants,
    counted,
    graphs,
    opset,
    replace_nodes,
    sizes,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx

#: A transform of more points than this would be a matrix of over 64 MB.
LONGEST = 4096


def apply(model: onnx.ModelProto) -> tuple[str, ...]:
    """Rewrite the transforms of real signals whose length, step and window are constants."""
    if not any(node.op_type in ("STFT", "DFT") for graph in graphs(model.graph) for node in graph.node):
        return ()
    names = Names(model)
    shapes = sizes(model)
    done: list[str] = []
    for graph in graphs(model.graph):
        known = constants(graph)

        def replace(
            node: onnx.NodeProto, graph: onnx.GraphProto = graph, known: dict[str, np.ndarray] = known
        ) -> list[onnx.NodeProto] | None:
            if node.op_type == "STFT":
                return _stft(graph, node, names, known, shapes)
            if node.op_type == "DFT":
                return _dft(graph, node, names, known, shapes, opset(model))
            return None

        done += replace_nodes(graph, replace)
    return (f"Fourier transforms rewritten in real arithmetic ({counted(done)})",) if done else ()


def basis(length: int, bins: int, *, inverse: bool) -> tuple[Any, Any]:
    """Give cosines and sines in float64, shaped (length, bins); angles are reduced before they are multiplied out."""
    import numpy as np

    angle = (np.outer(np.arange(length), np.arange(bins)) % length) * (2 * np.pi / length)
    return np.cos(angle), (1 if inverse else -1) * np.sin(angle)


def _constant_input(node: onnx.NodeProto, position: int, known: dict[str, np.ndarray]) -> Any:
    """Give an optional input that must be a constant; NotImplemented where it is computed."""
    if len(node.input) <= position or not node.input[position]:
        return None
    return known.get(node.input[position], NotImplemented)


def _stft(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    names: Names,
    known: dict[str, np.ndarray],
    shapes: dict[str, list[int | None]],
) -> list[onnx.NodeProto] | None:
    import numpy as np
    from onnx import helper

    step, window, length = (_constant_input(node, position, known) for position in (1, 2, 3))
    signal = shapes.get(node.input[0])
    complex_valued = signal is not None and len(signal) == 3 and signal[-1] == 2
    computed = any(value is NotImplemented for value in (step, window, length))
    if computed or step is None or signal is None or complex_valued:
        return None
    size = int(length) if length is not None else len(window)
    if size > LONGEST:
        return None
    bins = size // 2 + 1 if attribute(node, "onesided", 1) else size
    cosine, sine = basis(size, bins, inverse=False)
    shape = np.ones(size) if window is None else window.astype(np.float64)
    kernel = np.concatenate([(cosine * shape[:, None]).T, (sine * shape[:, None]).T])[:, None, :]
    base = node.name or node.output[0]
    weight = add_constant(graph, names.new(f"{base}_kernel"), kernel.astype(np.float32))
    flat = add_constant(graph, names.new(f"{base}_flat"), np.array([0, 1, -1], np.int64))
    parts = add_constant(graph, names.new(f"{base}_parts"), np.array([0, 2, bins, -1], np.int64))
    value = [names.new(f"{base}_{part}") for part in ("signal", "frames", "spectrum")]
    return [
        helper.make_node("Reshape", [node.input[0], flat], [value[0]], name=names.new(f"{base}_flatten")),
        helper.make_node("Conv", [value[0], weight], [value[1]], name=base, strides=[int(step)], kernel_shape=[size]),
        helper.make_node("Reshape", [value[1], parts], [value[2]], name=names.new(f"{base}_split")),
        helper.make_node("Transpose", [value[2]], [node.output[0]], name=names.new(f"{base}_order"), perm=[0, 3, 2, 1]),
    ]


def _dft(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    names: Names,
    known: dict[str, np.ndarray],
    shapes: dict[str, list[int | None]],
    version: int,
) -> list[onnx.NodeProto] | None:
    """Rewrite a transform of the axis before the last, of real or complex numbers, not inverse into real ones."""
    import numpy as np
    from onnx import helper

    length, axis_input = (_constant_input(node, position, known) for position in (1, 2))
    shape = shapes.get(node.input[0])
    if shape is None or length is NotImplemented or axis_input is NotImplemented or shape[-1] not in (1, 2):
        return None
    stated = attribute(node, "axis", 1) if version < 20 else -2 if axis_input is None else int(axis_input)
    inverse, half = bool(attribute(node, "inverse", 0)), bool(attribute(node, "onesided", 0))
    size = shape[-2]
    same = length is None or (size is not None and int(length) == size)
    if stated % len(shape) != len(shape) - 2 or size is None or not same or size > LONGEST or (inverse and half):
        return None
    # Real and imaginary parts side by side go through one matrix: [re im] -> [re' im'], then the pair is split again.
    bins = size // 2 + 1 if half else size
    cosine, sine = basis(size, bins, inverse=inverse)
    scale = 1 / size if inverse else 1.0
    rows = [[cosine, sine]] if shape[-1] == 1 else [[cosine, sine], [-sine, cosine]]
    matrix = np.stack([np.stack(row, -1) for row in rows], 1) * scale  # (time, part, bin, part of the result)
    base = node.name or node.output[0]
    flat_matrix = matrix.reshape(size * len(rows), bins * 2).astype(np.float32)
    weight = add_constant(graph, names.new(f"{base}_matrix"), flat_matrix)
    lead = [0] * (len(shape) - 2)
    flat = add_constant(graph, names.new(f"{base}_flat"), np.array([*lead, size * len(rows)], np.int64))
    parts = add_constant(graph, names.new(f"{base}_parts"), np.array([*lead, bins, 2], np.int64))
    value = [names.new(f"{base}_{part}") for part in ("signal", "spectrum")]
    return [
        helper.make_node("Reshape", [node.input[0], flat], [value[0]], name=names.new(f"{base}_flatten")),
        helper.make_node("MatMul", [value[0], weight], [value[1]], name=base),
        helper.make_node("Reshape", [value[1], parts], [node.output[0]], name=names.new(f"{base}_split")),
    ]


REWRITES.register(
    Rewrite(
        name="fourier",
        title="Fourier transforms in real arithmetic",
        why="TFLite has no operator for STFT, and onnx2tf leaves a custom one (ONNX_STFT) with exit code 0",
        rank=20,
        apply=apply,
        serves=("onnx2tf",),
    )
)
