"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convert.onnx_torch.table import Node, operator


@operator("MatMul")
def matmul(_: Node, left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices, batches of them broadcast."""
    return torch.matmul(left, right)


@operator("Gemm")
def gemm(node: Node, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give alpha * A B + beta * C, both matrices transposed where asked."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    left = left.t() if node.get("transA", 0) else left
    plain = alpha == 1.0 and beta == 1.0
    if plain and node.get("transB", 0) and left.is_floating_point() and bias is not None and bias.dim() == 1:
        # As a linear layer, which every converter fuses; a bias of one number per row would not fit it.
        return torch.nn.functional.linear(left, right, bias.expand(right.shape[0]))
    found = left @ (right.t() if node.get("transB", 0) else right)
    found = found if alpha == 1.0 else found * alpha
    if bias is None:
        return found
    return found + (bias if beta == 1.0 else bias * beta)


@operator("Einsum")
def einsum(node: Node, *values: Tensor) -> Tensor:
    """Sum products as an equation says."""
    return torch.einsum(node.get("equation").replace(" ", ""), *values)


@operator("Det")
def determinant(_: Node, value: Tensor) -> Tensor:
    """Determinants of matrices."""
    return torch.linalg.det(value)


@operator("MatMulInteger")
def matmul_integer(_: Node, left: Tensor, right: Tensor, left_zero: Any = None, right_zero: Any = None) -> Tensor:
    """Multiply matrices of 8-bit integers, exactly."""
    a, b = left.to(torch.int32), right.to(torch.int32)
    if left_zero is not None:
        zero = left_zero.to(torch.int32)
        a = a - (zero.unsqueeze(-1) if zero.dim() == 1 else zero)
    if right_zero is not None:
        b = b - right_zero.to(torch.int32)
    return torch.matmul(a, b)
