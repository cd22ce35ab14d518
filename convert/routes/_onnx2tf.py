"""Converting an ONNX graph with onnx2tf, so that tensors keep their names, order and layout.

onnx2tf gives images and sequences another order of axes, at inputs by their rank and at outputs by what produced them,
and does not say which. So the graph it is given leaves no room for that: inputs are kept absolutely, a wanted change of
layout is a Transpose in the graph (which its optimiser joins with its own), and outputs are flattened, which has one
meaning only; the flattening is taken out of the finished file again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert import toolchains
from convert.errors import RouteError, ToolchainError
from convert.formats import Draft
from convert.formats.onnx import rename_values
from convert.formats.tflite import DTYPES, read, read_model, write_model
from convert.layout import inverse
from convert.rewrites import rescue
from convert.routes import Work
from convert.routes._free_sizes import free_sizes, recognisable_sizes
from convert.routes._fully_connected import connect_fully
from convert.routes._orphans import adopt, names_of
from convert.spec import BATCH, CUSTOM, Signature, TensorSpec
from convert.worker import Environment

if TYPE_CHECKING:
    import numpy as np
    import onnx

TOOLCHAIN = "onnx2tf"

ONNX2TF = Environment("onnx2tf", ("onnx", "ai_edge_litert.schema_py_generated", "flatbuffers"))

#: What onnx2tf says before the operator it has no form for.
REFUSAL = "flatbuffer_direct validation failed: "

#: How much of onnx2tf's own words is shown where it fails without an exception.
REASON_LINES = 3

#: Protobuf's own limit; a larger graph keeps its weights beside it.
PROTOBUF_BYTES = (1 << 31) - (1 << 20)


@dataclass(frozen=True, slots=True)
class Names:
    """What inputs and outputs are called on the way: no name that the command line or TFLite could misread."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, signature: Signature) -> Names:
        """Number the tensors of a signature."""
        return cls(
            tuple(f"edgeproof_input_{position}" for position in range(len(signature.inputs))),
            tuple(f"edgeproof_output_{position}" for position in range(len(signature.outputs))),
        )


def convert_keeping(work: Work, promised: Signature) -> Draft:
    """Convert the ONNX file of `work` so that its file keeps `promised`, which may fix dimensions that are free.

    Free dimensions are converted at recognisable sizes and freed afterwards; where one went into a constant from which
    it cannot be freed, onnx2tf computes shapes as the graph runs. Raises RouteError where onnx2tf fails, writes
    nothing, or leaves operators that no TFLite runtime has; ToolchainError where it cannot run at all.
    """
    import onnx

    if promised.free:
        model = onnx.load(str(work.path))
        sizes = recognisable_sizes(promised.free, taken_sizes(model, promised))
        draft = convert_at(work, model, promised.fixed(sizes), promised)
        try:
            freed = free_sizes(work.out, sizes, promised, tables(model))
            return as_written(draft, promised, freed)
        except RouteError as error:
            sys.stderr.write(f"onnx2tf at recognisable sizes: {error.message}\n")
    return as_written(convert_at(work, onnx.load(str(work.path)), promised, promised), promised)


def convert_at(work: Work, model: onnx.ModelProto, promised: Signature, kept: Signature) -> Draft:
    """Convert at the sizes of `promised`, for a file that is to keep `kept`; changes `model`.

    Raises as `convert_keeping` does.
    """
    import onnx

    place = toolchains.require(TOOLCHAIN)
    names = Names.of(work.signature)
    prepare(model, work, names, promised)
    rescues = rescue(model, TOOLCHAIN)
    with tempfile.TemporaryDirectory(dir=work.out.parent) as scratch:
        graph = Path(scratch) / "graph.onnx"
        large = model.ByteSize() > PROTOBUF_BYTES
        onnx.save_model(model, str(graph), save_as_external_data=large, location="graph.data")
        made = run(place, graph, names)
        renamed = names_of(made.with_name(f"{graph.stem}_tensor_correspondence_report.json"))
        shutil.copyfile(made, work.out)
    refuse_foreign(work)
    rescues += adopt(work.out, renamed)
    refuse_fixed_states(work.out, kept)
    restore_outputs(work.out, names, promised)
    inputs = tuple(f"args_{position}" for position in range(len(promised.inputs)))
    outputs = tuple(f"output_{position}" for position in range(len(promised.outputs)))
    return Draft(str(work.out), promised, inputs, outputs, rescues=rescues)


def taken_sizes(model: onnx.ModelProto, signature: Signature) -> set[int]:
    """Give the sizes that weights, inputs and outputs have already."""
    fixed = {dim for spec in (*signature.inputs, *signature.outputs) for dim in spec.shape if isinstance(dim, int)}
    return fixed | {int(size) for tensor in model.graph.initializer for size in tensor.dims}


def tables(model: onnx.ModelProto) -> list[np.ndarray]:
    """Give the weights in which a row may stand for a position."""
    from onnx import numpy_helper

    flat = [tensor for tensor in model.graph.initializer if tensor.data_type == tensor.FLOAT]
    arrays = [numpy_helper.to_array(tensor) for tensor in flat if len(tensor.dims) in (2, 3)]
    arrays = [array[0] if array.ndim == 3 and array.shape[0] == 1 else array for array in arrays]
    return [array for array in arrays if array.ndim == 2]


def prepare(model: onnx.ModelProto, work: Work, names: Names, promised: Signature) -> None:
    """Give the graph inputs in the promised layout and sizes, numbered names, and flat outputs, in place."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    values = {value.name: value for value in graph.input if value.name not in constants}
    outputs = {value.name: value for value in graph.output}
    missing = [spec.name for spec in work.signature.inputs if spec.name not in values]
    missing += [spec.name for spec in work.signature.outputs if spec.name not in outputs]
    if missing:
        raise RouteError(f"the ONNX graph has no tensor named {', '.join(missing)}")
    for spec, name in zip(work.signature.outputs, names.outputs, strict=True):
        _flatten(graph, outputs[spec.name], name, keep=len(spec.shape) < 3)
    rename_values(graph, {spec.name: name for spec, name in zip(work.signature.inputs, names.inputs, strict=True)})
    ordered = [values[spec.name] for spec in work.signature.inputs]
    for spec, kept, value in zip(work.signature.inputs, promised.inputs, ordered, strict=True):
        axes = work.permutations.get(spec.name)
        if axes:
            _permute(graph, value, axes)
        for dim, size in zip(value.type.tensor_type.shape.dim, kept.shape, strict=True):
            if isinstance(size, int):
                dim.dim_value = size
    copies = [type(value).FromString(value.SerializeToString()) for value in ordered]
    del graph.input[:]
    graph.input.extend(copies)
    # What the graph says of its inner values may hold the sizes that were free; onnx2tf finds them again.
    del graph.value_info[:]


def _flatten(graph: Any, value: Any, name: str, *, keep: bool) -> None:
    """Let `name` be the output: as it is where `keep`, else flattened, so that its order is beyond doubt."""
    import numpy as np
    import onnx

    if keep:
        graph.node.append(onnx.helper.make_node("Identity", [value.name], [name]))
    else:
        shape = f"{name}_flat"
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), shape))
        graph.node.append(onnx.helper.make_node("Reshape", [value.name, shape], [name]))
        dims = value.type.tensor_type.shape.dim
        del dims[:]
        dims.add()
    value.name = name


def _permute(graph: Any, value: Any, axes: tuple[int, ...]) -> None:
    """Take an input in another layout, and put it back in the graph's own first."""
    import onnx

    inner = f"{value.name}_as_exported"
    for node in graph.node:
        node.input[:] = [inner if name == value.name else name for name in node.input]
    graph.node.insert(0, onnx.helper.make_node("Transpose", [value.name], [inner], perm=inverse(axes)))
    dims = value.type.tensor_type.shape.dim
    moved = [type(dims[axis]).FromString(dims[axis].SerializeToString()) for axis in axes]
    del dims[:]
    dims.extend(moved)


def run(place: toolchains.Place, graph: Path, names: Names) -> Path:
    """Run onnx2tf on a graph and give the TFLite file it wrote beside it.

    Raises RouteError with its reason where it fails or writes none.
    """
    out = graph.parent / "made"
    line = [place.python, "-m", "onnx2tf", "-i", graph.name, "-o", out.name, "-v", "error", "-kat", *names.inputs]
    # A child of this worker: it dies with it, and its memory counts as the worker's.
    ran = subprocess.run(
        line,
        cwd=graph.parent,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    made = out / f"{graph.stem}_float32.tflite"
    if ran.returncode == 0 and made.is_file():
        return made
    sys.stderr.write(ran.stdout)  # into the worker's log
    if ran.returncode < 0:
        raise RouteError(f"onnx2tf was killed by signal {-ran.returncode}")
    if ran.returncode == 0:
        raise RouteError("onnx2tf reported success and wrote no TFLite file")
    reason = reason_of(ran.stdout)
    if reason.startswith(("ImportError", "ModuleNotFoundError")):
        raise ToolchainError(
            f"the toolchain onnx2tf in {place.folder} is damaged: {reason}",
            fix=f"run: python -m convert --toolchains remove:{TOOLCHAIN}; it is made again at its next use",
        )
    raise RouteError(f"onnx2tf failed: {reason}")


def reason_of(log: str) -> str:
    """Find in onnx2tf's output what it failed at."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    lines = [line.strip() for line in plain.splitlines() if line.strip() and "it/s" not in line]
    if not lines:
        return "it said nothing"
    if REFUSAL in lines[-1]:
        return lines[-1].split(REFUSAL, 1)[1]
    exception = ":" in lines[-1].split(" ")[0]
    return lines[-1] if exception else " ".join(lines[-REASON_LINES:])


def refuse_foreign(work: Work) -> None:
    """Raise RouteError where onnx2tf left operators of its own in the file, which no TFLite runtime has."""
    foreign = sorted(name for name in read(work.out).operators if name.startswith(("ONNX_", "Flex")))
    if foreign and CUSTOM not in work.allow:
        raise RouteError(
            f"onnx2tf has no TFLite form of {', '.join(foreign)} and left custom operators of that name",
            fix="give your app an implementation and add --allow-custom, or take another candidate",
        )


def refuse_fixed_states(path: Path, promised: Signature) -> None:
    """Raise RouteError where the batch is to be free and a fused recurrent kernel holds its state at a fixed size.

    TFLite's kernels keep their state between calls in a variable tensor, which the runtime cannot resize.
    """
    graph = read_model(path).subgraphs[0]
    if BATCH in promised.free and any(tensor.isVariable for tensor in graph.tensors):
        raise RouteError(
            "TFLite's fused recurrent kernel holds its state for a fixed batch",
            fix="fix the batch with --fix batch=1, or take a candidate that does",
        )


def restore_outputs(path: Path, names: Names, promised: Signature) -> None:
    """Take the flattening of the outputs out of a file again, in place; call tensors `args_0` and `output_0`.

    Raises RouteError where an output has another size than promised.
    """
    import numpy as np

    model = read_model(path)
    graph = model.subgraphs[0]
    connect_fully(model)
    for spec, name in zip(promised.outputs, names.outputs, strict=True):
        if len(spec.shape) < 3:
            continue
        index = _output(model, name)
        operator = next((item for item in graph.operators if index in item.outputs), None)
        if operator is None:
            raise RouteError(f"onnx2tf's file does not compute {spec.name}")
        before = graph.tensors[operator.inputs[0]]
        sizes = _sizes(before)
        if _fits(sizes, spec):
            graph.operators.remove(operator)
            _point(model, index, int(operator.inputs[0]))
            continue
        wanted = [size if isinstance(size, int) else -1 for size in spec.shape]
        if wanted.count(-1) > 1:
            raise RouteError(f"onnx2tf computes {spec.name} as {sizes}, where {spec} is promised")
        target = graph.tensors[operator.inputs[1]]
        buffer = type(model.buffers[0])()
        buffer.data = np.frombuffer(np.array(wanted, np.int32).tobytes(), np.uint8)
        model.buffers.append(buffer)
        target.buffer, target.shape, target.shapeSignature = len(model.buffers) - 1, np.array([len(wanted)]), None
        operator.builtinOptions = None
        output = graph.tensors[index]
        output.shape = np.array([max(size, 1) for size in wanted], np.int32)
        output.shapeSignature = np.array(wanted, np.int32) if -1 in wanted else None
    definition = model.signatureDefs[0]
    for entries, named, prefix in (
        (definition.inputs, names.inputs, "args"),
        (definition.outputs, names.outputs, "output"),
    ):
        for entry in entries:
            entry.name = f"{prefix}_{named.index(_text(entry.name))}"
    write_model(path, model)


def _fits(sizes: list[int], spec: TensorSpec) -> bool:
    """Whether a tensor of these sizes, -1 where open, is what is promised."""
    return len(sizes) == len(spec.shape) and all(
        size == dim or (size == -1 and isinstance(dim, str)) for size, dim in zip(sizes, spec.shape, strict=True)
    )


def _output(model: Any, name: str) -> int:
    """Find the tensor of an output by the name in the signature."""
    for entry in model.signatureDefs[0].outputs:
        if _text(entry.name) == name:
            return int(entry.tensorIndex)
    raise RouteError(f"onnx2tf's file has no output {name}")


def _point(model: Any, old: int, new: int) -> None:
    """Let an output be another tensor."""
    graph = model.subgraphs[0]
    graph.outputs = [new if int(index) == old else int(index) for index in graph.outputs]
    for entry in model.signatureDefs[0].outputs:
        if entry.tensorIndex == old:
            entry.tensorIndex = new


def as_written(draft: Draft, promised: Signature, freed: tuple[str, ...] = ()) -> Draft:
    """Complete a draft: the dtypes and free dimensions that the file has, and a note for what is narrower."""
    model = read_model(Path(draft.path))
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    found = {_text(entry.name): graph.tensors[entry.tensorIndex] for entry in (*signature.inputs, *signature.outputs)}
    notes: list[str] = []

    def written(specs: tuple[TensorSpec, ...], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
        kept = []
        for spec, name in zip(specs, names, strict=True):
            dtype = DTYPES.get(found[name].type, spec.dtype)
            if dtype != spec.dtype:
                notes.append(f"{spec.name} is {dtype}, the source's is {spec.dtype}")
            kept.append(replace(spec, dtype=dtype))
        return tuple(kept)

    kept = Signature(written(promised.inputs, draft.input_names), written(promised.outputs, draft.output_names))
    return replace(draft, signature=kept, notes=tuple(notes), rescues=(*draft.rescues, *freed))


def _sizes(tensor: Any) -> list[int]:
    """Give a tensor's sizes, -1 where open."""
    sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return [] if sizes is None else [int(size) for size in sizes]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
