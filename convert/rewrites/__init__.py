"""Rewrites of ONNX graphs: what an exporter got wrong or a consumer cannot read, said in operators that both know.

A rewrite is one file of this folder that registers a `Rewrite`; modules whose name starts with an underscore are shared
by several. Routes that make or take ONNX call `rescue` and report what it says as the draft's rescues; the finished
artifact is proven like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.registry import Registry

if TYPE_CHECKING:
    import onnx

__all__ = ["REWRITES", "Rewrite", "rescue"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite, applied in place.

    `apply` gives one sentence for each kind of thing it changed, and nothing where there was nothing to do. `serves`
    names the consumers that need it, such as "onnx2tf"; empty where every reader of ONNX does. Lower ranks come first.
    """

    name: str
    title: str
    why: str
    rank: int
    apply: Callable[[onnx.ModelProto], tuple[str, ...]]
    serves: tuple[str, ...] = ()


REWRITES: Registry[Rewrite] = Registry("rewrite", "convert.rewrites")


def rescue(model: onnx.ModelProto, consumer: str = "") -> tuple[str, ...]:
    """Apply every rewrite that any reader needs, and those that `consumer` needs, in place; say what was changed."""
    chosen = [rewrite for rewrite in REWRITES if not rewrite.serves or consumer in rewrite.serves]
    said: list[str] = []
    for rewrite in sorted(chosen, key=lambda rewrite: (rewrite.rank, rewrite.name)):
        said += rewrite.apply(model)
    return tuple(dict.fromkeys(said))
