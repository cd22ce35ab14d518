"""The multiply-accumulates of TFLite's operators."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from validators.costs import _formulas as formulas
from validators.costs._formulas import Shape

#: Operators without multiply-accumulates. What is in no list here has none that are known.
NONE = frozenset(
    {"ABS", "ADD", "ADD_N", "ARG_MAX", "ARG_MIN", "ASSIGN_VARIABLE", "ATAN2", "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND"}
    | {"BITCAST", "BITWISE_XOR", "BROADCAST_ARGS", "BROADCAST_TO", "BUCKETIZE", "CAST", "CEIL", "COMPLEX_ABS"}
    | {"CONCATENATION", "CONCAT_EMBEDDINGS", "COS", "CUMSUM", "DENSIFY", "DEPTH_TO_SPACE", "DEQUANTIZE", "DILATE"}
    | {"DIV", "DYNAMIC_UPDATE_SLICE", "ELU", "EMBEDDING_LOOKUP", "EQUAL", "EXP", "EXPAND_DIMS", "FAKE_QUANT", "FILL"}
    | {"FLOOR", "FLOOR_DIV", "FLOOR_MOD", "GATHER", "GATHER_ND", "GELU", "GREATER", "GREATER_EQUAL", "HARD_SWISH"}
    | {"HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_LOOKUP", "HASHTABLE_SIZE", "IMAG"}
    | {"L2_NORMALIZATION", "L2_POOL_2D", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOCAL_RESPONSE_NORMALIZATION", "LOG"}
    | {"LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC", "LOG_SOFTMAX", "MATRIX_DIAG", "MATRIX_SET_DIAG"}
    | {"MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "MULTINOMIAL", "NEG", "NON_MAX_SUPPRESSION_V4"}
    | {"NON_MAX_SUPPRESSION_V5", "NOT_EQUAL", "ONE_HOT", "PACK", "PAD", "PADV2", "POW", "PRELU", "QUANTIZE"}
    | {"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "RANGE", "RANK", "READ_VARIABLE", "REAL", "REDUCE_ALL", "REDUCE_ANY"}
    | {"REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RESHAPE"}
    | {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_SEQUENCE", "REVERSE_V2", "RIGHT_SHIFT", "ROUND", "RSQRT"}
    | {"SCATTER_ND", "SEGMENT_SUM", "SELECT", "SELECT_V2", "SHAPE", "SIGN", "SIN", "SLICE", "SOFTMAX"}
    | {"SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPARSE_TO_DENSE", "SPLIT", "SPLIT_V", "SQRT", "SQUARE"}
    | {"SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE", "TOPK_V2", "TRANSPOSE", "UNIQUE"}
    | {"UNPACK", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_SUM"}
    | {"VAR_HANDLE", "WHERE", "ZEROS_LIKE"}
)

#: Recurrent operators, and where among their inputs the matrices are (the constants k...Weights... of
#: tflite/kernels); those of sequences have a time axis, the others run one step.
LSTM_MATRICES = (1, 2, 3, 4, 5, 6, 7, 8, 16)
RECURRENT = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": LSTM_MATRICES,
    "LSTM": LSTM_MATRICES,
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "RNN": (1, 2),
    "SVDF": (1, 2),
    # Weights of the forward and the backward cell, and those of an auxiliary input.
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16, *range(18, 26), 33, *range(40, 48)),
    "BIDIRECTIONAL_SEQUENCE_RNN": (1, 2, 5, 6, 10, 11),
}


def macs_of(kind: str, inputs: Sequence[Shape | None], output: Shape | None, *, transposed: bool = False) -> int | None:
    """Give the MACs of one operator from its shapes, None where they are not known.

    `inputs` are in their order, None for those left out or not known; `transposed` says that a matrix product takes
    its left factor transposed.
    """
    if kind in NONE:
        return 0
    if kind in RECURRENT and (kind, len(inputs)) != ("LSTM", 5):  # the basic kernel has its own order
        weights = [inputs[at] for at in RECURRENT[kind] if at < len(inputs)]
        matrices = [shape for shape in weights if shape is not None and len(shape) == 2]
        steps = inputs[0][:-1] if inputs and inputs[0] is not None else None
        return None if steps is None or not matrices else formulas.recurrent(prod(steps), matrices)
    if len(inputs) < 2 or inputs[1] is None or output is None:
        return None
    first, weight = inputs[0], inputs[1]
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        # [O, h, w, I] and, where each channel has a kernel of its own, [1, h, w, O].
        return formulas.convolution(output, weight[1:] if kind == "CONV_2D" else weight[1:3])
    if kind == "CONV_3D":
        return formulas.convolution(output, weight[:4])  # [d, h, w, I, O]
    if kind in ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE"):  # the first input is the output's shape
        taken = inputs[2] if len(inputs) > 2 else None
        taps = weight[:3] if kind == "TRANSPOSE_CONV" else weight[:4]  # [O, h, w, I] and [d, h, w, O, I]
        return None if taken is None else formulas.transposed_convolution(taken, taps)
    if kind == "FULLY_CONNECTED":
        return formulas.product(output, weight[-1])
    if kind == "BATCH_MATMUL" and first is not None:
        return formulas.product(output, first[-2] if transposed else first[-1])
    return None
