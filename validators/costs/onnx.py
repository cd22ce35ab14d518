"""The costs of an ONNX file: shapes of a run, and what lives at once of the graph that ONNX Runtime makes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.worker import summary
from validators.costs import COSTERS, Coster, Counted, Macs, Step, peak_bytes
from validators.costs._onnx_operators import NONE, macs_of
from validators.runtimes.onnxruntime import ONNXRUNTIME

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Shapes = dict[str, tuple[int, ...]]

#: Graphs with fewer bytes of constants are handed to ONNX Runtime in memory, which it keeps besides its own; to write
#: and read them took half the time.
IN_MEMORY_BYTES = 1 << 28

BASIS = (
    "what lives at once while the operators run that ONNX Runtime's extended optimisation leaves, one after another "
    "and none in place"
)


def count(path: Path, given: Mapping[str, np.ndarray] | None) -> Counted:
    """Count what a file costs.

    MACs are those of the file's own operators, at the shapes of a run without optimisation, else at those that shape
    inference tells. Activations are those of the graph that is left after optimisation, since what is joined there,
    as the integer kernels of a quantized file are, is never written to memory.
    """
    import onnx

    from convert.formats.onnx import read, read_model

    model = read_model(path)
    flat = onnx.inliner.inline_local_functions(model) if len(model.functions) else model
    reasons: dict[str, str] = {}
    activation = None
    if given is None:
        reasons["activation_bytes"] = "it was not run"
        shapes = _inferred(flat, {})
    else:
        with tempfile.TemporaryDirectory() as folder:
            try:
                activation = _activations(path, Path(folder), given)
            except Exception as error:  # noqa: BLE001  whatever the engine raises says why it is not known
                reasons["activation_bytes"] = f"it does not run on ONNX Runtime: {summary(error, 1)}"
            try:
                shapes = {name: array.shape for name, array in _observed(flat, Path(folder), given).items()}
            except Exception:  # noqa: BLE001  it may run only as optimised; then inference tells what it can
                shapes = _inferred(flat, given)
    if activation is not None and any(_nested(node) for node in flat.graph.node):
        activation = None
        reasons["activation_bytes"] = "the memory of the graphs that loops and branches run is not seen"
    macs = Macs()
    for node in flat.graph.node:
        _add(macs, node, shapes)
    reasons |= dict.fromkeys(("delegated_share", "partitions"), "ONNX Runtime's CPU kernels have no delegate")
    return Counted(
        weight_bytes=weight_bytes(model),
        activation_bytes=activation,
        basis=BASIS if activation is not None else "",
        macs=macs.all,
        known_macs=macs.known,
        operators=read(path).operators,
        unknown=macs.unknown,
        reasons=reasons | macs.reason(),
    )


def weight_bytes(model: onnx.ModelProto) -> int:
    """Add up the constants of all graphs as they are stored; 4-bit ones take half a byte."""
    from convert.sources._onnx import tensors_of

    return sum((prod(tensor.dims) * _bits(tensor.data_type) + 7) // 8 for tensor in tensors_of(model))


def _bits(number: int) -> int:
    import onnx

    kind = onnx.TensorProto.DataType.Name(number)
    if kind == "STRING":
        return 0
    return (
        4
        if kind.endswith("INT4") or kind == "FLOAT4E2M1"
        else onnx.helper.tensor_dtype_to_np_dtype(number).itemsize * 8
    )


def _nested(node: Any) -> list[Any]:
    return [entry.g for entry in node.attribute if entry.HasField("g")]


def _add(macs: Macs, node: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Add a node's; what loops and branches run has none where no operator in it has any."""
    import onnx

    from convert.formats.onnx import graphs, kind_of

    kind = node.op_type
    if bodies := _nested(node):
        inside = {nested.op_type for body in bodies for graph in graphs(body) for nested in graph.node}
        macs.add(kind_of(node), 0 if inside <= NONE | {"If", "Loop", "Scan"} else None)
        return
    taken = [shapes.get(name) for name in node.input]
    made = shapes.get(node.output[0]) if node.output else None
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    macs.add(kind_of(node), macs_of(kind, taken, made, attributes))


def _observed(model: onnx.ModelProto, folder: Path, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a graph as it is and give all its tensors by name, its constants and inputs too."""
    import numpy as np
    import onnx
    import onnxruntime

    from convert.formats.onnx import write_model

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    there = {value.name for value in tapped.graph.output} | {value.name for value in tapped.graph.input}
    names = [name for node in tapped.graph.node for name in node.output if name and name not in there]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if weight_bytes(tapped) < IN_MEMORY_BYTES:
        graph: bytes | Path = tapped.SerializeToString()
    else:
        graph = folder / "tapped.onnx"
        write_model(graph, tapped)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    wanted = [output.name for output in session.get_outputs()]
    answers = zip(wanted, session.run(wanted, dict(given)), strict=True)
    found = {name: answer for name, answer in answers if hasattr(answer, "dtype")}  # sequences are no tensors
    constants = {item.name: np.broadcast_to(np.int8(0), tuple(item.dims)) for item in tapped.graph.initializer}
    return {**constants, **found, **given}


def _activations(path: Path, folder: Path, given: Mapping[str, np.ndarray]) -> int:
    """Let ONNX Runtime optimise a file, run what is left with all tensors shown, and give the peak of what lives.

    NOTE: Why not its last level of optimisation: that puts channels in blocks, as wide as this machine's registers.
    """
    import onnx
    import onnxruntime

    from validators.taps.onnxruntime import taken_by

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onnx.load(options.optimized_model_filepath)
    arrays = _observed(model, folder, given)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    computed = set(inputs)
    steps = []
    for node in model.graph.node:
        taken = tuple(name for name in taken_by(node) if name in computed)
        if taken:
            computed |= {name for name in node.output if name}
            steps.append(Step(taken, tuple(name for name in node.output if name)))
    sizes = {name: arrays[name].nbytes for name in computed if name in arrays}
    return peak_bytes(steps, sizes, inputs, [value.name for value in model.graph.output])


def _inferred(model: onnx.ModelProto, given: Mapping[str, np.ndarray]) -> Shapes:
    """Give the shapes that inference knows, at the sizes of the inputs where these are given."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        if value.name in given:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in given[value.name].shape)
    try:
        graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # a file beyond protobuf's 2 GiB, or one that contradicts
        graph = sized.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found


COSTERS.register(Coster("onnx", ONNXRUNTIME, count))
