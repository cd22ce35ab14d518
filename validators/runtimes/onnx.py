"""ONNX Runtime as the reference of ONNX models; in float64 their graph as a PyTorch module, where both agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import LoadError
from convert.sources import ONNX, load
from convert.sources._measure import trial_sizes
from convert.sources._onnx import OnnxModel, open_session, run_session
from convert.spec import Signature
from convert.worker import summary
from validators.runtimes import RUNTIMES, Arrays, Runtime, Session, Subject

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    import torch

#: ONNX Runtime may err this many times what PyTorch errs in float32 on the same graph, each against float64: both
#: round, in other orders. A graph that is read wrongly errs thousands of times as much.
SAME_GRAPH = 32.0

#: Errors below this share of the output's root mean square are rounding whatever PyTorch's own is.
ROUNDING = 1e-5


class OnnxSession(Session):
    """A file in ONNX Runtime."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the whole graph."""
        return run_session(self._session, inputs)


class WideSession(Session):
    """A graph as a PyTorch module, in float64 or as the file says."""

    def __init__(self, module: torch.nn.Module, signature: Signature, dtype: str) -> None:
        self._module = module
        self._inputs = tuple(spec.name for spec in signature.inputs)
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._dtype = dtype

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the module; floating inputs are cast up first where it computes in float64."""
        import torch

        from validators.runtimes.torch import widened

        given = widened(inputs, self._dtype)
        before = torch.get_default_dtype()
        # What a graph makes as it runs, the weights of a resampling say, follows PyTorch's default.
        torch.set_default_dtype(torch.float64 if self._dtype else before)
        try:
            with torch.no_grad():
                found = self._module(*(torch.from_numpy(given[name]) for name in self._inputs))
        finally:
            torch.set_default_dtype(before)
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, found, strict=True)}


def open_onnx(subject: Subject) -> OnnxSession | WideSession:
    """Open the file in ONNX Runtime, or its graph in float64 where that is asked for."""
    if not subject.dtype:
        return OnnxSession(open_session(Path(subject.file.path), subject.threads))
    loaded = load(subject.file, subject.options)
    return in_float64(loaded.model, loaded.facts.signature)


def in_float64(model: OnnxModel, signature: Signature) -> WideSession:
    """Build the graph as a PyTorch module in float64.

    Raises LoadError where it cannot be read or run so, or where it does not answer as ONNX Runtime does but for
    rounding: then it is no oracle.
    """
    from convert.onnx_torch import module_of

    try:
        inputs = trial(signature)
        module = module_of(model.whole())
        ours, native = WideSession(module, signature, "").run(inputs), model.run(inputs)
        # In place, and only now: a large model is not in memory twice.
        wide = WideSession(module.widen(), signature, "float64")
        oracle = wide.run(inputs)
    except LoadError as error:
        raise LoadError(f"the graph does not run in float64: {error.message}") from error
    except Exception as error:
        raise LoadError(f"the graph does not run in float64: {type(error).__name__}: {summary(error, 2)}") from error
    for name, exact in oracle.items():
        reason = disagreement(exact, ours[name], native[name])
        if reason:
            raise LoadError(f"the graph in float64 does not answer as ONNX Runtime does: output {name} {reason}")
    return wide


def disagreement(exact: np.ndarray, ours: np.ndarray, native: np.ndarray) -> str:
    """Say how an output in float64 differs from ONNX Runtime's by more than rounding, or nothing where it does not."""
    import numpy as np

    if exact.shape != native.shape:
        return f"has the shape {list(exact.shape)}, not {list(native.shape)}"
    if exact.dtype.kind != "f":
        return "" if np.array_equal(exact, native) else "differs"
    if exact.dtype != "float64":
        return f"stayed {exact.dtype}"
    if not (np.isfinite(exact) == np.isfinite(native)).all():
        return "is infinite or no number in other places"
    finite = np.isfinite(exact)
    if not finite.any():
        return ""
    scale = float(np.sqrt(np.mean(exact[finite] ** 2)))
    theirs, own = (float(np.sqrt(np.mean((side[finite] - exact[finite]) ** 2))) for side in (native, ours))
    if theirs > max(SAME_GRAPH * own, ROUNDING * scale):
        return f"differs by {theirs:.3g} (rmse), where float32 itself errs by {own:.3g}"
    return ""


def trial(signature: Signature) -> dict[str, np.ndarray]:
    """Make inputs that vary, at the sizes models are tried at."""
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = trial_sizes(signature)
    made = {}
    for spec in signature.inputs:
        shape = spec.sized(sizes)
        if spec.dtype.startswith("float"):
            made[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            low, high = (spec.low or 0, 1 if spec.high is None else spec.high)
            made[spec.name] = rng.integers(low, high, shape, endpoint=True).astype(spec.dtype)
    return made


RUNTIMES.register(Runtime("onnx", "ONNX Runtime on the source", ONNX.environment, open_onnx, families=("onnx",)))
