"""What both TensorFlow sources share: finding a SavedModel, choosing its signature and loading it safely."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import LoadError, MissingInputs, UnknownName, UsageError
from convert.sources._measure import agreed, measure_tied
from convert.sources._saved_model_safety import refuse_side_effects
from convert.spec import BATCH, DTYPES, RECURRENT, LoadOptions, ModelFacts, SourceFile, TensorSpec
from convert.worker import summary

if TYPE_CHECKING:
    import numpy as np

    from convert.sources import LoadedModel

GRAPH = "saved_model.pb"
DEFAULT = "serving_default"

#: `saved_model.pb` alone, or below the number of its version, as TensorFlow Serving has it.
_PLACE = re.compile(rf"(?:(?P<version>\d+)/)?{re.escape(GRAPH)}")

_ADD_SIGNATURE = """save it again with one:
    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name="x")])
    def serve(x):
        return {"y": model(x)}
    tf.saved_model.save(model, "folder", signatures={"serving_default": serve})
or, from Keras 3, with model.export("folder")"""


def place_of(members: tuple[str, ...]) -> str | None:
    """Find the folder of the newest version of a SavedModel among relative paths; an empty string for the top."""
    found = [(int(match["version"] or 0), name) for name in members if (match := _PLACE.fullmatch(name))]
    return max(found)[1].removesuffix(GRAPH).rstrip("/") if found else None


@dataclass(frozen=True, slots=True)
class Served:
    """One signature of a loaded SavedModel, called by names.

    A SavedModel keeps inputs and outputs without an order; here and everywhere after they are in that of their names.
    """

    loaded: Any  # keeps the variables alive
    function: Any  # a tf.ConcreteFunction
    signature: str

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on named arrays or tensors and give tensors by name."""
        found = self.function(**self.tensors(inputs))
        return {name: found[name] for name in sorted(found)}

    def tensors(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Give named arrays as the tensors that the function takes."""
        import tensorflow as tf

        specs = self.function.structured_input_signature[1]
        return {name: tf.convert_to_tensor(inputs[name], spec.dtype) for name, spec in specs.items()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run on named arrays and give arrays by name."""
        return {name: tensor.numpy() for name, tensor in self(inputs).items()}


def load_saved_model(folder: Path, file: SourceFile, options: LoadOptions) -> LoadedModel:
    """Load the chosen signature of the SavedModel in `folder`, and measure it; `file` is what the user named.

    Raises what `load_served` raises, and UsageError where the signature holds text.
    """
    from convert.sources import LoadedModel

    served = load_served(folder, file, options)
    function = served.function
    inputs = agreed(_inputs(function, file, options.inputs), options.inputs)
    _require_numbers(function.structured_outputs, file, "returns")
    signature = measure_tied(served.run, inputs)
    parameters = sum(int(variable.shape.num_elements() or 0) for variable in function.variables)
    return LoadedModel(served, ModelFacts(signature, parameters, traits=_traits(function)))


def _traits(function: Any) -> tuple[str, ...]:
    """Name the traits of a function that its operators show: a loop that collects what it computes is recurrent."""
    library = function.graph.as_graph_def().library.function
    operators = {node.op for called in library for node in called.node_def}
    loops = "TensorListReserve" in operators and operators & {"While", "StatelessWhile"}
    return (RECURRENT,) if loops else ()


def load_served(folder: Path, file: SourceFile, options: LoadOptions) -> Served:
    """Load the chosen signature of the SavedModel in `folder`.

    Raises UsageError where it has no such signature, or operators that reach out of the model without `--trust`;
    LoadError where TensorFlow cannot load it.
    """
    import tensorflow as tf

    graph = meta_graph(folder, file)
    refuse_side_effects(graph, file.path, trust=options.trust)
    name = choose(graph, file, options.signature)
    try:
        loaded = tf.saved_model.load(str(folder), tags=list(graph.meta_info_def.tags))
        function = loaded.signatures[name]
    except Exception as error:
        raise LoadError(
            f"TensorFlow {tf.__version__} cannot load {file.path}: {type(error).__name__}: {summary(error, 2)}",
            fix="copy or download the whole folder again, its variables included, or save it again",
        ) from error
    return Served(loaded, function, name)


def meta_graph(folder: Path, file: SourceFile) -> Any:
    """Read the graph that serves: the one tagged so, else one without tags (TF Hub's older modules), else the only one.

    Raises LoadError where the file is damaged or holds nothing to serve.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    damaged = LoadError(f"{GRAPH} in {file.path} is damaged", fix="copy or download the folder again")
    try:
        model.ParseFromString((folder / GRAPH).read_bytes())
    except (DecodeError, OSError) as error:
        raise damaged from error
    graphs = list(model.meta_graphs)
    if not graphs:
        raise damaged
    for tags in ({"serve"}, set[str]()):
        for graph in graphs:
            if set(graph.meta_info_def.tags) == tags:
                return graph
    if len(graphs) == 1:
        return graphs[0]
    tagged = "; ".join(", ".join(graph.meta_info_def.tags) for graph in graphs)
    raise LoadError(f"{file.path} has no graph tagged 'serve', only: {tagged}", fix="save it again for serving")


def choose(graph: Any, file: SourceFile, wanted: str) -> str:
    """Choose a signature: the one asked for, else the default one, else the only one.

    Raises UsageError where there is none, or none of that name, or several and no default.
    """
    names = served_names(graph)
    if wanted and wanted not in names:
        raise UnknownName.among(f"signature in {file.path}", wanted, names)
    if not names:
        raise UsageError(
            f"{file.path} is a SavedModel without signatures, so nothing says what it takes", fix=_ADD_SIGNATURE
        )
    if wanted:
        return wanted
    if DEFAULT in names or len(names) == 1:
        return DEFAULT if DEFAULT in names else names[0]
    raise UsageError(
        f"{file.path} has {len(names)} signatures and none is named {DEFAULT}: {', '.join(names)}",
        fix=f"choose one with --signature, for example --signature {names[0]}",
    )


def served_names(graph: Any) -> list[str]:
    """Name a MetaGraphDef's signatures, those that only TensorFlow's loader calls aside."""
    return sorted(name for name in graph.signature_def if not name.startswith("__saved_model_"))


def _inputs(function: Any, file: SourceFile, given: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Describe what a signature takes, in the order of the names; a shape it leaves open altogether must be `given`."""
    taken = function.structured_input_signature[1]
    _require_numbers(taken, file, "takes")
    stated = {spec.name: spec for spec in given}
    specs = []
    for name in sorted(taken):
        spec = taken[name]
        if spec.shape.rank is None:
            if name not in stated:
                raise MissingInputs(
                    f"{file.path} leaves the shape of its input {name} open",
                    fix=f"state it with --input, for example --input '{name}:{spec.dtype.name}[{BATCH},8]'",
                )
            specs.append(TensorSpec(name, spec.dtype.name, stated[name].shape))
            continue
        shape = tuple(
            (BATCH if axis == 0 else f"{name}_{axis}") if size is None else int(size)
            for axis, size in enumerate(spec.shape)
        )
        specs.append(TensorSpec(name, spec.dtype.name, shape))
    if not specs:
        raise UsageError(f"the signature of {file.path} takes no inputs", fix="choose another with --signature")
    return tuple(specs)


def _require_numbers(specs: Mapping[str, Any], file: SourceFile, verb: str) -> None:
    """Raise UsageError for text, ragged or sparse tensors: no device format holds them."""
    for name, spec in specs.items():
        kind = spec.dtype.name if hasattr(spec, "dtype") else type(spec).__name__
        if kind not in DTYPES or not hasattr(spec, "shape"):
            what = "text" if kind == "string" else f"{kind} values"
            raise UsageError(
                f"{file.path} {verb} {what} ({name}), which no device format holds",
                fix="export the part that takes and returns numbers, and let the app prepare its inputs",
            )
