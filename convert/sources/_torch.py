"""What every PyTorch source shares: naming outputs, measuring signatures, hints, and graphs of TorchScript.

PyTorch is imported inside the functions; this module loads none.
"""

from __future__ import annotations

import inspect
import re
import types
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from convert.errors import LoadError, MissingInputs, UsageError
from convert.layout import inverse
from convert.sources._attention import masks_as_given
from convert.sources._index_ranges import bounded, exported
from convert.sources._measure import agreed, example, measure, trial_sizes
from convert.sources._probe import WHOLE, Probe
from convert.sources._state import as_it_was
from convert.spec import (
    BATCH,
    GRID_SAMPLE,
    RECURRENT,
    SIGNATURE_FILE,
    LoadOptions,
    ModelFacts,
    Promise,
    Signature,
    TensorSpec,
)
from convert.worker import summary

if TYPE_CHECKING:
    import numpy as np
    import torch

    from convert.sources import LoadedModel


#: Operators of TorchScript that touch files.
_SIDE_EFFECT = re.compile(r"\b(?:torch|ops\s*\.\s*aten)\s*\.\s*(?:save|from_file)\s*\(")


def flatten(output: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a model's output by name: dictionary keys, field names or positions, joined by dots.

    None is skipped, as transformers' output classes hold it for what was not asked. Raises LoadError for anything that
    is no tensor, because it could not be compared.
    """
    import torch

    def below(key: object) -> str:
        return f"{path}.{key}" if path else str(key)

    if isinstance(output, torch.Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from flatten(value, below(key))
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        for key, value in zip(output._fields, output, strict=True):
            yield from flatten(value, below(key))
    elif isinstance(output, (tuple, list)):
        for position, value in enumerate(output):
            yield from flatten(value, below(position))
    elif output is not None:
        raise LoadError(
            f"the model's output {path or 'value'} is a {type(output).__name__}, not a tensor",
            fix="wrap the model in a module that returns tensors only, in a tuple or a dictionary",
        )


def output_names(found: Sequence[str], promised: Sequence[str]) -> tuple[str, ...]:
    """Name a model's flattened outputs: as promised, else by dictionary key, else `output` or `output_<position>`."""
    if promised:
        if len(promised) != len(found):
            raise LoadError(
                f"the signature names {len(promised)} outputs ({', '.join(promised)}), the model returns {len(found)}",
                fix="write the signature file again with one name per output",
            )
        return tuple(promised)
    if list(found) == [""]:
        return ("output",)
    return tuple(f"output_{name}" if name[:1].isdigit() else name for name in found)


def arguments(module: torch.nn.Module) -> tuple[str, ...]:
    """Name the arguments of a module's forward, in order; empty where it takes any."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return tuple(argument.name for argument in module.forward.schema.arguments[1:])
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def call(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Call a module with named tensors: by position where they are its first arguments in order, else by keyword."""
    known = arguments(module)
    names = tuple(tensors)
    if not known or known[: len(names)] == names or len(known) == len(names) == 1:
        return module(*tensors.values())
    unknown = [name for name in names if name not in known]
    if unknown and len(known) == len(names) and type(module).__name__ == "GraphModule":
        return module(
            *tensors.values()
        )  # PyTorch's converter from TorchScript renames the arguments and keeps their order
    if unknown:
        raise UsageError(
            f"the model's forward has no argument named {', '.join(unknown)}",
            fix=f"its arguments are: {', '.join(known)}; name the inputs after them",
        )
    return module(**tensors)


def run(
    module: torch.nn.Module, inputs: Mapping[str, np.ndarray], promised: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Run a module on named arrays and give its outputs by name, in the order it returns them."""
    import torch

    with torch.no_grad():
        found = list(flatten(call(module, {name: torch.from_numpy(array) for name, array in inputs.items()})))
    names = output_names([name for name, _ in found], promised)
    return {name: tensor.detach().numpy() for name, (_, tensor) in zip(names, found, strict=True)}


def refuse_side_effects(seen: Probe, *, trust: bool) -> None:
    """Raise UsageError for TorchScript code that reads or writes files, which some of its operators can.

    TorchScript reaches no Python, but `torch.save` and `torch.from_file` are operators of its own.
    """
    if trust:
        return
    for member in seen.members:
        if member.endswith(".py"):
            found = _SIDE_EFFECT.search(seen.read(member, WHOLE).decode(errors="replace"))
            if found:
                raise UsageError(
                    f"{seen.path} reaches the file system: its code calls {found[0].rstrip('(')}",
                    fix="remove the call, or add --trust when you know who made the file",
                )


def read_promise(probe: Probe) -> Promise | None:
    """Read the signature an archive carries as an extra file, without PyTorch."""
    name = f"extra/{SIGNATURE_FILE}"
    if not probe.has(name):
        return None
    try:
        return msgspec.json.decode(probe.read(name), type=Promise)
    except (msgspec.MsgspecError, zipfile.BadZipFile) as error:
        raise LoadError(
            f"the {SIGNATURE_FILE} in {probe.path} cannot be read: {error}",
            fix="write it with convert.signature_file(...), or save the model without it and use --input",
        ) from error


def loaded(
    module: torch.nn.Module, options: LoadOptions, promise: Promise | None, notes: tuple[str, ...] = ()
) -> LoadedModel:
    """Finish loading a module: evaluation mode, its signature, its size.

    Raises MissingInputs, with the option to add, where neither the file nor the user says what it takes.
    """
    import torch

    from convert.sources import LoadedModel

    graph = isinstance(module, torch.fx.GraphModule)  # whose mode was settled when it was exported
    if not graph and any(getattr(part, "training", False) for part in module.modules()):
        notes = (*notes, "was saved in training mode; switched to evaluation")
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(requires_grad=False)
    inputs = agreed(promise.inputs, options.inputs) if promise else options.inputs or options.examples
    if not inputs:
        raise missing_inputs(module)
    promised = promise.output_names if promise else ()
    if not graph:  # whose inputs were read from it
        scripted = isinstance(module, torch.jit.ScriptModule)
        inputs = bounded(inputs, lambda: (program_of if scripted else exported)(module, inputs), module)
    with as_it_was(module):
        signature = measure(lambda arrays: run(module, arrays, promised), inputs)
    return LoadedModel(module, ModelFacts(signature, count_parameters(module), notes, traits(module, inputs)))


#: Operators of exported and compiled graphs that show a trait.
_TRAITS = {
    RECURRENT: re.compile(r"\baten(?:::|\.)(?:lstm|gru|rnn_tanh|rnn_relu)\b"),
    GRID_SAMPLE: re.compile(r"\baten(?:::|\.)grid_sampler"),
}


#: Steps up to which an unrolled recurrence is no burden: at 8 an unrolled LSTM takes half the time of TFLite's fused
#: kernel, at 100 it takes 1.35 times as long and has 1,598 operators.
SHORT_STEPS = 32


def traits(module: torch.nn.Module, inputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """Name the traits of a module that its graph or the classes of its parts show; a short recurrence is none."""
    found = _shown_traits(module)
    return found if _is_long(inputs) else tuple(trait for trait in found if trait != RECURRENT)


def _is_long(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether some input may be a sequence of many steps: an axis that is neither the batch nor the last feature."""
    axes = [dim for spec in inputs for dim in (spec.shape[:-1] if len(spec.shape) > 2 else spec.shape) if dim != BATCH]
    return any(isinstance(dim, str) or dim > SHORT_STEPS for dim in axes)


def _shown_traits(module: torch.nn.Module) -> tuple[str, ...]:
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        text = str(module.inlined_graph)
    elif isinstance(module, torch.fx.GraphModule):
        text = "\n".join(str(node.target) for node in module.graph.nodes)
    else:
        return (RECURRENT,) if any(isinstance(part, torch.nn.RNNBase) for part in module.modules()) else ()
    return tuple(trait for trait, pattern in _TRAITS.items() if pattern.search(text))


def count_parameters(module: torch.nn.Module) -> int:
    """Count trained numbers: parameters, and for frozen TorchScript the constants that were parameters."""
    import torch

    count: int = sum(parameter.numel() for parameter in module.parameters())
    if count == 0 and isinstance(module, torch.jit.ScriptModule):
        graph = module.inlined_graph  # its nodes live no longer than this name
        count = sum(
            node.t("value").numel()
            for node in graph.findAllNodes("prim::Constant")
            if node.hasAttribute("value") and node.kindOf("value") == "t"
        )
    return count


def missing_inputs(module: torch.nn.Module) -> MissingInputs:
    """Build the error that shows the exact `--input` to add, with what the weights reveal of it."""
    names = arguments(module) or ("input",)
    shape, dtype, hint = first_layer(module)
    examples = " ".join(f"--input '{name}:{dtype}[{shape}]'" for name in names)
    return MissingInputs(
        f"the model file does not say what its inputs are{f' ({hint})' if hint else ''}",
        fix=f"add {examples} with the true sizes ({BATCH} is a free dimension; integer ranges as =0..99), "
        "or --inputs data.npz with example inputs",
    )


def first_layer(module: torch.nn.Module) -> tuple[str, str, str]:
    """Guess an input's shape and dtype, as text for an example, from the first weight that tells, and say which.

    TorchScript loses the classes of its modules, so ranks and names of weights are all there is.
    """
    for name, weight in module.state_dict().items():
        layer = name.rpartition(".")[0] or name
        if weight.dim() in (3, 4, 5) and name.endswith("weight"):
            axes = {3: "LENGTH", 4: "HEIGHT,WIDTH", 5: "DEPTH,HEIGHT,WIDTH"}[weight.dim()]
            channels = weight.shape[1]
            return f"{BATCH},{channels},{axes}", "float32", f"the first convolution, {layer}, takes {channels} channels"
        if re.search(r"(^|[._])emb", name) and weight.dim() == 2:
            return f"{BATCH},LENGTH", "int64", f"the first embedding, {layer}, has rows 0..{weight.shape[0] - 1}"
        if weight.dim() == 2 and re.search(r"weight_ih", name):
            width = weight.shape[1]
            return f"{BATCH},STEPS,{width}", "float32", f"the first recurrent layer, {layer}, takes {width} features"
        if weight.dim() == 2 and name.endswith("weight"):
            width = weight.shape[1]
            return f"{BATCH},{width}", "float32", f"the first linear layer, {layer}, takes {width} features"
    return f"{BATCH},SIZE", "float32", ""


def graph_of_torchscript(module: torch.nn.Module, inputs: tuple[TensorSpec, ...]) -> torch.nn.Module:
    """Turn a TorchScript module into an FX graph module with the same inputs and outputs.

    Raises LoadError where PyTorch's converter does not manage it.
    """
    # NOTE: Why its guards are dropped: the converter records the example's batch size as one although the graph it
    # wrote reads the size at run time (pytorch#164699); parity over several sizes judges that.
    return module_of(program_of(module, inputs))


def program_of(module: torch.nn.Module, inputs: tuple[TensorSpec, ...]) -> torch.export.ExportedProgram:
    """Turn a TorchScript module into a program; raises LoadError where PyTorch's converter does not manage it."""
    import torch

    # NOTE: Why a private name: PyTorch has no public way from TorchScript to an ExportedProgram; torch.onnx used this
    # one itself until 2.9 (pytorch#152556).
    from torch._export.converter import TS2EPConverter

    sizes = trial_sizes(Signature(inputs, ()))
    tensors = tuple(torch.from_numpy(example(spec, sizes)) for spec in inputs)
    try:
        with torch.no_grad():
            program: torch.export.ExportedProgram = TS2EPConverter(module, tensors, {}).convert()
    except Exception as error:
        raise LoadError(f"PyTorch cannot turn this TorchScript into a graph: {summary(error)}") from error
    return program


def module_of(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """Give a program's module, made to be called like any other.

    It has no training mode and would refuse to be asked for evaluation; and it refuses inputs of other sizes than the
    example's wherever export took a size for fixed, though its graph often reads it (an LSTM's zero states).
    """
    import torch

    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()  # no public way leaves out the check of input sizes
    for node in module.graph.nodes:
        # litert-torch has no lowering for detaching in place, which every torch.tensor(...) in a forward leaves behind.
        if node.target is torch.ops.aten.detach_.default:
            node.target = torch.ops.aten.detach.default
    module.recompile()
    module.train = module.eval = types.MethodType(lambda self, *_: self, module)
    return module


def positional(
    module: torch.nn.Module, signature: Signature, permutations: Mapping[str, tuple[int, ...]] | None = None
) -> torch.nn.Module:
    """Wrap a module so that it takes the signature's inputs by position and returns a flat tuple of its outputs.

    The wrapper's forward shows the inputs' names as its arguments, which tracers and exporters carry into the file.
    Inputs named in `permutations` come with their axes in that order. Attention masks are not looked at.
    """
    import torch

    names = tuple(spec.name for spec in signature.inputs)
    back = {name: inverse(axes) for name, axes in (permutations or {}).items()}

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            named = dict(zip(names, tensors, strict=True))
            named |= {name: named[name].permute(axes) for name, axes in back.items()}
            with masks_as_given():
                return tuple(tensor for _, tensor in flatten(call(self.model, named)))

    shown_as(Positional, names)
    return Positional().eval()


def shown_as(wrapper: type[torch.nn.Module], names: Sequence[str]) -> None:
    """Make a wrapper's forward, which takes any tensors, show `names` as its arguments."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *map(identifier, names))]
    wrapper.forward.__signature__ = inspect.Signature(parameters)


def identifier(name: str) -> str:
    """Turn a tensor's name into the nearest Python identifier, for formats whose arguments must be one."""
    cleaned = re.sub(r"\W", "_", name)
    return cleaned if cleaned.isidentifier() and cleaned != "self" else f"input_{cleaned}"
