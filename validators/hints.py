"""What would make an artifact faster, said only where its own measured profile shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from convert.spec import NCHW
from validators.profiles import Hint, Operator, by_kind

#: Less of the time than this is not worth a change: all of it could be gained, and another run would hardly tell,
#: since windows of timings count as stable within 10 %.
LEAST_SHARE = 0.10

#: So many products with one and the same weights are a loop that was written out.
UNROLLED = 8

TRANSPOSES = frozenset({"TRANSPOSE", "Transpose", "ReorderInput", "ReorderOutput"})
CONVERSIONS = frozenset(
    {"QUANTIZE", "DEQUANTIZE", "Convert", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    | {"aten::quantize_per_tensor", "aten::dequantize"}
)
PRODUCTS = frozenset({"FULLY_CONNECTED", "Gemm", "MatMul", "FusedGemm", "FusedMatMul", "MatMulInteger", "QGemm"})

#: Steps of a layer normalisation that is in pieces, one of each group.
MEANS = frozenset({"MEAN", "ReduceMean", "SUM"})
SPREADS = frozenset({"SQUARED_DIFFERENCE", "SQUARE", "Pow", "POW", "ReduceSumSquare"})
ROOTS = frozenset({"RSQRT", "SQRT", "Sqrt"})

#: Steps of a GELU that is in pieces.
ERRORS = frozenset({"Erf", "FlexErf"})


def hints_for(operators: Sequence[Operator], partitions: int = 0, images: str = "") -> tuple[Hint, ...]:
    """Say what takes at least `LEAST_SHARE` of the time and can be avoided.

    `partitions` is in how many parts a delegate runs them, `images` the layout of the artifact's image inputs.
    """
    found = [
        transposes(operators, images),
        off_the_delegate(operators, partitions),
        conversions(operators),
        unrolled(operators),
        layer_norms(operators),
        gelus(operators),
    ]
    return tuple(sorted((hint for hint in found if hint), key=lambda hint: -hint.share))


def transposes(operators: Sequence[Operator], images: str) -> Hint | None:
    """Transposes of a TFLite file whose images have their channels first, which the other layout needs not."""
    share, count = _of(operators, TRANSPOSES)
    if share < LEAST_SHARE or images != NCHW or all(operator.delegated is None for operator in operators):
        return None
    words = f"{count} transpose(s) take {share:.0%} of the time, and its images are nchw: try --layout nhwc"
    return Hint("transposes", share, words)


def off_the_delegate(operators: Sequence[Operator], partitions: int) -> Hint | None:
    """Operators that XNNPACK leaves between those that it takes."""
    left = [operator for operator in operators if operator.delegated is False]
    share = sum(operator.share for operator in left)
    if share < LEAST_SHARE or partitions < 2:
        return None
    named = ", ".join(f"{kind} {part:.0%}" for kind, part in by_kind(left)[:4])
    words = f"operators that XNNPACK leaves take {share:.0%} of the time ({named}) and cut it into {partitions} parts: "
    return Hint("delegate", share, words + "write their layers with operators that it takes, or try --race")


def conversions(operators: Sequence[Operator]) -> Hint | None:
    """Conversions between integers and floats."""
    share, count = _of(operators, CONVERSIONS)
    if share < LEAST_SHARE or count < 2:
        return None
    words = (
        f"{count} conversions between integers and floats take {share:.0%} of the time: "
        "quantize the layers between them too, or leave all of them in float"
    )
    return Hint("conversions", share, words)


def unrolled(operators: Sequence[Operator]) -> Hint | None:
    """Products with the same weights again and again: a recurrence that was written out, step by step."""
    by_weight: dict[str, list[Operator]] = defaultdict(list)
    for operator in operators:
        if operator.kind in PRODUCTS and operator.weight:
            by_weight[operator.weight].append(operator)
    loops = [group for group in by_weight.values() if len(group) >= UNROLLED]
    # Only products are counted: nothing tells the elementwise steps of a cell from those of other layers.
    share = sum(operator.share for group in loops for operator in group)
    if share < LEAST_SHARE:
        return None
    longest = max(map(len, loops))
    words = (
        f"a recurrence is written out in {longest} steps, whose products take {share:.0%} of the time: "
        "a candidate that keeps it as one operator (--plan lists them, --via takes one) loads faster and may run faster"
    )
    return Hint("unrolled", share, words)


def layer_norms(operators: Sequence[Operator]) -> Hint | None:
    """Layer normalisations in pieces: means, squares and roots, as many of each as there are layers."""
    groups = [_of(operators, kinds) for kinds in (MEANS, SPREADS, ROOTS)]
    share = sum(part for part, _ in groups)
    counts = [count for _, count in groups]
    if share < LEAST_SHARE or not all(counts) or counts[0] < 2 * counts[2]:
        return None
    words = (
        f"{counts[2]} layer normalisation(s) are in pieces, whose means, squares and roots take {share:.0%} of the "
        "time: an ONNX export of opset 17 and newer has one operator for each"
    )
    return Hint("layer norm", share, words)


def gelus(operators: Sequence[Operator]) -> Hint | None:
    """GELUs in pieces: the error function by itself."""
    share, count = _of(operators, ERRORS)
    if share < LEAST_SHARE:
        return None
    words = f"{count} GELU(s) are in pieces, whose error function alone takes {share:.0%} of the time: "
    return Hint("gelu", share, words + "an approximate GELU (tanh) or an export that keeps it whole is faster")


def _of(operators: Iterable[Operator], kinds: frozenset[str]) -> tuple[float, int]:
    """Give the share of the time and the number of operators of some kinds."""
    shares = [operator.share for operator in operators if operator.kind in kinds]
    return sum(shares), len(shares)
