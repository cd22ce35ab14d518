"""EmbeddingBag over bags of one length: an embedding and a reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convert.torch_rewrites import TORCH_REWRITES, TorchRewrite

if TYPE_CHECKING:
    import torch

TARGETS = ("aten.embedding_bag.default", "aten.embedding_bag.padding_idx")

SUM, MEAN, MAX = 0, 1, 2  # as PyTorch numbers the modes


def needed(node: torch.fx.Node) -> bool:
    """Whether the call's bags all have one length: a table of ids, which PyTorch hands on with counted offsets."""
    return str(node.target) in TARGETS and length(node) is not None and not (mode(node) == MAX and padded(node) >= 0)


def length(node: torch.fx.Node) -> int | None:
    """Read the length of all bags from how their offsets were counted, or None where they were not."""
    offsets = node.args[2]
    if not str(getattr(offsets, "target", "")).startswith("aten.arange"):
        return None
    numbers = [value for value in offsets.args if isinstance(value, int)]
    return numbers[2] if len(numbers) == 3 else 1


def mode(node: torch.fx.Node) -> int:
    """Read how a bag's rows become one."""
    return int(node.args[4]) if len(node.args) > 4 else SUM


def padded(node: torch.fx.Node) -> int:
    """Read the id that does not count, -1 where all do."""
    value = node.args[8] if len(node.args) > 8 else None
    return value if isinstance(value, int) else -1


def apply(node: torch.fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ARG001
    """Look all rows up and reduce each bag's."""
    import torch

    ids = args[1].reshape(-1, length(node) or 1)
    rows = torch.nn.functional.embedding(ids, args[0])
    weights = args[6] if len(args) > 6 else None
    if weights is not None:
        rows = rows * weights.reshape(*ids.shape, 1)
    if mode(node) == MAX:
        return rows.amax(1), None, None, None
    count: Any = ids.shape[1]
    if padded(node) >= 0:
        counts = (ids != padded(node)).to(rows.dtype).unsqueeze(-1)
        rows, count = rows * counts, counts.sum(1).clamp(min=1)
    total = rows.sum(1)
    return (total / count if mode(node) == MEAN else total), None, None, None


TORCH_REWRITES.register(
    TorchRewrite(
        name="embedding_bag",
        title="EmbeddingBag as an embedding and a reduction",
        said="EmbeddingBag was rewritten as an embedding and a reduction (litert-torch has no lowering for it)",
        needed=needed,
        apply=apply,
    )
)
