"""Ideals of TFLite files: the float graph, rounded in LiteRT's own operators where and as the quantized file rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convert.formats.tflite import DTYPES, distinct_names, read_model, write_model
from convert.spec import INT8
from validators.ideals import IDEALS, Building, Built, Ideal, Nudge
from validators.ideals._tflite_numbers import is_constant
from validators.ideals._tflite_rounding import Unmatched, round_as
from validators.ideals._tflite_undone import undo
from validators.runtimes.litert import LITERT

ALONE = (
    "the ideal is the file itself with its integer arithmetic undone: it shows faults of kernels, none of weights, "
    "scales or structure"
)


def build(task: Building) -> Built:
    """Round the float graph as the quantized one does, or, without a float one, the quantized one in floats."""
    model, _, notes = rounded(task)
    write_model(Path(task.out), model)
    return Built(task.out, notes)


def rounded(task: Building) -> tuple[Any, dict[int, int], tuple[str, ...]]:
    """Give the ideal, which of the quantized file's tensors those of its first graph are, and notes."""
    reduced = distinct_names(read_model(Path(task.reduced)))
    why = "no float file is known"
    if task.base:
        base = distinct_names(read_model(Path(task.base)))
        try:
            return base, round_as(base, reduced), ()
        except Unmatched as error:
            why = error.message
    alone = distinct_names(read_model(Path(task.reduced)))
    undo(alone)
    return alone, round_as(alone, reduced), (f"{ALONE} ({why})",)


def nudge(path: Path, change: Nudge) -> None:
    """Change every float constant."""
    import numpy as np

    model = read_model(path)
    done = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if DTYPES.get(tensor.type) == "float32" and is_constant(model, tensor) and tensor.buffer not in done:
                done.add(tensor.buffer)
                buffer = model.buffers[tensor.buffer]
                changed = change(np.frombuffer(bytes(buffer.data), np.float32))
                buffer.data = np.frombuffer(changed.tobytes(), np.uint8)
    write_model(path, model)


#: What integer kernels compute as the ideal does: products, and what moves numbers. Others round in ways of their own:
#: in right int8 files whose R is 1.0 to 1.06, D reaches 0.94 in a BERT (LiteRT's integer MEAN errs by a quarter of a
#: step on average, which RSQRT amplifies) and 0.82 in a U-Net of TRANSPOSE_CONV, RESIZE_BILINEAR and LOGISTIC. SOFTMAX
#: does not: 3e-6 in a network of heat maps, where a weight 1.01 times what it was measures 1.04, and 0.13 to 0.2 in a
#: MobileNetV2 that has ADD and MEAN besides.
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RELU", "RELU6", "SOFTMAX")
MOVES = ("MAX_POOL_2D", "RESHAPE", "TRANSPOSE", "PAD", "SHAPE", "STRIDED_SLICE", "PACK", "EXPAND_DIMS", "SQUEEZE")
LIKE = {INT8: frozenset((*PRODUCTS, *MOVES, "QUANTIZE", "DEQUANTIZE"))}

# NOTE: Why without delegates: resized from 3 rows to 20, XNNPACK in ai-edge-litert 2.3 answers wrongly on some of these
# graphs, which go to integers and back between operators; loaded anew, or with plain kernels, they are right.
IDEALS.register(Ideal("tflite", LITERT, build, nudge, runtime="tflite", like=LIKE))
