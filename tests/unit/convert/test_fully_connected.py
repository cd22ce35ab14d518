"""A product with constant weights becomes one fully connected layer that computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_tflite import Tiny

from convert.formats.tflite import write_model
from convert.routes._fully_connected import connect_fully
from validators.runtimes.litert import LiteRTSession

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(6, 4)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
ROWS = RNG.normal(size=(2, 5, 6)).astype(np.float32)


def network(bias: np.ndarray | None, *, transposed: bool = False, twice: bool = False):
    """BATCH_MATMUL of (2, 5, 6) with constant weights, then ADD and RELU where there is a bias."""
    tiny = Tiny()
    values = np.ascontiguousarray(WEIGHTS.T) if transposed else WEIGHTS
    rows, weights = tiny.tensor("rows", (2, 5, 6)), tiny.tensor("weights", values.shape, values)
    out = tiny.tensor("product", (2, 5, 4))
    product, addition = tiny.schema.BatchMatMulOptionsT(), tiny.schema.AddOptionsT()
    product.adjY = transposed
    tiny.operator("BATCH_MATMUL", [rows, weights], out, product)
    tiny.graph.inputs, tiny.graph.outputs = [rows], [out]
    if bias is not None:
        added = tiny.tensor("sum", (2, 5, 4))
        addition.fusedActivationFunction = tiny.schema.ActivationFunctionType.RELU
        tiny.operator("ADD", [tiny.tensor("bias", bias.shape, bias), out], added, addition)
        tiny.graph.outputs = [added, out] if twice else [added]
    return tiny.model


def run(model, path) -> list[np.ndarray]:
    write_model(path, model)
    return list(LiteRTSession(str(path), 1).run({"rows": ROWS}).values())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("bias", "twice", "operators"),
    [
        (None, False, 1),
        (BIAS, False, 1),
        (BIAS.reshape(1, 1, 4), False, 1),
        (BIAS, True, 2),  # the product is an output too
        (np.ones((5, 4), np.float32), False, 2),  # no bias: it differs between rows
    ],
)
def test_it_computes_the_same_in_fewer_operators(tmp_path, transposed, bias, twice, operators):
    model = network(bias, transposed=transposed, twice=twice)
    expected = run(model, tmp_path / "before.tflite")
    assert connect_fully(model) == 1
    assert len(model.subgraphs[0].operators) == operators
    for one, other in zip(expected, run(model, tmp_path / "after.tflite"), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_a_product_of_two_computed_matrices_stays(tmp_path):
    model = network(None)
    model.subgraphs[0].tensors[1].buffer = 0
    assert connect_fully(model) == 0
