"""Half precision for TorchScript: constants and arithmetic in float16, inputs and outputs as they were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import RouteError
from convert.formats._torchscript_graph import FLOAT_DTYPE, HALF_DTYPE, Script, dtypes, following, inputs
from convert.formats._torchscript_layers import CONV, LINEAR, RECURRENT, Place
from convert.precision import QUANTIZERS, Layer, Quantizer, Reduced, Reduction
from convert.precision._torchscript import TORCHSCRIPT, finish, listed, open_base
from convert.sources._measure import example, trial_sizes
from convert.spec import FP16, Signature
from convert.worker import summary

if TYPE_CHECKING:
    import torch

KINDS = (LINEAR, CONV, RECURRENT)

#: The largest finite number of half precision, at which constants that stand for infinity are cut off.
TOP = 65504.0

#: Operators that make floats of what is no tensor, in float32 where nothing else is said.
MAKING = ("aten::zeros", "aten::ones", "aten::rand", "aten::randn", "aten::linspace", "aten::eye", "aten::full")

#: Operators that write a number into tensors, which half precision must hold.
FILLING = ("aten::masked_fill", "aten::masked_fill_", "aten::full", "aten::full_like", "aten::where", "aten::clamp")


def quantize(task: Reduction) -> Reduced:
    """Make every constant and every operator half precision, and see that PyTorch runs it here."""
    script, found, _ = open_base(task, KINDS)
    kept = {entry.layer for entry in task.recipe.kept}
    exact = {value.debugName() for place in found if place.name in kept for value in _constants(place)}
    cut = _constants_to_half(script, exact)
    _dtypes_to_half(script)
    for place in found:
        if place.name in kept:
            _in_float(script, place)
    _at_the_boundary(script, task.base.signature)
    notes = [f"{cut} constant(s) beyond half precision's {TOP:g} were cut off there"] if cut else []
    made = finish(script, task, notes)
    _require_running(Path(task.out), task.base.signature)
    return made


def _constants(place: Place) -> list[Any]:
    """Give the graph's values that are a layer's weights and biases."""
    values = inputs(place.node)
    if place.kind != RECURRENT:
        return values[1:3]
    return [one for value in values if value.node().kind() == "prim::ListConstruct" for one in inputs(value.node())]


def _constants_to_half(script: Script, exact: set[str]) -> int:
    """Round the constants, but those named; gives how many held finite numbers that are too large."""
    import torch

    cut = 0
    for node in script.nodes("prim::Constant"):
        value, held = node.output(), script.value(node.output())
        if isinstance(held, torch.Tensor) and held.dtype == torch.float32 and value.debugName() not in exact:
            finite = torch.where(held.isinf(), held, held.clamp(-TOP, TOP))
            cut += int(not torch.equal(finite, held))
            value.replaceAllUsesWith(script.constant(finite.half(), node))
    for node in script.nodes(*FILLING):
        for position, value in enumerate(inputs(node)):
            number = script.value(value)
            if isinstance(number, float) and TOP < abs(number) < float("inf"):
                node.replaceInput(position, script.constant(TOP if number > 0 else -TOP, node))
                cut += 1
    return cut


def _dtypes_to_half(script: Script) -> None:
    """Let operators that are told float32, or that make it by themselves, make half precision."""
    for node, position in dtypes(script):
        told = script.value(inputs(node)[position])
        unsaid = inputs(node)[position].node().mustBeNone() and node.kind() in MAKING
        if node.kind() == "aten::full" and not isinstance(script.value(inputs(node)[1]), float):
            unsaid = False  # then it makes integers
        if told == FLOAT_DTYPE or unsaid:
            node.replaceInput(position, script.constant(HALF_DTYPE, node))


def _cast(script: Script, value: Any, dtype: int, before: Any) -> Any:
    return script.operator("aten::to", [value, dtype, False, False, None], before)


def _in_float(script: Script, place: Place) -> None:
    """Let one layer compute in floats between casts."""
    node = place.node
    if place.kind == RECURRENT:
        raise RouteError(
            f"{place.name}: recurrent layers are not kept in fp32 within fp16", fix="leave it out of `kept`"
        )
    node.replaceInput(0, _cast(script, inputs(node)[0], FLOAT_DTYPE, node))
    given = node.output()
    script.reroute(given, lambda: _cast(script, given, HALF_DTYPE, following(node)))


def _at_the_boundary(script: Script, signature: Signature) -> None:
    """Cast what comes in and goes out as float32."""
    for value, spec in zip(script.taken, signature.inputs, strict=True):
        if spec.dtype == "float32":
            script.reroute(value, lambda value=value: _cast(script, value, HALF_DTYPE, script.outer()[0]))  # type: ignore[misc]
    for (node, position), spec in zip(script.outputs(), signature.outputs, strict=True):
        if spec.dtype == "float32":
            node.replaceInput(position, _cast(script, inputs(node)[position], FLOAT_DTYPE, node))


def _require_running(path: Path, signature: Signature) -> None:
    """Raise RouteError where PyTorch does not run the file in half precision on this processor."""
    import torch

    sizes = trial_sizes(signature)
    tensors: list[torch.Tensor] = [torch.from_numpy(example(spec, sizes)) for spec in signature.inputs]
    try:
        with torch.no_grad():
            torch.jit.load(str(path))(*tensors)
    except RuntimeError as error:
        raise RouteError(
            f"PyTorch does not run it in half precision on this processor: {summary(error)}",
            fix="use int8-weights for a smaller file",
        ) from error


def layers(base: Path) -> tuple[Layer, ...]:
    """List the layers with weights that can compute in floats between the others."""
    return listed(base, (LINEAR, CONV))


QUANTIZERS.register(
    Quantizer(
        name="torch-half",
        title="TorchScript in half precision",
        format="torchscript",
        precisions=(FP16,),
        rank=10,
        why="PyTorch's processor kernels compute in half precision, rounding what each gives",
        environment=TORCHSCRIPT,
        quantize=quantize,
        layers=layers,
    )
)
