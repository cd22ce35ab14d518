"""A product with constant weights becomes one fully connected layer that computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from convert.formats.tflite import write_model
from convert.routes._fully_connected import connect_fully
from validators.runtimes.litert import LiteRTSession

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(6, 4)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
ROWS = RNG.normal(size=(2, 5, 6)).astype(np.float32)


def network(bias: np.ndarray | None, *, transposed: bool = False, twice: bool = False):
    """BATCH_MATMUL of (2, 5, 6) with constant weights, then ADD and RELU where there is a bias."""
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, model.subgraphs, model.operatorCodes = 3, "", [graph], []
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators, graph.inputs = [], [], [0]

    def tensor(name: str, shape: tuple[int, ...], values: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), np.array(shape, np.int32), 0, 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(kind: str, options: object, inputs: list[int], output: int) -> None:
        code, made = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        model.operatorCodes.append(code)
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        made.builtinOptions = options
        made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        graph.operators.append(made)

    rows = tensor("rows", (2, 5, 6))
    values = np.ascontiguousarray(WEIGHTS.T) if transposed else WEIGHTS
    product = schema.BatchMatMulOptionsT()
    product.adjY = transposed
    out = tensor("product", (2, 5, 4))
    operator("BATCH_MATMUL", product, [rows, tensor("weights", values.shape, values)], out)
    graph.outputs = [out]
    if bias is not None:
        added = tensor("sum", (2, 5, 4))
        addition = schema.AddOptionsT()
        addition.fusedActivationFunction = schema.ActivationFunctionType.RELU
        operator("ADD", addition, [tensor("bias", bias.shape, bias), out], added)
        graph.outputs = [added, out] if twice else [added]
    return model


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
    model.subgraphs[0].tensors[2].buffer = 0
    assert connect_fully(model) == 0
