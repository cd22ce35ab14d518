"""TensorFlow SavedModels in the versioned layout that TensorFlow Serving loads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from convert.formats import FORMATS, Draft, Facts, Format, FormatError, _warmup
from convert.sources import Probe
from convert.sources._probe import probe
from convert.sources._saved_model import DEFAULT, GRAPH, place_of, served_names
from convert.sources._saved_model_safety import reached_functions
from convert.spec import BATCH, SIGNATURE_FILE, Promise, Signature, TensorSpec

VERSION = "1"  # the folder of the only version
EXTRA = "assets.extra"  # TensorFlow's place for what is not its own


def recognise(seen: Probe) -> bool:
    """Know the folder by its graph file, at its top or below a version."""
    return seen.is_folder and place_of(seen.members) is not None


def read_graph(folder: Path) -> tuple[Any, Any]:
    """Parse a SavedModel's graph file and give it with the meta graph that serves.

    Raises FormatError where it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / GRAPH).read_bytes())
    except (DecodeError, OSError) as error:
        raise FormatError(f"{folder / GRAPH} is damaged: {error}", fix="copy or convert it again") from error
    if not model.meta_graphs:
        raise FormatError(f"{folder / GRAPH} holds no graph", fix="copy or convert it again")
    return model, model.meta_graphs[0]


def seal(path: Path, draft: Draft) -> None:
    """Name the signature's tensors as promised, and write their order, free dimensions and warm-up requests beside it.

    A SavedModel keeps inputs and outputs without an order and free dimensions without a name; an extra file says both.
    Its functions flatten both in the order of their names, so the draft's names must sort as the promised ones do.
    """
    folder = path / VERSION
    model, graph = read_graph(folder)
    inputs = dict(zip(draft.input_names, (spec.name for spec in draft.signature.inputs), strict=True))
    outputs = dict(zip(draft.output_names, (spec.name for spec in draft.signature.outputs), strict=True))
    for renames in (inputs, outputs):
        if [renames[name] for name in sorted(renames)] != sorted(renames.values()):
            raise FormatError(f"the names {', '.join(renames)} do not sort as {', '.join(renames.values())} do")
    for name in served_names(graph):
        definition = graph.signature_def[name]
        _rename(definition.inputs, inputs)
        _rename(definition.outputs, outputs)
    _rename_functions(graph.object_graph_def, inputs, outputs)
    (folder / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
    # It is a checksum of the graph as it was before.
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    extra = folder / EXTRA
    extra.mkdir(exist_ok=True)
    promise = Promise(
        draft.signature.inputs, tuple(spec.name for spec in draft.signature.outputs), draft.signature.outputs
    )
    (extra / SIGNATURE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(promise)))
    _warmup.write(extra / _warmup.FILE, path.name, DEFAULT, draft.signature)


def _rename(entries: Any, names: dict[str, str]) -> None:
    """Rename the keys of a protobuf map of messages."""
    values = {names.get(key, key): type(entries[key]).FromString(entries[key].SerializeToString()) for key in entries}
    entries.clear()
    for key in sorted(values):
        entries[key].CopyFrom(values[key])


def _rename_functions(objects: Any, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Rename the arguments and results of the functions that Python calls by signature, which take keywords only."""
    for node in objects.nodes:
        if node.WhichOneof("kind") != "bare_concrete_function":
            continue
        wrapper = node.bare_concrete_function
        function = objects.concrete_functions[wrapper.concrete_function_name]
        positional, keywords = function.canonicalized_input_signature.tuple_value.values
        if positional.tuple_value.values or set(keywords.dict_value.fields) != set(inputs):
            continue
        wrapper.argument_keywords[:] = [inputs[name] for name in wrapper.argument_keywords]
        for argument in wrapper.function_spec.fullargspec.named_tuple_value.values:
            if argument.key == "kwonlyargs":
                for value in argument.value.list_value.values:
                    value.string_value = inputs.get(value.string_value, value.string_value)
        _rename(keywords.dict_value.fields, inputs)
        _rename(function.output_signature.dict_value.fields, outputs)


def read(path: Path) -> Facts:
    """Read the default signature, or the only one, in the order that the file beside it says, and the operators."""
    place = place_of(probe(path).members)
    if place is None:
        raise FormatError(f"{path} holds no {GRAPH}", fix="copy or convert it again")
    folder = path / place
    _, graph = read_graph(folder)
    names = served_names(graph)
    name = DEFAULT if DEFAULT in names else names[0] if len(names) == 1 else ""
    if not name:
        listed = ", ".join(names) or "none"
        raise FormatError(f"{path} has no signature named {DEFAULT}", fix=f"save it with one; it has: {listed}")
    promise = _promise(folder / EXTRA / SIGNATURE_FILE)
    definition = graph.signature_def[name]
    sides = ((definition.inputs, promise.inputs), (definition.outputs, promise.outputs))
    inputs, outputs = (_specs(entries, said) for entries, said in sides)
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    operators = Counter(node.op for called in reached_functions(graph) for node in functions[called].node_def)
    requires = (f"TensorFlow {graph.meta_info_def.tensorflow_version}",)
    return Facts(Signature(inputs, outputs), dict(sorted(operators.items())), requires)


def _promise(path: Path) -> Promise:
    """Read the file of orders and names, or give an empty one where there is none or it is not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Promise)
    except (OSError, msgspec.MsgspecError):
        return Promise(())


def _specs(entries: Any, said: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Describe one side of a signature, as the extra file has it where it fits, else in the order of the names."""
    found = {name: _spec(name, entries[name]) for name in sorted(entries)}
    if sorted(spec.name for spec in said) != sorted(found):
        return tuple(found.values())
    return tuple(_as_said(found[spec.name], spec) for spec in said)


def _spec(name: str, info: Any) -> TensorSpec:
    import tensorflow as tf

    if info.tensor_shape.unknown_rank:
        raise FormatError(f"the shape of {name} is not known", fix="save it with an input signature that has shapes")
    sizes = [int(dim.size) for dim in info.tensor_shape.dim]
    shape = tuple(size if size >= 0 else BATCH if axis == 0 else f"{name}_{axis}" for axis, size in enumerate(sizes))
    return TensorSpec(name, tf.as_dtype(info.dtype).name, shape)


def _as_said(found: TensorSpec, said: TensorSpec) -> TensorSpec:
    """Take the names of free dimensions from what is said, where it fits; a shape inferred open may be said fixed."""
    if found.dtype != said.dtype or len(found.shape) != len(said.shape):
        return found
    pairs = zip(found.shape, said.shape, strict=True)
    if any(isinstance(size, int) and size != stated for size, stated in pairs):
        return found
    return replace(found, shape=said.shape, layout=said.layout)


def replaces(place: Path) -> bool:
    """Replace nothing but an empty folder, or one that holds what `seal` wrote and nothing else, such as versions."""
    if not place.is_dir():
        return False
    held = [member.name for member in place.iterdir()]
    return not held or (held == [VERSION] and (place / VERSION / EXTRA / SIGNATURE_FILE).is_file())


FORMATS.register(Format("savedmodel", "TensorFlow SavedModel (folder)", "", recognise, seal, read, replaces=replaces))
