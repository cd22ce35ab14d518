"""The multiply-accumulates of ONNX's operators, and of those that ONNX Runtime's quantizer writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from validators.costs import _formulas as formulas
from validators.costs._formulas import Shape

#: Operators without multiply-accumulates. What is in no list here has none that are known.
NONE = frozenset(
    {"Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool"}
    | {"BatchNormalization", "Bernoulli", "BiasGelu", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr"}
    | {"BitwiseXor", "BlackmanWindow", "Cast", "CastLike", "Ceil", "Celu", "CenterCropPad", "Clip", "Col2Im"}
    | {"Compress", "Concat", "ConcatFromSequence", "Constant", "ConstantOfShape", "Cos", "Cosh", "CumProd", "CumSum"}
    | {"DepthToSpace", "DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp"}
    | {"Expand", "EyeLike", "FastGelu", "Flatten", "Floor", "Gather", "GatherBlockQuantized", "GatherElements"}
    | {"GatherND", "Gelu", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual"}
    | {"GridSample", "GroupNormalization", "HammingWindow", "HannWindow", "HardSigmoid", "HardSwish", "Hardmax"}
    | {"Identity", "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Less"}
    | {"LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool", "Max", "MaxPool", "MaxRoiPool", "MaxUnpool"}
    | {"Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Multinomial", "Neg", "NonMaxSuppression"}
    | {"NonZero", "Not", "OneHot", "Optional", "OptionalGetElement", "OptionalHasElement", "Or", "PRelu", "Pad", "Pow"}
    | {"QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu"}
    | {"QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear"}
    | {"QuickGelu", "RMSNormalization", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
    | {"Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"}
    | {"ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "ReverseSequence"}
    | {"RoiAlign", "RotaryEmbedding", "Round", "Scatter", "ScatterElements", "ScatterND", "Selu", "SequenceAt"}
    | {"SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "Shape", "Shrink"}
    | {"Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh", "Size", "SkipLayerNormalization", "Slice"}
    | {"Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "SplitToSequence", "Sqrt", "Squeeze", "Sub", "Sum"}
    | {"Swish", "SwiGLU", "Tan", "Tanh", "TensorScatter", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu"}
    | {"Unique", "Unsqueeze", "Upsample", "Where", "Xor"}
)

#: Convolutions, and where among their inputs the kernel is.
CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1, "DeformConv": 1}

#: Matrix products, and where among their inputs the right factor is. Its last axis but one is summed over.
PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3, "DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1}

#: Recurrent operators; the matrices come second and third.
RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})


def macs_of(
    kind: str, inputs: Sequence[Shape | None], output: Shape | None, attributes: Mapping[str, Any]
) -> int | None:
    """Give the MACs of one operator from its shapes and attributes, None where they are not known."""
    if kind in NONE:
        return 0
    if output is None or not inputs or inputs[0] is None:
        return None
    first = inputs[0]
    if (at := CONVOLUTIONS.get(kind)) is not None:
        weight = inputs[at]  # [O, I / groups, ...]
        return None if weight is None else formulas.convolution(output, weight[1:])
    if kind == "ConvTranspose":
        weight = inputs[1]  # [I, O / groups, ...]
        return None if weight is None else formulas.transposed_convolution(first, weight[1:])
    if kind in PRODUCTS:
        return formulas.product(output, first[-1]) if first else None
    if kind in ("Gemm", "QGemm"):
        return formulas.product(output, first[0 if attributes.get("transA") else 1])
    if kind == "MatMulNBits":
        return formulas.product(output, int(attributes["K"]))
    if kind in RECURRENT:
        matrices = [shape for shape in inputs[1:3] if shape is not None]
        return formulas.recurrent(prod(first[:2]), matrices) if len(matrices) == 2 else None
    if kind == "Einsum":
        shapes = [shape for shape in inputs if shape is not None]
        equation = attributes["equation"].decode()
        return formulas.einsum(equation, shapes) if len(shapes) == len(inputs) else None
    if kind == "Attention" and len(first) == 4 and len(inputs) > 2 and inputs[2] is not None:
        return formulas.attention(first, inputs[2])
    return None
