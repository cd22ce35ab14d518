"""Where in the source a product belongs that nothing but the graph tells: the next one after what is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from validators.divergence import Value

#: Operators that multiply what they take with weights or with each other, in the words of all engines and sources. No
#: converter leaves one out or makes one of two, as it does with sums, scales and activations.
PRODUCTS = frozenset(
    {"FULLY_CONNECTED", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL"}
    | {"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul", "FusedGemm"}
    | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm", "MatMulNBits"}
    | {"aten::convolution", "aten::_convolution", "aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm"}
    | {"aten::linear", "aten::matmul"}
    | {"Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "BatchMatMul", "BatchMatMulV2", "Einsum"}
    | {"Dense", "EinsumDense", "Conv1D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"}
    | {"DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "Matmul"}
)


def next_products(values: Sequence[Value], known: Iterable[int]) -> list[int]:
    """List the products that are computed from every one of some tensors without another product between, in order."""
    after = [_reached(values, at) for at in known]
    return sorted(set.intersection(*after)) if after else []


def _reached(values: Sequence[Value], start: int) -> set[int]:
    reached, found = {start}, set()
    for at in range(start + 1, len(values)):
        if reached & set(values[at].inputs):
            if values[at].operator in PRODUCTS:
                found.add(at)
            else:
                reached.add(at)
    return found


def chain_of(values: Sequence[Value], start: int) -> list[int]:
    """List a tensor and what is computed from it step by step, as long as one alone takes it and is no product.

    A converter fuses such steps into the product.
    """
    chain = [start]
    while True:
        users = [at for at, value in enumerate(values) if chain[-1] in value.inputs]
        if len(users) != 1 or values[users[0]].operator in PRODUCTS:
            return chain
        chain += users
