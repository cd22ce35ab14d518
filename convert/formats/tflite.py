"""TFLite (LiteRT) flatbuffers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from convert.formats import FORMATS, Draft, Facts, Foreign, Format, FormatError
from convert.formats._tflite_precision import precision_of
from convert.sources import Probe
from convert.spec import BATCH, CUSTOM, FLEX, Dim, Scale, Signature, TensorSpec

IDENTIFIER = b"TFL3"
SIGNATURE_KEY = b"serving_default"
METADATA = b"edgeproof.signature"

#: TFLite's type numbers (schema.fbs, enum TensorType) as NumPy's names.
DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
}


#: Custom operators that the stock interpreter has kernels for (tensorflow/lite/core/kernels/register.cc).
STOCK = frozenset({"TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc", "NumericVerify"})

FLEX_PREFIX = "Flex"  # of TensorFlow's own operators in a TFLite file


def recognise(seen: Probe) -> bool:
    """Know a TFLite file by its flatbuffer identifier."""
    return seen.head[4:8] == IDENTIFIER


def read_model(path: Path) -> Any:
    """Read a file into the flatbuffer schema's object tree, buffers that lie behind the flatbuffer drawn into it.

    Raises FormatError where it is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    try:
        root = schema.Model.GetRootAsModel(data, 0)
        model = schema.ModelT.InitFromObj(root)
        _draw_in(model, data)
    except Exception as error:  # a damaged offset shows as whatever Python raises on the bytes it points to
        raise FormatError(f"{path} is a damaged TFLite file: {error}", fix="copy or convert it again") from error
    if not model.subgraphs:
        raise FormatError(f"{path} is a TFLite file without a graph", fix="convert it again")
    return model


def _draw_in(model: Any, data: bytes) -> None:
    """Give buffers their contents that lie behind the flatbuffer, as large files have them, in place."""
    import numpy as np

    for buffer in model.buffers or ():
        # 0 stands for none and 1 for one to be filled in (schema.fbs, table Buffer).
        if buffer.offset > 1:
            if buffer.offset + buffer.size > len(data):
                raise ValueError(f"a buffer ends {buffer.offset + buffer.size - len(data)} bytes after the file")
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def write_model(path: Path, model: Any) -> None:
    """Write the object tree back as a flatbuffer."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path.write_bytes(bytes(builder.Output()))


def distinct_names(model: Any) -> Any:
    """Give tensors that share a name names of their own, in place, so that they can be told apart by them."""
    taken: Counter[bytes] = Counter(tensor.name or b"" for graph in model.subgraphs for tensor in graph.tensors)
    seen: Counter[bytes] = Counter()
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            name = tensor.name or b""
            seen[name] += 1
            if seen[name] > 1 or not name:
                tensor.name = b"%s/%d" % (name, index)
                while taken[tensor.name]:
                    tensor.name += b"_"
                taken[tensor.name] += 1
    return model


def seal(path: Path, draft: Draft) -> None:
    """Name the tensors of the default signature as promised, in the promised order, and say which images are how."""
    from ai_edge_litert import schema_py_generated as schema

    model = read_model(path)
    graph = model.subgraphs[0]
    before = default_signature(model)
    if before is None:
        pairs = (dict(enumerate(graph.inputs)), dict(enumerate(graph.outputs)))
        inputs, outputs = ({str(i): int(t) for i, t in side.items()} for side in pairs)
        draft_inputs, draft_outputs = (tuple(map(str, range(len(side)))) for side in pairs)
    else:
        inputs = {_text(entry.name): int(entry.tensorIndex) for entry in before.inputs or ()}
        outputs = {_text(entry.name): int(entry.tensorIndex) for entry in before.outputs or ()}
        draft_inputs, draft_outputs = draft.input_names, draft.output_names
    after = schema.SignatureDefT()
    after.signatureKey = SIGNATURE_KEY
    after.subgraphIndex = 0
    after.inputs = _entries(schema, draft.signature.inputs, draft_inputs, inputs)
    after.outputs = _entries(schema, draft.signature.outputs, draft_outputs, outputs)
    model.signatureDefs = [after]
    graph.inputs = [entry.tensorIndex for entry in after.inputs]
    graph.outputs = [entry.tensorIndex for entry in after.outputs]
    _describe(schema, model, draft.signature)
    write_model(path, model)


def _describe(schema: Any, model: Any, signature: Signature) -> None:
    """Write what a TFLite signature has no place for, layouts and names of free dimensions, as a metadata entry."""
    import numpy as np

    described = next((entry for entry in model.metadata or () if entry.name == METADATA), None)
    if described is None:
        described = schema.MetadataT()
        described.name = METADATA
        described.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.metadata = [*(model.metadata or ()), described]
    model.buffers[described.buffer].data = np.frombuffer(msgspec.json.encode(signature), np.uint8)


def _description(model: Any) -> dict[str, TensorSpec]:
    """Read what `_describe` wrote, by name of the input or output; nothing where it is absent or no longer readable."""
    for entry in model.metadata or ():
        if entry.name == METADATA:
            try:
                said = msgspec.json.decode(bytes(model.buffers[entry.buffer].data), type=Signature)
            except msgspec.MsgspecError:
                return {}
            return {spec.name: spec for spec in (*said.inputs, *said.outputs)}
    return {}


def read(path: Path) -> Facts:
    """Read the default signature, or the graph's own inputs and outputs where there is none, and the operators."""
    model = read_model(path)
    graph = model.subgraphs[0]
    sides = read_names(model)
    said = _description(model)
    inputs, outputs = (
        tuple(_as_said(_spec(name, graph.tensors[index]), said.get(name)) for name, index in side) for side in sides
    )
    operators, foreign = _operators(model)
    requires = (f"TFLite runtime {_runtime(model)}",)
    return Facts(Signature(inputs, outputs), operators, requires, foreign, precision_of(model))


def read_names(model: Any) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Give the inputs and outputs of a file, by the names callers use and the indices of their tensors."""
    graph = model.subgraphs[0]
    signature = default_signature(model)
    if signature is None:
        inputs, outputs = (
            [(_text(graph.tensors[i].name), int(i)) for i in side] for side in (graph.inputs, graph.outputs)
        )
    else:
        sides = (signature.inputs or (), signature.outputs or ())
        inputs, outputs = ([(_text(entry.name), int(entry.tensorIndex)) for entry in side] for side in sides)
    return inputs, outputs


def _operators(model: Any) -> tuple[dict[str, int], tuple[Foreign, ...]]:
    """Count a model's operators by name, and list those that a stock interpreter lacks with the tensor each writes."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    counts: Counter[str] = Counter()
    foreign: list[Foreign] = []
    for subgraph in model.subgraphs:
        for operator in subgraph.operators or ():
            code = model.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name == "CUSTOM":
                name = _text(code.customCode)
                written = operator.outputs[0] if len(operator.outputs) else -1
                where = _text(subgraph.tensors[written].name) if written >= 0 else _text(subgraph.name or b"")
                if name not in STOCK:
                    foreign.append(Foreign(FLEX if name.startswith(FLEX_PREFIX) else CUSTOM, name, where))
            counts[name] += 1
    return dict(sorted(counts.items())), tuple(foreign)


def _runtime(model: Any) -> str:
    """Give the least version of the TFLite runtime that the converter says the file needs."""
    for entry in model.metadata or ():
        if _text(entry.name) == "min_runtime_version":
            said = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode(errors="replace")
            return said or "of no stated version"
    return "of no stated version"


def default_signature(model: Any) -> Any | None:
    """Find the signature callers use by default: the one named so, else the only one."""
    signatures = list(model.signatureDefs or ())
    for signature in signatures:
        if signature.signatureKey == SIGNATURE_KEY:
            return signature
    return signatures[0] if len(signatures) == 1 else None


def _entries(
    schema: Any, specs: tuple[TensorSpec, ...], drafted: tuple[str, ...], tensors: dict[str, int]
) -> list[Any]:
    entries = []
    for spec, name in zip(specs, drafted, strict=True):
        if name not in tensors:
            raise FormatError(f"the converter's file has no tensor {name!r}; it has {', '.join(tensors)}")
        entry = schema.TensorMapT()
        entry.name = spec.name.encode()
        entry.tensorIndex = tensors[name]
        entries.append(entry)
    return entries


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape: list[Dim] = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if tensor.shapeSignature is not None:
        for axis, size in enumerate(tensor.shapeSignature):
            if size == -1:
                shape[axis] = BATCH if axis == 0 else f"{name}_{axis}"
    dtype = DTYPES.get(tensor.type, f"type {tensor.type}")
    return TensorSpec(name, dtype, tuple(shape), quantized=_scale(tensor) if dtype in ("int8", "uint8") else None)


def _scale(tensor: Any) -> Scale | None:
    """Read the scale and zero point of a whole tensor, where it has them."""
    stated = tensor.quantization
    if stated is None or stated.scale is None or len(stated.scale) != 1:
        return None
    return Scale(float(stated.scale[0]), int(stated.zeroPoint[0]) if stated.zeroPoint is not None else 0)


def _as_said(spec: TensorSpec, said: TensorSpec | None) -> TensorSpec:
    """Take the layout and the names of free dimensions from the file's description, where it fits the tensor itself."""
    if said is None or len(said.shape) != len(spec.shape):
        return spec
    pairs = list(zip(spec.shape, said.shape, strict=True))
    if any(isinstance(size, int) and size != stated for size, stated in pairs):
        return spec
    shape = tuple(stated if isinstance(stated, str) else size for size, stated in pairs)
    return replace(spec, shape=shape, layout=said.layout)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


FORMATS.register(Format("tflite", "TFLite (.tflite)", ".tflite", recognise, seal, read, layouts=True))
