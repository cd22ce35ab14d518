"""Products of matrices."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convert.torch_tensorflow.table import Call, cast, operator


@operator("mm.default", "bmm.default", "matmul.default")
def product(_: Call, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Multiply matrices."""
    return tf.matmul(a, b)


@operator("addmm.default", "baddbmm.default")
def product_and_more(_: Call, bias: tf.Tensor, a: tf.Tensor, b: tf.Tensor, beta: Any = 1, alpha: Any = 1) -> tf.Tensor:
    """Multiply matrices and add to the product."""
    found = tf.matmul(a, b)
    found = found if alpha == 1 else found * cast(alpha, found.dtype)
    if beta == 0:
        return found
    return found + (bias if beta == 1 else bias * cast(beta, found.dtype))


@operator("mv.default")
def product_with_vector(_: Call, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Multiply a matrix by a vector."""
    return tf.linalg.matvec(a, b)


@operator("dot.default")
def product_of_vectors(_: Call, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Multiply vectors."""
    return tf.tensordot(a, b, 1)
