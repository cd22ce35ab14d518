"""TFLite files at lower precision through ai-edge-quantizer, from any proven float file and with our own ranges."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError, UsageError
from convert.formats._tflite_precision import operator_kinds
from convert.formats.tflite import distinct_names, read, read_model, write_model
from convert.precision import QUANTIZERS, Layer, Quantizer, Reduced, Reduction
from convert.precision._equalise import on_equalised
from convert.precision._equalise_tflite import write_equalised
from convert.precision._ranges import Observer, remembered
from convert.precision._tflite_contract import names, sealed
from convert.precision._tflite_data import observe, required
from convert.precision._tflite_tables import LARGEST_FP16, store_rest
from convert.recipe import RANGES, Recipe
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
)
from convert.worker import Environment

if TYPE_CHECKING:
    import numpy as np

#: Activations that reach beyond this are masks: numbers that stand for minus infinity before a softmax, of which no
#: integer range leaves anything to the scores beside them. LiteRT aborts on the scale of 3.4e38.
LARGEST_RANGE = 1e9

ACTIVATION_BITS = {INT8: 8, INT16X8: 16}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a float file that has floats to quantize."""

    name: str  # its first output tensor's
    scope: str  # what the tool matches regular expressions against: the names of all its outputs
    kind: str
    graph: int
    weights: tuple[np.ndarray, ...]
    floats: tuple[str, ...] = ()  # names of its float tensors


def operators_of(model: Any) -> tuple[Operator, ...]:
    """List the operators that compute with float32 tensors, in order, those of loops and branches after the main."""
    from ai_edge_litert.schema_py_generated import TensorType
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope, get_tensor_data

    kinds = operator_kinds(model)
    found = []
    for number, graph in enumerate(model.subgraphs):
        for operator in graph.operators or ():
            tensors = [graph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
            floats = [tensor for tensor in tensors if tensor.type == TensorType.FLOAT32]
            if not floats or not len(operator.outputs):
                continue
            values = [get_tensor_data(tensor, model.buffers) for tensor in floats]
            found.append(
                Operator(
                    graph.tensors[operator.outputs[0]].name.decode(),
                    get_op_scope(operator, graph.tensors),
                    kinds[operator.opcodeIndex],
                    number,
                    tuple(value for value in values if value is not None),
                    tuple(tensor.name.decode() for tensor in floats),
                )
            )
    return tuple(found)


def quantizable() -> dict[str, str]:
    """Name the kinds of operators the tool can quantize, TFLite's names to its own."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME

    names = {value: key for key, value in vars(BuiltinOperator).items() if isinstance(value, int)}
    return {names[code]: str(name.value) for code, name in TFL_OP_CODE_TO_NAME.items()}


def layers(path: Path) -> tuple[Layer, ...]:
    """List the operators of a float file's main graph that the tool can quantize."""
    able = quantizable()
    model = distinct_names(read_model(path))
    return tuple(
        Layer(op.name, op.kind, sum(weights.nbytes for weights in op.weights))
        for op in operators_of(model)
        if op.kind in able and op.graph == 0
    )


def quantize(task: Reduction) -> Reduced:
    """Quantize the float file as the recipe says.

    Raises RouteError where nothing of it can be, or the file is quantized already.
    """
    from ai_edge_quantizer.quantizer import Quantizer as Tool

    check(task)
    task = on_equalised(task, write_equalised)
    out = Path(task.out)
    model = distinct_names(read_model(Path(task.base.path)))
    found = operators_of(model)
    write_model(out, model)
    tool = Tool(str(out))
    observer = None
    if task.recipe.precision in CALIBRATED:
        observer = remembered(task.base, required(task), lambda empty: observe(task, empty))
    notes = list(configure(tool, task, model, found, observer))
    ranges = ranges_of(task, model, observer) if observer and tool.need_calibration else None
    made = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    out.write_bytes(bytes(made.quantized_model))
    mend(out, task.recipe)
    promised = task.base.signature
    signature = sealed(out, promised, names(promised.inputs), names(promised.outputs))
    if read(out).precision != task.recipe.precision and not task.recipe.kept:
        raise RouteError(f"ai-edge-quantizer finds nothing in this file that it can make {task.recipe.precision}")
    return Reduced(signature, tuple(notes))


def check(task: Reduction) -> None:
    """Refuse what the recipe asks of this file and the tool cannot do."""
    precision, io = task.recipe.precision, task.recipe.io
    stated = read(Path(task.base.path)).precision
    if stated != FP32:
        raise UsageError(
            f"{task.base.path} is of precision {stated} already; only float files are quantized",
            fix="give the float file it was made from",
        )
    if io != FLOAT_IO and precision != INT8:
        raise UsageError(
            f"--io {io} means inputs and outputs in 8 bits, which {precision} files do not have",
            fix=f"leave --io out, or ask for --precision {INT8}",
        )
    if task.recipe.ranges not in RANGES:
        raise UsageError(f"there are no ranges {task.recipe.ranges!r}", fix=f"use one of: {', '.join(RANGES)}")


def configure(
    tool: Any, task: Reduction, model: Any, found: tuple[Operator, ...], observer: Observer | None
) -> Iterator[str]:
    """Tell the tool what to do with which operators; gives what there is to say about it.

    A later rule overrides an earlier one.
    """
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    everything, precision = TFLOperationName.ALL_SUPPORTED, task.recipe.precision

    def leave(operators: list[Operator]) -> None:
        for operator in operators:
            tool.update_quantization_recipe(exactly(operator), everything, None, AlgorithmName.NO_QUANTIZE)

    rule(tool, precision)
    if precision in CALIBRATED:
        inner = [operator for operator in found if operator.graph]
        leave(inner)
        for operator in inner:
            tool.add_dynamic_config(f"{exactly(operator)}(?:)", everything, 8)
        if any(operator.weights for operator in inner):
            yield "inside loops and branches only weights are quantized, since no ranges are known there"
        yield from left_in_float(found)
    beyond = [operator for operator in found if _unfit(operator, precision)]
    leave(beyond)
    if beyond:
        names = ", ".join(operator.name for operator in beyond[:3])
        yield f"{len(beyond)} operator(s) stay in float for constants that {precision} cannot hold: {names}"
    divisions = [operator for operator in found if precision == INT8 and operator.kind == "DIV" and not operator.graph]
    leave(divisions)
    if divisions:
        yield f"{len(divisions)} division(s) stay in float: LiteRT refuses a divisor that rounds to zero"
    masks = [operator for operator in found if observer is not None and _masks(operator, observer)]
    leave(masks)
    if masks:
        names = ", ".join(operator.name for operator in masks[:3])
        yield f"{len(masks)} operator(s) stay in float for a mask, which no range of integers can hold: {names}"
    kept = list(_kept(task, found))
    leave([operator for operator, finer in kept if finer == FP32])
    for operator, finer in kept:
        if finer != FP32:
            tool.add_static_config(exactly(operator), everything, ACTIVATION_BITS[finer], 8)
    if precision in CALIBRATED:
        boundary(tool, model, task.recipe.io)


def exactly(operator: Operator) -> str:
    """Give the regular expression that matches one operator's scope."""
    return f"^{re.escape(operator.scope)}$"


def rule(tool: Any, precision: str) -> None:
    """Set what all operators are to be that the tool can make so."""
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    everything = TFLOperationName.ALL_SUPPORTED
    if precision == FP16:
        tool.add_weight_only_config(".*", everything, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    elif precision == INT8_DYNAMIC:
        tool.add_dynamic_config(".*", everything, 8)
    elif precision in (INT8_WEIGHTS, INT4_WEIGHTS):
        tool.add_weight_only_config(".*", everything, 8)
        if precision == INT4_WEIGHTS:  # what has no kernel for 4 bits keeps 8
            tool.add_weight_only_config("", everything, 4)
    else:
        tool.add_static_config(".*", everything, ACTIVATION_BITS[precision], 8)


def boundary(tool: Any, model: Any, io: str) -> None:
    """Set what inputs and outputs of the main graph are; loops and branches take and give floats.

    It comes last, because the rule of a layer matches the output that it computes, too.
    """
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import get_op_scope, get_subgraph_input_output_operators

    integers = qtyping.TensorQuantizationConfig(
        8, symmetric=False, dtype=qtyping.TensorDataType.UINT if io == "uint8" else qtyping.TensorDataType.INT
    )
    weights = qtyping.TensorQuantizationConfig(8, granularity=qtyping.QuantGranularity.CHANNELWISE)
    config = qtyping.OpQuantizationConfig(integers, weights, qtyping.ComputePrecision.INTEGER)
    for number, graph in enumerate(model.subgraphs):
        for side in get_subgraph_input_output_operators(graph):
            rule = f"^{re.escape(get_op_scope(side, graph.tensors))}$"
            if io == FLOAT_IO or number:
                tool.update_quantization_recipe(rule, side.op_key, None, AlgorithmName.NO_QUANTIZE)
            else:
                tool.update_quantization_recipe(rule, side.op_key, config)


def left_in_float(found: tuple[Operator, ...]) -> Iterator[str]:
    """Say which operators of the main graph the tool knows no quantized form of."""
    able = quantizable()
    kinds = Counter(op.kind for op in found if op.graph == 0 and op.kind not in able and op.kind != "SHAPE")
    if kinds:
        listed = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        yield f"stay in float, since ai-edge-quantizer has no quantized form of them: {listed}"


def _unfit(operator: Operator, precision: str) -> bool:
    """Whether a precision cannot hold an operator's constants: infinities, and for halves what is too large."""
    import numpy as np

    limit = LARGEST_FP16 if precision == FP16 else np.finfo(np.float32).max
    return any(values.size and not np.abs(values).max() <= limit for values in operator.weights)


def _masks(operator: Operator, observer: Observer) -> bool:
    """Whether an activation of an operator reaches beyond all numbers that can be meant."""
    seen = set(observer.names)
    return any(observer.reach(name) > LARGEST_RANGE for name in operator.floats if name in seen)


def _kept(task: Reduction, found: tuple[Operator, ...]) -> Iterator[tuple[Operator, str]]:
    named = {operator.name: operator for operator in found if operator.graph == 0}
    for kept in task.recipe.kept:
        if kept.layer not in named:
            raise RouteError(
                f"the recipe keeps {kept.layer!r} in {kept.precision}, and the float file has no such layer",
                fix="search again: the float file is not the one the recipe was made with",
            )
        if kept.precision not in (FP32, INT16X8) or (kept.precision == INT16X8 and task.recipe.precision != INT8):
            raise RouteError(f"a layer of a TFLite file of {task.recipe.precision} cannot be kept in {kept.precision}")
        yield named[kept.layer], kept.precision


def ranges_of(task: Reduction, model: Any, observer: Observer) -> dict[str, dict[str, np.ndarray]]:
    """Give the tool the range of every float tensor that calibration data reaches, as its calibrator would."""
    import numpy as np

    seen = set(observer.names)
    finer = {kept.layer for kept in task.recipe.kept if kept.precision == INT16X8}
    ranges = {}
    for tensor in model.subgraphs[0].tensors:
        name = tensor.name.decode()
        constant = model.buffers[tensor.buffer].data is not None
        if constant or name not in seen or observer.reach(name) > LARGEST_RANGE:
            continue
        bits = 16 if name in finer else ACTIVATION_BITS[task.recipe.precision]
        ends = observer.range_of(name, task.recipe.ranges, bits, symmetric=bits == 16)
        axes = (1,) * (0 if tensor.shape is None else len(tensor.shape))
        low, high = (np.full(axes, end, np.float32) for end in ends)
        ranges[name] = {"min": low, "max": high}
    return ranges


def mend(path: Path, recipe: Recipe) -> None:
    """Undo in place what the tool does to files of free sizes, and reduce the weights that it leaves in float."""
    model = read_model(path)
    kinds = operator_kinds(model)
    for graph in model.subgraphs:
        conversions = [op for op in graph.operators or () if kinds[op.opcodeIndex] in ("QUANTIZE", "DEQUANTIZE")]
        _through_int8(graph, conversions)
        _free_again(graph, conversions)
        _read_shapes_directly(graph, kinds, conversions)
    store_rest(model, recipe.precision, frozenset(kept.layer for kept in recipe.kept))
    write_model(path, model)


def _through_int8(graph: Any, conversions: list[Any]) -> None:
    """Split conversions between int16 and uint8, which LiteRT has no kernel for, in place: by way of int8."""
    from ai_edge_litert.schema_py_generated import TensorType

    operators = list(graph.operators or ())
    for operator in list(conversions):
        given, made = (graph.tensors[int(side[0])] for side in (operator.inputs, operator.outputs))
        if {given.type, made.type} != {TensorType.INT16, TensorType.UINT8}:
            continue
        between = copy.deepcopy(made if made.type == TensorType.UINT8 else given)
        between.type, between.name = TensorType.INT8, made.name + b"/int8"
        between.quantization.zeroPoint = [int(zero) - 128 for zero in between.quantization.zeroPoint]
        graph.tensors.append(between)
        first = copy.deepcopy(operator)
        first.outputs = operator.inputs = [len(graph.tensors) - 1]
        operators.insert(operators.index(operator), first)
        conversions.append(first)
    graph.operators = operators


def _free_again(graph: Any, conversions: list[Any]) -> None:
    """Declare the free dimensions of tensors that the tool adds: it copies the shape alone."""
    for operator in conversions:
        pair = [graph.tensors[int(index)] for index in (operator.inputs[0], operator.outputs[0])]
        stated = next((tensor.shapeSignature for tensor in pair if tensor.shapeSignature is not None), None)
        for tensor in pair:
            tensor.shapeSignature = stated


def _read_shapes_directly(graph: Any, kinds: list[str], conversions: list[Any]) -> None:
    """Let SHAPE read quantized tensors themselves: the tool dequantizes them first, as whole tensors."""
    made = {int(op.outputs[0]): op for op in conversions if kinds[op.opcodeIndex] == "DEQUANTIZE"}
    for operator in graph.operators or ():
        if kinds[operator.opcodeIndex] == "SHAPE" and int(operator.inputs[0]) in made:
            operator.inputs = [int(made[int(operator.inputs[0])].inputs[0])]
    read_by = {int(index) for operator in graph.operators or () for index in operator.inputs}
    read_by |= {int(index) for index in graph.outputs}
    unread = {id(operator) for index, operator in made.items() if index not in read_by}
    graph.operators = [operator for operator in graph.operators or () if id(operator) not in unread]


AI_EDGE_QUANTIZER = Environment("ai-edge-quantizer", ("numpy", "ai_edge_quantizer.quantizer"))

QUANTIZERS.register(
    Quantizer(
        name="ai-edge-quantizer",
        title="ai-edge-quantizer",
        format="tflite",
        precisions=(FP16, INT8_DYNAMIC, INT8, INT16X8, INT8_WEIGHTS, INT4_WEIGHTS),
        rank=10,
        why="works on the proven float file, whichever route made it, and on single layers",
        environment=AI_EDGE_QUANTIZER,
        quantize=quantize,
        layers=layers,
        keeps=(FP32, INT16X8),
        ranges=RANGES,
        equalises=True,
        io=IO_TYPES,
    )
)
