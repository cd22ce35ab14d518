"""ONNX at reduced precision, in the operators of the standard that ONNX Runtime has kernels for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.formats._onnx_folding import fold
from convert.formats._onnx_precision import precision_of
from convert.formats.onnx import read_model, write_model
from convert.precision import QUANTIZERS, Layer, Quantizer, Reduced, Reduction
from convert.precision._equalise import on_equalised
from convert.precision._equalise_onnx import write_equalised
from convert.precision._onnx_dynamic import quantize_dynamically
from convert.precision._onnx_edit import Edit, raised
from convert.precision._onnx_half import halve
from convert.precision._onnx_io import take_integers
from convert.precision._onnx_static import (
    ABSORBED,
    COMBINING,
    INT16,
    MOVING,
    MULTIPLYING,
    UINT8,
    Ends,
    Selection,
    Static,
    select,
    store,
    take_biases,
)
from convert.precision._onnx_weights import FEW, RECURRENT, blocked, turned, weights_of
from convert.precision._ranges import Observer, remembered
from convert.recipe import RANGES
from convert.spec import (
    CALIBRATED,
    FLOAT_IO,
    FP16,
    FP32,
    INT4_WEIGHTS,
    INT8,
    INT8_DYNAMIC,
    INT8_WEIGHTS,
    INT16X8,
    IO_TYPES,
    Signature,
)
from convert.worker import Environment

if TYPE_CHECKING:
    import onnx

#: The least version of the standard's operators: scales per channel came with 13, 16-bit and blocks of 4-bit integers
#: with 21.
OPSETS = {FP16: 13, INT8_DYNAMIC: 13, INT8: 13, INT8_WEIGHTS: 13, INT16X8: 21, INT4_WEIGHTS: 21}


def quantize(task: Reduction) -> Reduced:
    """Write the reduced artifact; raises RouteError where the recipe cannot be honoured."""
    precision = task.recipe.precision
    if task.recipe.io != FLOAT_IO and precision not in CALIBRATED:
        raise RouteError(
            f"an ONNX artifact of precision {precision} takes and gives floats: it has no ranges for anything else",
            fix=f"leave --io out, or choose {' or '.join(CALIBRATED)}",
        )
    task = on_equalised(task, write_equalised)
    model = raised(folded(Path(task.base.path)), OPSETS[precision])
    fold(model)
    kept = _kept(task, Edit(model))
    if precision in CALIBRATED:
        signature, notes = _statically(task, model, kept)
    else:
        signature, notes = task.base.signature, _uncalibrated(precision, model, kept)
    if not kept and (became := precision_of(model)) != precision:
        raise RouteError(
            f"ONNX Runtime has no kernel that would make anything of this model {precision}; it would be {became}",
            fix=f"choose --precision {became}",
        )
    for node in model.graph.node:
        # PyTorch's traces of each operator, and names that repeat those of outputs, can be longer than the weights.
        del node.metadata_props[:]
        node.name = ""
    write_model(Path(task.out), model)
    return Reduced(signature, notes)


def folded(path: Path) -> onnx.ModelProto:
    """Read a float file whole and fold it; raises RouteError for one that is quantized already."""
    model = read_model(path)
    found = precision_of(model)
    if found != FP32:
        raise RouteError(
            f"{path.name} is quantized already ({found}); quantizing it again would only lose more",
            fix="give the float model it was made of",
        )
    fold(model)
    return model


def _kept(task: Reduction, edit: Edit) -> frozenset[str]:
    """Name the layers to leave in float; raises RouteError for one that is not there."""
    there = {node.name for node in edit.graph.node}
    for kept in task.recipe.kept:
        if kept.layer not in there:
            raise RouteError(
                f"the recipe keeps the layer {kept.layer!r}, which {Path(task.base.path).name} does not have",
                fix="use the recipe with the model it was made for, or leave --recipe out",
            )
        if kept.precision != FP32:
            raise RouteError(f"ONNX layers can be kept in {FP32}, not in {kept.precision}", fix="change the recipe")
    return frozenset(kept.layer for kept in task.recipe.kept)


def layers_of(path: Path) -> tuple[Layer, ...]:
    """List the nodes with weights, named after their first output."""
    edit = Edit(folded(path))
    found = []
    for node in edit.graph.node:
        weights = [weight for weight in weights_of(edit, node) if edit.array(weight.name).size >= FEW]
        if weights or (node.op_type in MULTIPLYING and weights_of(edit, node)):
            size = sum(edit.array(weight.name).nbytes for weight in weights_of(edit, node))
            found.append(Layer(node.name, node.op_type, size))
    return tuple(found)


def _uncalibrated(precision: str, model: onnx.ModelProto, kept: frozenset[str]) -> tuple[str, ...]:
    """Reduce a folded model in place without calibration data; say what there is to say."""
    edit = Edit(model)
    notes = _in_float(edit, kept) if precision != FP16 else ()
    if precision == FP16:
        return halve(edit, kept)
    if precision == INT8_DYNAMIC:
        quantize_dynamically(edit, kept)
        return notes
    wide = 0
    for node in list(edit.graph.node):
        if node.name not in kept:
            turned(edit, node)
        weights = () if node.name in kept else weights_of(edit, node)
        if not weights or max(edit.array(weight.name).size for weight in weights) < FEW:
            continue
        if precision == INT4_WEIGHTS and blocked(edit, node, weights[0]):
            continue
        wide += precision == INT4_WEIGHTS
        store(edit, node)
    edit.finish()
    return (f"{wide} layer(s) have 8-bit weights: ONNX Runtime multiplies 4-bit matrices only",) if wide else ()


def _in_float(edit: Edit, kept: frozenset[str]) -> tuple[str, ...]:
    """Say which layers only store their weights as integers."""
    operators = {"Conv", "ConvTranspose", *RECURRENT}
    found = sorted({n.op_type for n in edit.graph.node if n.op_type in operators and n.name not in kept})
    if not found:
        return ()
    return (f"{', '.join(found)}: weights in int8, arithmetic in float, as ONNX Runtime has no faster kernel",)


def _statically(task: Reduction, model: onnx.ModelProto, kept: frozenset[str]) -> tuple[Signature, tuple[str, ...]]:
    """Quantize a folded model in place with ranges from calibration data."""
    if task.calibration is None:
        raise RouteError(f"{task.recipe.precision} needs calibration data", fix="give --calibration")
    calibration = task.calibration
    steps = UINT8 if task.recipe.precision == INT8 else INT16
    with tempfile.TemporaryDirectory(dir=Path(task.out).parent) as folder:
        place = Path(folder) / "observed.onnx"
        observer = remembered(
            task.base, calibration, lambda seen: _observe(model, place, calibration.samples, task.base.signature, seen)
        )

    def ends(value: str, bits: int = 8 if steps is UINT8 else 16) -> Ends:
        return observer.range_of(value, task.recipe.ranges, bits, symmetric=steps.symmetric)

    edit = Edit(model)
    take_biases(edit, kept)
    edit.finish()
    edit = Edit(model)
    found = select(edit, kept)
    if not (found.multiplying or found.stored):
        raise RouteError("no operator of this model has weights that could be quantized", fix="leave --precision out")
    Static(edit, found, ends, steps).write()
    signature = task.base.signature
    if task.recipe.io != FLOAT_IO:
        signature = take_integers(
            Edit(model), signature, task.recipe.io, lambda value: observer.range_of(value, task.recipe.ranges)
        )
    return signature, _static_notes(task.recipe.precision, found)


def _static_notes(precision: str, found: Selection) -> tuple[str, ...]:
    notes = []
    if found.stored:
        kinds = ", ".join(sorted({node.op_type for node in found.stored}))
        notes.append(f"{kinds}: weights in int8, arithmetic in float, as ONNX Runtime has no integer kernel")
    if precision == INT16X8:
        notes.append(
            "ONNX Runtime's CPU has no 16-bit integer kernels: it rounds activations to 16 bits and multiplies in "
            "float, which takes longer than float alone; the file is for accelerators that have them"
        )
    return tuple(notes)


def _observe(
    model: onnx.ModelProto,
    place: Path,
    samples: Callable[[], Any],
    signature: Signature,
    observer: Observer,
) -> None:
    """Run the folded float model on every sample and feed an observer with all values that could be quantized."""
    import onnx

    from convert.sources._onnx import open_session, run_session

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    edit = Edit(watched)
    outputs = {value.name for value in watched.graph.output}
    inputs = {spec.name for spec in signature.inputs if spec.dtype == "float32"}
    wanted: dict[str, None] = {}
    for node in watched.graph.node:
        if node.op_type in (*MULTIPLYING, *MOVING, *COMBINING, *ABSORBED):
            wanted |= {n: None for n in (*node.input, *node.output) if edit.dtypes.get(n) == 1}
    wanted = {name: None for name in wanted if name not in edit.constants and name not in inputs | outputs}
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in wanted)
    write_model(place, watched)
    session = open_session(place, 0)
    dtypes = {spec.name: spec.dtype for spec in signature.inputs}
    for sample in samples():
        fed = {name: array.astype(dtypes[name], copy=False) for name, array in sample.items() if name in dtypes}
        for name, array in {**fed, **run_session(session, fed)}.items():
            if str(array.dtype) == "float32":
                observer.feed(name, array)


QUANTIZERS.register(
    Quantizer(
        name="onnxruntime",
        title="ONNX Runtime's operators",
        format="onnx",
        precisions=(FP16, INT8_DYNAMIC, INT8, INT16X8, INT8_WEIGHTS, INT4_WEIGHTS),
        rank=10,
        why="QuantizeLinear/DequantizeLinear pairs only where ONNX Runtime has integer kernels; its own tool puts them "
        "around every operator",
        environment=Environment("onnxruntime", ("numpy", "onnxruntime", "onnx")),
        quantize=quantize,
        layers=layers_of,
        keeps=(FP32,),
        ranges=RANGES,
        equalises=True,
        io=IO_TYPES,
    )
)
