"""TorchScript artifacts: every operator that PyTorch's interpreter runs of the frozen, inlined graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convert.sources._probe import probe
from convert.sources._torch import output_names, read_promise, refuse_side_effects
from validators.runtimes import Arrays, Subject, cannot_open
from validators.runtimes.torchscript import TORCHSCRIPT
from validators.taps import TAPS, Isolated, Isolation, Tap, Trace

if TYPE_CHECKING:
    import torch


class TorchScriptProbe:
    """A reloaded archive whose operators are recorded as the interpreter calls them, in branches and loops too."""

    how = "operators recorded as TorchScript's interpreter calls them"

    def __init__(self, path: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._module: torch.jit.ScriptModule = torch.jit.load(path, map_location="cpu").eval()
        promise = read_promise(probe(Path(path)))
        self._names = promise.output_names if promise else ()

    def run(self, inputs: Arrays) -> Trace:
        """Run the module by position, as apps call it."""
        return self.recorded(inputs)[0]

    def recorded(self, inputs: Arrays, keep: int = -1) -> tuple[Trace, object]:
        """Run the module; gives the call too that computed the tensor at the position `keep`."""
        import torch

        from validators.taps._torch_recorder import Recorder, owners_of

        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        owners, _kept = owners_of(self._module)
        recorder = Recorder(tensors, owners, lines=False, keep=keep)
        with torch.no_grad(), recorder:
            answer = self._module(*tensors.values())
        return recorder.trace(answer, lambda found: output_names(found, self._names)), recorder.call


def open_torchscript(subject: Subject) -> TorchScriptProbe:
    """Load the archive; raises LoadError where PyTorch refuses it."""
    refuse_side_effects(probe(Path(subject.file.path)), trust=subject.options.trust)
    try:
        return TorchScriptProbe(subject.file.path, subject.threads)
    except (RuntimeError, ValueError) as error:
        raise cannot_open("TorchScript", subject.file.path, error) from error


def isolate(job: Isolation) -> Isolated:
    """Write one operator as a TorchScript of its own, its weights and options inside."""
    import numpy as np
    import torch

    from validators.runtimes import feed
    from validators.taps._torch_recorder import Call, cut_out

    opened = open_torchscript(job.subject)
    with np.load(job.inputs) as arrays:
        trace, call = opened.recorded(feed(arrays, job.case, job.feeds), job.position)
    if not isinstance(call, Call):
        raise TypeError(f"no operator computed the tensor {trace.values[job.position].name}")
    script, given = cut_out(call)
    path = Path(job.out) / "operator.pt"
    torch.jit.save(script, str(path))
    names = [trace.values[at].name for at in call.makers]
    np.savez(Path(job.out) / "inputs.npz", **{n: t.numpy() for n, t in zip(names, given, strict=True)})
    with torch.no_grad():
        answer = torch.jit.load(str(path))(*given)
    np.save(Path(job.out) / "answer.npy", answer.numpy())
    return Isolated(str(path), str(path.with_name("inputs.npz")), str(path.with_name("answer.npy")), (call.kind,))


TAPS.register(
    Tap("torchscript", TORCHSCRIPT, open_torchscript, formats=("torchscript",), runtime="torchscript", isolate=isolate)
)
