"""Integers at the boundary of a quantized ONNX graph, in place of floats."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from convert.precision._onnx_edit import Edit
from convert.precision._onnx_static import Ends, Steps
from convert.spec import Scale, Signature, TensorSpec

#: What 8-bit inputs and outputs are written in.
BOUNDARY = {"int8": Steps("int8", -128, 127), "uint8": Steps("uint8", 0, 255)}


def take_integers(edit: Edit, signature: Signature, io: str, ends: Callable[[str], Ends]) -> Signature:
    """Make float inputs and outputs 8-bit integers, in place, and give the signature this makes.

    The graph behind goes on as it was: an input is dequantized first, with the scale its own pair has, which loses
    nothing more.
    """
    steps = BOUNDARY[io]
    scales = {
        spec.name: Scale(*steps.parameters(ends(spec.name)))
        for spec in (*signature.inputs, *signature.outputs)
        if spec.dtype == "float32"
    }
    for value in edit.graph.input:
        if value.name in scales:
            floats = edit.fresh(f"{value.name}_float")
            edit.first(edit.node("DequantizeLinear", [value.name, *_numbers(edit, value.name, scales, io)], floats))
            for node in edit.read_by[value.name]:
                for place, name in enumerate(node.input):
                    node.input[place] = floats if name == value.name else name
    for value in edit.graph.output:
        maker = edit.made_by.get(value.name)
        if value.name in scales and maker is not None:
            floats = edit.fresh(f"{value.name}_unquantized")
            maker.output[list(maker.output).index(value.name)] = floats
            for node in edit.read_by[value.name]:
                for place, name in enumerate(node.input):
                    node.input[place] = floats if name == value.name else name
            edit.after(
                value.name,
                edit.node("QuantizeLinear", [floats, *_numbers(edit, value.name, scales, io)], value.name),
            )
    for value in (*edit.graph.input, *edit.graph.output):
        if value.name in scales:
            value.type.tensor_type.elem_type = {"int8": 3, "uint8": 2}[io]
    edit.finish()

    def changed(spec: TensorSpec) -> TensorSpec:
        return dataclasses.replace(spec, dtype=io, quantized=scales[spec.name]) if spec.name in scales else spec

    return Signature(tuple(map(changed, signature.inputs)), tuple(map(changed, signature.outputs)))


def _numbers(edit: Edit, name: str, scales: dict[str, Scale], io: str) -> tuple[str, str]:
    import numpy as np

    scale = edit.constant(f"{name}_boundary_scale", np.array(scales[name].scale, np.float32))
    return scale, edit.constant(f"{name}_boundary_zero_point", np.array(scales[name].zero_point, io))
