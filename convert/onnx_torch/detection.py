"""Non-maximum suppression: as many boxes as the data says, so it runs and is not exported."""

from __future__ import annotations

import torch
from torch import Tensor

from convert.errors import LoadError
from convert.onnx_torch.table import Node, operator
from convert.onnx_torch.values import STEERED, Value, number


@operator("NonMaxSuppression", raw=(2, 3, 4))
def suppress(
    node: Node, boxes: Tensor, scores: Tensor, most: Value = None, overlap: Value = None, least: Value = None
) -> Tensor:
    """Give (batch, class, box) of the best boxes that do not overlap too much, class by class."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        raise LoadError(f"{node.where} gives as many boxes as the data says", fix=STEERED)
    limit = 0 if most is None else int(number(most))
    threshold = 0.0 if overlap is None else float(number(overlap))
    floor = None if least is None else float(number(least))
    found: list[list[int]] = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch], centred=bool(node.get("center_point_box", 0)))
        for kind in range(scores.shape[1]):
            found += [[batch, kind, box] for box in _kept(corners, scores[batch, kind], limit, threshold, floor)]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)


def _corners(boxes: Tensor, *, centred: bool) -> Tensor:
    """Give the least and the largest corner of each box."""
    if centred:
        half = boxes[:, 2:] / 2
        return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    return torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)


def _kept(corners: Tensor, scores: Tensor, limit: int, threshold: float, floor: float | None) -> list[int]:
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    kept: list[int] = []
    for box in order:
        if len(kept) >= limit or (floor is not None and float(scores[box]) <= floor):
            break
        if all(_overlap(corners[box], corners[other]) <= threshold for other in kept):
            kept.append(box)
    return kept


def _overlap(one: Tensor, other: Tensor) -> float:
    """Give the intersection over the union of two boxes."""
    shared = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp_min(0).prod()
    areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
    return float(shared / (areas[0] + areas[1] - shared))
