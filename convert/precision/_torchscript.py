"""What the quantizers of TorchScript artifacts share: weights made integers, layers kept, the file written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import RouteError, UsageError
from convert.formats._torchscript_graph import Script, inputs, replace
from convert.formats._torchscript_layers import Place, places
from convert.formats.torchscript import rewrite
from convert.precision import Layer, Reduced, Reduction
from convert.spec import FP32, Promise
from convert.worker import Environment

if TYPE_CHECKING:
    import torch

#: NOTE: Why not the source's environment: only the float archive is needed, and it loads with PyTorch alone.
TORCHSCRIPT = Environment("torchscript-quantizer", ("torch",))

#: The largest magnitude of a signed 8-bit weight; -128 is left out so that scales are symmetric.
INT8_TOP = 127

#: Steps between the 256 levels of an embedding's row.
TABLE_STEPS = 255

#: Whether 8-bit activations use 7 bits. NOTE: Why: on x86 processors without VNNI, PyTorch's kernels add pairs of
#: products in 16 bits and saturate without a word; PyTorch's own default for x86 is the same, and an artifact travels.
REDUCED_RANGE = True

RETIRING = (
    "PyTorch has announced that it will remove its quantized tensors (pytorch#184982): run the artifact with a "
    "version that still has them, as 2.13 does"
)


#: Puts kernels in the place of the layers it is given; gives those it did, and what else there is to say.
Put = Callable[[Script, tuple[Place, ...]], tuple[Sequence[Place], Sequence[str]]]


def reduced(task: Reduction, kinds: Sequence[str], put: Put) -> Reduced:
    """Let `put` reduce the layers of these kinds that are not kept, and write the archive.

    Raises UsageError for a kept layer that is not there, RouteError where nothing can be reduced.
    """
    script, found, chosen = open_base(task, kinds)
    done, notes = put(script, chosen)
    kept = [entry.layer for entry in task.recipe.kept]
    return finish(script, task, (*left_float(found, done, kept), *notes, RETIRING))


def open_base(task: Reduction, kinds: Sequence[str]) -> tuple[Script, tuple[Place, ...], tuple[Place, ...]]:
    """Open the float artifact; give it with all its layers and those to reduce: of these kinds and not kept.

    Raises UsageError for a kept layer that is not there, RouteError where nothing is left to reduce.
    """
    script = Script(Path(task.base.path))
    found = places(script)
    able = [place for place in found if place.kind in kinds]
    kept = {entry.layer for entry in task.recipe.kept}
    unknown = sorted(kept - {place.name for place in able})
    if unknown:
        raise UsageError(
            f"the recipe keeps {unknown[0]}, which is no layer of this artifact",
            fix=f"its layers are: {', '.join(place.name for place in able)}",
        )
    other = sorted({entry.precision for entry in task.recipe.kept} - {FP32})
    if other:
        raise UsageError(f"TorchScript keeps layers in {FP32}, not in {other[0]}", fix=f"keep them in {FP32}")
    chosen = tuple(place for place in able if place.name not in kept)
    if not chosen:
        held = ", ".join(sorted({place.operator for place in found})) or "no layer with constant weights"
        raise RouteError(
            f"nothing in it can be {task.recipe.precision}: PyTorch has such kernels for {', '.join(kinds)} layers, "
            f"and it has {held}{' left' if kept else ''}"
        )
    return script, found, chosen


def listed(base: Path, kinds: Sequence[str]) -> tuple[Layer, ...]:
    """List the layers of some kinds that a float artifact has."""
    return tuple(
        Layer(place.name, _described(place), place.weight_bytes)
        for place in places(Script(base))
        if place.kind in kinds
    )


def _described(place: Place) -> str:
    shapes = "x".join(map(str, place.weights[0].shape)) if place.weights else ""
    return f"{place.operator} {shapes}".strip()


def quantized(weight: torch.Tensor) -> torch.Tensor:
    """Quantize a weight to signed 8 bits, symmetrically, with one scale per output channel (axis 0)."""
    import torch

    tops = weight.reshape(weight.shape[0], -1).abs().amax(dim=1).double()
    scales = torch.where(tops > 0, tops / INT8_TOP, torch.ones_like(tops))
    return torch.quantize_per_channel(weight, scales, torch.zeros_like(scales, dtype=torch.int64), 0, torch.qint8)


def store_table(script: Script, place: Place) -> None:
    """Store an embedding's rows as unsigned 8-bit integers, each with a scale and an offset of its own."""
    import torch

    table = place.weights[0]
    low, high = table.amin(dim=1), table.amax(dim=1)
    scales = torch.where(high > low, (high - low) / TABLE_STEPS, torch.ones_like(low))
    rows = torch.quantize_per_channel(table, scales, -low / scales, 0, torch.quint8)
    held = script.attribute(f"{place.name}_packed", torch.ops.quantized.embedding_bag_prepack(rows))
    taken = [held, inputs(place.node)[1], False]
    replace(place.node.output(), script.operator("quantized::embedding_byte", taken, place.node))


def finish(script: Script, task: Reduction, notes: Sequence[str]) -> Reduced:
    """Write the edited archive with the base's signature."""
    out = Path(task.out)
    script.save(out)
    signature = task.base.signature
    rewrite(out, Promise(signature.inputs, tuple(spec.name for spec in signature.outputs), signature.outputs))
    return Reduced(signature, tuple(notes))


def left_float(found: Sequence[Place], chosen: Sequence[Place], kept: Sequence[str]) -> tuple[str, ...]:
    """Say which layers with weights stay float although nobody asked for it."""
    done = {place.name for place in chosen} | set(kept)
    left = [place.name for place in found if place.name not in done and place.weights]
    if not left:
        return ()
    shown = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
    return (f"left in float, as PyTorch has no such kernels for them: {shown}",)
