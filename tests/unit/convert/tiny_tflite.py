"""Building TFLite graphs by hand, tensor by tensor."""

from __future__ import annotations

from typing import Any

import numpy as np


class Tiny:
    """One graph; every tensor is float32 unless its values say otherwise."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, ""
        self.model.subgraphs, self.model.operatorCodes = [self.graph], []
        self.model.buffers = [schema.BufferT()]
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def tensor(self, name: str, shape: tuple[int, ...], values: np.ndarray | None = None) -> int:
        """Add a tensor, a constant where it has values."""
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), np.array(shape, np.int32), 0
        made.type = 0 if values is None or values.dtype == np.float32 else 2
        if values is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            made.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, inputs: list[int], output: int, options: Any = None) -> None:
        """Add an operator with one output."""
        code, made = self.schema.OperatorCodeT(), self.schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, kind)
        code.version = 1
        self.model.operatorCodes.append(code)
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(made)
