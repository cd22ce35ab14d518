"""Window functions that a model computes each time it runs: constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convert.torch_rewrites import TORCH_REWRITES, TorchRewrite

if TYPE_CHECKING:
    import torch

WINDOWS = ("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window")


def needed(node: torch.fx.Node) -> bool:
    """Whether the call computes a window of a known length."""
    return str(node.target).removeprefix("aten.").partition(".")[0] in WINDOWS and not node.all_input_nodes


def apply(node: torch.fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute it now."""
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():
        values = node.target(*args, **kwargs).numpy()
    return torch.from_numpy(values)


TORCH_REWRITES.register(
    TorchRewrite(
        name="windows",
        title="window functions as constants",
        said="window functions were computed once (litert-torch has no lowering for them)",
        needed=needed,
        apply=apply,
    )
)
