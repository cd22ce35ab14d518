"""Control flow and sequences: unrolled as the graph runs, so what decides must be known by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convert.errors import LoadError
from convert.onnx_torch.table import Node, operator
from convert.onnx_torch.values import STEERED, Small, Value, number, numbers, tensor_of

Run = Callable[[Any, dict[str, Value]], list[Value]]


def _decided(node: Node, value: Value) -> bool:
    """Give a condition that is known; raises LoadError for one that a trace or export would bake in."""
    if isinstance(value, Tensor):
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise LoadError(f"{node.where} depends on the data, which an exported graph would bake in", fix=STEERED)
        return bool(value.reshape(-1)[0].item())
    return bool(number(value))


@operator("If", raw=(0,))
def branch(node: Node, condition: Value, *, run: Run) -> Value:
    """Run one of two graphs."""
    body = node.get("then_branch") if _decided(node, condition) else node.get("else_branch")
    return tuple(run(body, {}))


@operator("Loop", raw=(-1,))
def loop(node: Node, count: Value, condition: Value, *states: Value, run: Run) -> Value:
    """Run a graph again and again; what it gives besides its states is stacked."""
    body = node.get("body")
    limit = None if count is None else _count(node, count)
    going = True if condition is None else _decided(node, condition)
    carried = list(states)
    scanned: list[list[Tensor]] | None = None
    step = 0
    while going and (limit is None or step < limit):
        given = [Small((step,), 0, torch.int64), Small((going,), 0, torch.bool), *carried]
        proceed, *found = run(body, dict(zip(body.inputs, given, strict=True)))
        carried, scans = found[: len(states)], found[len(states) :]
        scanned = [[] for _ in scans] if scanned is None else scanned
        for stack, scan in zip(scanned, scans, strict=True):
            stack.append(tensor_of(scan))
        step += 1
        # A body that only passes its condition on never ends the loop: that is a `for`.
        going = _decided(node, proceed)
    if scanned is None:
        scanned = [[] for _ in body.outputs[1 + len(states) :]]
    return (*carried, *(torch.stack(stack) if stack else torch.zeros(0) for stack in scanned))


def _count(node: Node, value: Value) -> int:
    found = numbers(value)[0] if isinstance(value, Small) else value
    if isinstance(found, Tensor) and (torch.jit.is_tracing() or torch.compiler.is_exporting()):
        raise LoadError(
            f"{node.where} runs as often as the data says, which an exported graph would bake in", fix=STEERED
        )
    return int(found)


@operator("Scan")
def scan(node: Node, *values: Tensor, run: Run) -> Value:
    """Run a graph over the steps of its inputs."""
    if node.version < 9:
        raise node.unsupported("the batched form")
    body, inputs = node.get("body"), node.get("num_scan_inputs")
    count = len(values) - inputs
    carried, sequences = list(values[:count]), values[count:]
    axes = node.get("scan_input_axes") or [0] * inputs
    directions = node.get("scan_input_directions") or [0] * inputs
    outputs = len(body.outputs) - count
    out_axes = node.get("scan_output_axes") or [0] * outputs
    out_directions = node.get("scan_output_directions") or [0] * outputs
    moved = [
        s.movedim(a, 0).flip(0) if d else s.movedim(a, 0) for s, a, d in zip(sequences, axes, directions, strict=True)
    ]
    stacks: list[list[Tensor]] = [[] for _ in range(outputs)]
    for step in range(int(moved[0].shape[0])):
        found = run(body, dict(zip(body.inputs, [*carried, *(m[step] for m in moved)], strict=True)))
        carried = found[:count]
        for stack, value in zip(stacks, found[count:], strict=True):
            stack.append(tensor_of(value))
    scanned = []
    for stack, axis, direction in zip(stacks, out_axes, out_directions, strict=True):
        joined = torch.stack(stack[::-1] if direction else stack)
        scanned.append(joined.movedim(0, axis))
    return (*carried, *scanned)


@operator("SequenceConstruct")
def sequence_construct(_: Node, *values: Tensor) -> list[Tensor]:
    """Make a sequence."""
    return list(values)


@operator("SequenceEmpty")
def sequence_empty(_: Node) -> list[Tensor]:
    """Make an empty sequence."""
    return []


@operator("SequenceInsert", raw=(2,))
def sequence_insert(_: Node, sequence: list[Tensor], value: Tensor, position: Value = None) -> list[Tensor]:
    """Insert a tensor into a sequence, at its end where no position is given."""
    found = list(sequence)
    found.insert(len(found) if position is None else int(number(position)), value)
    return found


@operator("SequenceErase", raw=(1,))
def sequence_erase(_: Node, sequence: list[Tensor], position: Value = None) -> list[Tensor]:
    """Take a tensor out of a sequence."""
    found = list(sequence)
    del found[-1 if position is None else int(number(position))]
    return found


@operator("SequenceAt", raw=(1,))
def sequence_at(_: Node, sequence: list[Tensor], position: Value) -> Tensor:
    """Give one tensor of a sequence."""
    return sequence[int(number(position))]


@operator("SequenceLength")
def sequence_length(_: Node, sequence: list[Tensor]) -> Small:
    """Count the tensors of a sequence."""
    return Small((len(sequence),), 0, torch.int64)


@operator("ConcatFromSequence")
def concat_from_sequence(node: Node, sequence: list[Tensor]) -> Tensor:
    """Join or stack the tensors of a sequence."""
    axis = node.get("axis")
    return torch.stack(sequence, axis) if node.get("new_axis", 0) else torch.cat(sequence, axis)


@operator("SplitToSequence", raw=(1,))
def split_to_sequence(node: Node, value: Tensor, parts: Value = None) -> list[Tensor]:
    """Cut a tensor into a sequence."""
    axis = node.get("axis", 0)
    if parts is None:
        pieces = list(torch.split(value, 1, axis))
        return pieces if node.get("keepdims", 1) else [piece.squeeze(axis) for piece in pieces]
    lengths = numbers(parts)
    return list(torch.split(value, lengths[0] if _is_scalar(parts) else lengths, axis))


def _is_scalar(value: Value) -> bool:
    return value.rank == 0 if isinstance(value, Small) else value.dim() == 0
