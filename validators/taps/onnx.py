"""ONNX sources: every node of the file, computed by PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.errors import LoadError
from convert.sources import ONNX, load
from convert.worker import summary
from validators.divergence import Value
from validators.runtimes import Arrays, Subject
from validators.taps import TAPS, Tap, Trace
from validators.taps.onnxruntime import MOVES

if TYPE_CHECKING:
    import numpy as np

    from convert.spec import Signature


class OnnxSourceProbe:
    """A graph as a PyTorch module, each node's answer kept as it is computed."""

    how = "every node of the ONNX graph, computed by PyTorch"

    def __init__(self, module: Any, signature: Signature, dtype: str) -> None:
        self._module, self._dtype = module, dtype
        self._inputs = tuple(spec.name for spec in signature.inputs)
        self._outputs = tuple(spec.name for spec in signature.outputs)

    def run(self, inputs: Arrays) -> Trace:
        """Run the outermost graph; floating inputs are cast up first for float64."""
        import torch

        from validators.runtimes.torch import widened

        given = widened(inputs, self._dtype)
        values = [Value(name, "") for name in self._inputs]
        arrays: list[np.ndarray | None] = [given[name] for name in self._inputs]
        places = dict(zip(self._module.graph.inputs, range(len(values)), strict=True))
        compute = self._module.compute
        outermost = {id(step) for step in self._module.graph.steps}

        def keeping(step: Any, taken: list[Any], known: dict[str, Any]) -> Any:
            found = compute(step, taken, known)
            if id(step) in outermost:
                makers = tuple(sorted({places[name] for name in step.node.inputs if name in places}))
                for name, tensor in zip(
                    step.node.outputs, found if isinstance(found, tuple) else (found,), strict=False
                ):
                    if name and makers:
                        places[name] = len(values)
                        kind = step.node.kind
                        values.append(Value(name, kind, makers, (name.partition(":")[0],), "", kind in MOVES))
                        arrays.append(tensor.numpy().copy() if isinstance(tensor, torch.Tensor) else None)
            return found

        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64 if self._dtype else before)
        self._module.compute = keeping
        try:
            with torch.no_grad():
                self._module(*(torch.from_numpy(given[name]) for name in self._inputs))
        finally:
            del self._module.compute
            torch.set_default_dtype(before)
        ends = zip(self._outputs, self._module.graph.outputs, strict=True)
        return Trace(tuple(values), arrays, tuple((name, places[end]) for name, end in ends if end in places))


def open_onnx(subject: Subject) -> OnnxSourceProbe:
    """Build the graph as a module, in float64 where asked; raises LoadError where it cannot be read."""
    from convert.onnx_torch import module_of

    loaded = load(subject.file, subject.options)
    try:
        module = module_of(loaded.model.whole())
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"the graph cannot be read: {type(error).__name__}: {summary(error, 2)}") from error
    return OnnxSourceProbe(module.widen() if subject.dtype else module, loaded.facts.signature, subject.dtype)


TAPS.register(Tap("onnx", ONNX.environment, open_onnx, families=("onnx",)))
