"""Every tensor that PyTorch computes while something runs, eager modules and TorchScript alike."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from convert.sources._torch import flatten
from validators.divergence import Value
from validators.taps import Trace

if TYPE_CHECKING:
    import numpy as np

#: Operators that hand on their input's numbers, all or some of them, elsewhere or in another type.
MOVES = frozenset(
    {"view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "clone", "detach", "alias", "slice"}
    | {"contiguous", "select", "squeeze", "unsqueeze", "_to_copy", "copy_", "lift_fresh", "split", "split_with_sizes"}
    | {"unbind", "quantize_per_tensor", "dequantize", "constant_pad_nd", "cat"}
)

MOST_ANSWERS = 8  # tensors that one operator gives, for which the call of one that is looked for is kept

HOME = str(Path(torch.__file__).parent)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator: the leaves of its arguments, those that others computed, and which answer counts."""

    function: Any
    leaves: tuple[Any, ...]
    structure: Any
    given: tuple[int, ...]  # positions of leaves
    makers: tuple[int, ...]  # of the given ones, in their order
    which: int

    @property
    def kind(self) -> str:
        """The operator's name."""
        return str(self.function._schema.name)


class Recorder(TorchDispatchMode):
    """Records, while it is entered, every operator that is computed from one of the `given` tensors.

    `owners` are names of parameters by the identity of their tensors: an operator belongs to the layer of those that it
    takes where nothing else says so, and to that of its input where it takes none and `inherits`. `lines` says whether
    the lines of the Python code are looked for. The call that computes the tensor at the position `keep` is kept as
    `call`.
    """

    def __init__(
        self,
        given: Mapping[str, torch.Tensor],
        owners: Mapping[int, str],
        *,
        lines: bool,
        inherits: bool = False,
        keep: int = -1,
    ) -> None:
        super().__init__()
        self.call: Call | None = None
        self._keep, self._inherits = keep, inherits
        self.path, self.line = "", ""
        self._owners, self._lines = owners, lines
        self._values: list[Value] = []
        self._arrays: list[np.ndarray | None] = []
        self._kept: list[torch.Tensor] = []  # so that no identity is given twice
        self._makers: dict[int, int] = {}
        self._writers: dict[int, int] = {}  # by the storage that was written to last
        self._counts: Counter[str] = Counter()
        for name, tensor in given.items():
            self._record(tensor, Value(name, ""))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as without a recorder, and keep what came out."""
        taken = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        makers = sorted({maker for tensor in taken if (maker := self._maker(tensor)) is not None})
        layer = self.path or next((owner for tensor in taken if (owner := self._owners.get(id(tensor)))), "")
        if not layer and self._inherits and makers:
            layer = next(iter(self._values[makers[-1]].layers), "")
        near = len(self._values) <= self._keep < len(self._values) + MOST_ANSWERS
        kept = self._called(function, args, kwargs or {}) if near and makers else None
        found = function(*args, **(kwargs or {}))
        if makers:
            first = len(self._values)
            kind = function._schema.name.partition("::")[2]
            written = function._schema.is_mutable
            for tensor in tree_leaves(found):
                if isinstance(tensor, torch.Tensor) and tensor.numel():
                    count = self._counts[kind]
                    self._counts[kind] += 1
                    name = f"{kind}_{count}" if count else kind
                    layers = (layer,) if layer else ()
                    value = Value(name, function._schema.name, tuple(makers), layers, self._where(), kind in MOVES)
                    self._record(tensor, value, written=written)
            if kept is not None and first <= self._keep < len(self._values):
                self.call = dataclasses.replace(kept, which=self._keep - first)
        return found

    def _called(self, function: Any, args: Any, kwargs: Any) -> Call:
        leaves, structure = tree_flatten((args, kwargs))
        makers = [self._maker(leaf) if isinstance(leaf, torch.Tensor) else None for leaf in leaves]
        # A copy, because the operator may write to what it takes.
        leaves = [leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        given = tuple(at for at, maker in enumerate(makers) if maker is not None)
        return Call(function, tuple(leaves), structure, given, tuple(maker for maker in makers if maker is not None), 0)

    def _maker(self, tensor: torch.Tensor) -> int | None:
        by_identity = self._makers.get(id(tensor))
        written = self._writers.get(_storage(tensor))
        if by_identity is None or written is None:
            return by_identity if written is None else written
        return max(by_identity, written)

    def _record(self, tensor: torch.Tensor, value: Value, *, written: bool = False) -> None:
        self._makers[id(tensor)] = len(self._values)
        if written or not value.operator:
            self._writers[_storage(tensor)] = len(self._values)
        self._values.append(value)
        self._kept.append(tensor)
        plain = tensor.detach()
        plain = plain.dequantize() if plain.is_quantized else plain
        plain = plain.float() if plain.dtype is torch.bfloat16 else plain
        self._arrays.append(plain.numpy().copy() if plain.device.type == "cpu" else None)

    def _where(self) -> str:
        if self.line or not self._lines:
            return self.line
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith((HOME, "<")) and name != __file__ and "validators/" not in name.replace("\\", "/"):
                return "" if "/convert/" in name.replace("\\", "/") else f"{Path(name).name}:{frame.f_lineno}"
            frame = frame.f_back
        return ""

    def trace(self, answer: Any, names: Callable[[list[str]], tuple[str, ...]]) -> Trace:
        """Give what was recorded; `names` names the flattened answer."""
        found = list(flatten(answer))
        called = names([name for name, _ in found])
        outputs = []
        for name, (_, tensor) in zip(called, found, strict=True):
            maker = self._maker(tensor)
            if maker is not None:
                outputs.append((name, maker))
        return Trace(tuple(self._values), self._arrays, tuple(outputs))


def _storage(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):  # packed and sparse tensors have none
        return id(tensor)


def owners_of(module: torch.nn.Module) -> tuple[dict[int, str], list[torch.Tensor]]:
    """Give the layer of every parameter and buffer by its identity, and the tensors, which must be kept alive."""
    kept = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {id(tensor): name.rpartition(".")[0] for name, tensor in kept}, [tensor for _, tensor in kept]


@contextmanager
def paths_followed(module: torch.nn.Module, recorder: Recorder) -> Iterator[None]:
    """Let a recorder know, while a Python module runs, which of its parts is at work."""
    stack = [""]

    def entering(name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            stack.append(name)
            recorder.path = name

        return enter

    def leave(*_: Any) -> None:
        stack.pop()
        recorder.path = stack[-1]

    handles = []
    for name, part in module.named_modules():
        if name and not isinstance(part, torch.jit.ScriptModule):
            handles += [part.register_forward_pre_hook(entering(name)), part.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class NodeByNode(torch.fx.Interpreter):
    """Runs an exported graph and tells a recorder of each node's module and source line."""

    def __init__(self, module: torch.fx.GraphModule, recorder: Recorder) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._recorder = recorder

    def run_node(self, node: torch.fx.Node) -> Any:
        """Run one node."""
        stack = node.meta.get("nn_module_stack") or {}
        places = [str(place[0]) for place in stack.values()]
        self._recorder.path = _attribute_path(places[-1]) if places else ""
        self._recorder.line = line_of(node.meta.get("stack_trace") or "")
        return super().run_node(node)


def _attribute_path(place: str) -> str:
    """Turn `L['self'].blocks.0` or `L__self___blocks_0` written by exporters into a module's path."""
    return place.removeprefix("L['self']").lstrip(".") if place.startswith("L[") else place


def line_of(stack: str) -> str:
    """Give the innermost place in a printed stack that is no framework's, as `file.py:12`.

    >>> line_of('File "/a/net.py", line 12, in forward')
    'net.py:12'
    """
    import re

    places = re.findall(r'File "([^"]+)", line (\d+)', stack)
    own = [(name, line) for name, line in places if "/torch/" not in name.replace("\\", "/")]
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""


def cut_out(call: Call) -> tuple[torch.jit.ScriptModule, tuple[torch.Tensor, ...]]:
    """Make a TorchScript of one call, and give the tensors it takes; all else is inside it."""

    class Alone(torch.nn.Module):
        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            leaves = list(call.leaves)
            for at, tensor in zip(call.given, given, strict=True):
                leaves[at] = tensor
            args, kwargs = tree_unflatten(leaves, call.structure)
            answers = [leaf for leaf in tree_leaves(call.function(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]
            return [answer for answer in answers if answer.numel()][call.which]

    given = tuple(call.leaves[at] for at in call.given)
    with torch.no_grad():
        return torch.jit.freeze(torch.jit.trace(Alone().eval(), given, check_trace=False)), given
