"""TorchScript artifacts, reloaded from disk by PyTorch's interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import LoadError
from convert.sources._probe import probe
from convert.sources._torch import arguments, flatten, identifier, output_names, read_promise, refuse_side_effects
from convert.worker import Environment
from validators.runtimes import RUNTIMES, Arrays, Inference, Runtime, Session, Subject, cannot_open

if TYPE_CHECKING:
    import numpy as np

#: NOTE: Why not the reference's process: an artifact must load where nothing of its source is.
TORCHSCRIPT = Environment("torchscript", ("torch",))


class TorchScriptSession(Session):
    """A reloaded archive, called by its argument names."""

    def __init__(self, path: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._module = torch.jit.load(path, map_location="cpu").eval()
        promise = read_promise(probe(Path(path)))
        self._names = promise.output_names if promise else ()
        self._check_arguments(tuple(identifier(spec.name) for spec in promise.inputs) if promise else ())

    def _check_arguments(self, promised: tuple[str, ...]) -> None:
        taken = arguments(self._module)
        if taken[: len(promised)] != promised:
            raise LoadError(
                f"its forward takes ({', '.join(taken)}), its signature says ({', '.join(promised)}) in this order",
                fix="save it again with arguments named and ordered as in its signature",
            )

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run the module by position, as apps call it."""
        import torch

        with torch.no_grad():
            found = list(flatten(self._module(*(torch.from_numpy(array) for array in inputs.values()))))
        names = output_names([name for name, _ in found], self._names)
        return {name: tensor.numpy() for name, (_, tensor) in zip(names, found, strict=True)}

    def ready(self, inputs: Arrays) -> Inference:
        """Make the tensors, which share the arrays' memory, and call the module on them."""
        import torch

        module, tensors = self._module, [torch.from_numpy(array) for array in inputs.values()]

        def infer() -> object:
            with torch.no_grad():
                return module(*tensors)

        return Inference(infer)


def open_torchscript(subject: Subject) -> TorchScriptSession:
    """Load the archive."""
    refuse_side_effects(probe(Path(subject.file.path)), trust=subject.options.trust)
    try:
        return TorchScriptSession(subject.file.path, subject.threads)
    except (RuntimeError, ValueError) as error:
        raise cannot_open("TorchScript", subject.file.path, error) from error


RUNTIMES.register(Runtime("torchscript", "TorchScript", TORCHSCRIPT, open_torchscript, formats=("torchscript",)))
