"""Weights that the quantizer leaves in float are reduced too: halves unpacked once, rows gathered as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_tflite import Tiny

from convert.formats._tflite_precision import operator_kinds
from convert.precision._tflite_tables import store_rest

TABLE = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)


def lookup(table: np.ndarray = TABLE) -> Any:
    """Build rows of a table, doubled."""
    tiny = Tiny()
    ids, rows, twice = tiny.tensor("ids", (6,)), tiny.tensor("rows", (6, 32)), tiny.tensor("twice", (6, 32))
    tiny.graph.tensors[ids].type = 2
    tiny.operator("GATHER", [tiny.tensor("table", table.shape, table), ids], rows)
    tiny.operator("ADD", [rows, rows], twice)
    tiny.graph.inputs, tiny.graph.outputs = [ids], [twice]
    return tiny.model


def kinds(model: Any) -> list[str]:
    return [operator_kinds(model)[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def stored(model: Any) -> int:
    return sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)


def test_a_table_in_halves_is_unpacked_before_it_is_read():
    model = lookup()
    store_rest(model, "fp16", frozenset())
    assert kinds(model) == ["DEQUANTIZE", "GATHER", "ADD"]
    assert stored(model) == TABLE.nbytes // 2


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-weights", "int4-weights"])
def test_rows_of_an_integer_table_are_unpacked_after_they_are_gathered(precision):
    model = lookup()
    store_rest(model, precision, frozenset())
    assert kinds(model) == ["GATHER", "DEQUANTIZE", "ADD"]
    assert stored(model) == TABLE.nbytes // 4
    graph = model.subgraphs[0]
    table = graph.tensors[graph.operators[0].inputs[0]]
    meant = np.frombuffer(bytes(model.buffers[table.buffer].data), np.int8) * table.quantization.scale[0]
    assert np.abs(meant.reshape(TABLE.shape) - TABLE).max() <= 0.5001 * table.quantization.scale[0]


@pytest.mark.parametrize(
    ("precision", "kept", "table"),
    [
        ("fp16", {"rows"}, TABLE),
        ("int8-weights", {"rows"}, TABLE),
        ("fp16", set(), TABLE * 1e6),
        ("int8", set(), TABLE),
        ("int8-weights", set(), TABLE[:20]),
    ],
    ids=["kept at fp16", "kept at int8-weights", "too large for halves", "static", "too small to be worth it"],
)
def test_what_is_kept_or_does_not_fit_or_is_not_worth_it_stays(precision, kept, table):
    model = lookup(table)
    store_rest(model, precision, frozenset(kept))
    assert kinds(model) == ["GATHER", "ADD"]
    assert stored(model) == table.nbytes
