"""Half precision for ONNX graphs: weights and, where ONNX Runtime has half kernels on some CPU, arithmetic."""

from __future__ import annotations

from typing import Any

from convert.precision._onnx_edit import Edit
from convert.sources._onnx import STANDARD

#: Operators that compute in half precision: those ONNX Runtime has float16 kernels for on ARM, or on every CPU. All
#: others (normalizations, softmax, exponentials, sums over many numbers, recurrent layers) stay in float, with their
#: constants in half precision: they lose most to short mantissas, and x86 and ARM compute them in float in any case.
HALF = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "LeakyRelu", "Clip", "Add", "Sub", "Mul"}
    | {"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Reshape", "Flatten", "Transpose"}
    | {"Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Expand", "Pad", "Identity"}
)

#: What half precision can hold, and what is left of it for sums: beyond, a layer stays in float.
GREATEST = 65504.0

FLOAT, FLOAT16 = 1, 10


def halve(edit: Edit, kept: frozenset[str]) -> tuple[str, ...]:
    """Write everything into the graph, leaving out the layers named in `kept`; say what stayed in float, and why."""
    stored: dict[str, str] = {}
    wide = sorted(name for name, tensor in edit.constants.items() if _too_wide(edit, name, tensor))
    half = [node for node in edit.graph.node if _computes_in_half(edit, node, kept, frozenset(wide))]
    names = {node.name for node in half}
    outputs = [output for node in half for output in node.output if edit.dtypes.get(output) == FLOAT]
    made = {output: edit.fresh(f"{output}_half") for output in outputs}
    casts: dict[str, str] = {}
    for node in edit.graph.node:
        if node.name in names:
            _narrow(edit, node, made, stored, casts)
        else:
            _widen(edit, node, stored, kept)
    for value in made:
        if _read_as_float(edit, value, names):
            edit.after(value, edit.node("Cast", [made[value]], value, to=FLOAT))
    for value in edit.graph.value_info:
        if value.name in made:
            value.type.tensor_type.elem_type = FLOAT
    edit.finish()
    return (f"{len(wide)} constant(s) beyond 65504 stayed in float: {', '.join(wide[:3])}",) if wide else ()


def _too_wide(edit: Edit, name: str, tensor: Any) -> bool:
    import numpy as np

    if tensor.data_type != FLOAT:
        return False
    array = edit.array(name)
    return bool(array.size and np.abs(array[np.isfinite(array)]).max(initial=0.0) > GREATEST)


def _computes_in_half(edit: Edit, node: Any, kept: frozenset[str], wide: frozenset[str]) -> bool:
    if node.domain not in STANDARD or node.op_type not in HALF or node.name in kept or wide & set(node.input):
        return False
    floats = [name for name in node.input if edit.dtypes.get(name) == FLOAT]
    known = all(name in edit.dtypes for name in (*node.input, *node.output) if name)
    return known and bool(floats) and not all(name in edit.constants for name in floats)


def _narrow(edit: Edit, node: Any, made: dict[str, str], stored: dict[str, str], casts: dict[str, str]) -> None:
    """Make a node take and give half precision."""
    for place, name in enumerate(node.input):
        if edit.dtypes.get(name) != FLOAT:
            continue
        if name in edit.constants:
            node.input[place] = _stored(edit, name, stored)
        elif name in made:
            node.input[place] = made[name]
        else:
            if name not in casts:
                casts[name] = edit.fresh(f"{name}_half")
                edit.after(name, edit.node("Cast", [name], casts[name], to=FLOAT16))
            node.input[place] = casts[name]
    for place, name in enumerate(node.output):
        node.output[place] = made.get(name, name)


def _widen(edit: Edit, node: Any, stored: dict[str, str], kept: frozenset[str]) -> None:
    """Store the constants of a node that computes in float in half precision, unless it is to be left alone."""
    if node.name in kept or node.domain not in STANDARD:
        return
    for place, name in enumerate(node.input):
        if name not in edit.constants or edit.dtypes[name] != FLOAT or _too_wide(edit, name, edit.constants[name]):
            continue
        if edit.array(name).size > 1 and node.op_type not in ("Resize", "Upsample"):
            wide = f"{name} in float"
            if wide not in stored:
                stored[wide] = edit.fresh(f"{name}_float")
                edit.first(edit.node("Cast", [_stored(edit, name, stored)], stored[wide], to=FLOAT))
            node.input[place] = stored[wide]


def _stored(edit: Edit, name: str, stored: dict[str, str]) -> str:
    import numpy as np

    if name not in stored:
        array = edit.array(name)
        least, most = (-GREATEST, GREATEST)
        # Infinities, as attention masks have them, stay infinite; everything else fits.
        stored[name] = edit.constant(
            f"{name}_half", np.where(np.isfinite(array), np.clip(array, least, most), array).astype(np.float16)
        )
    return stored[name]


def _read_as_float(edit: Edit, value: str, half: set[str]) -> bool:
    readers = edit.read_by[value]
    return value in edit.outputs | edit.captured or any(node.name not in half for node in readers)
