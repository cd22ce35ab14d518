"""PyTorch sources: every operator, with the module and the source line it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.sources import TORCH, load
from validators.runtimes import Arrays, Subject
from validators.taps import TAPS, Tap, Trace

if TYPE_CHECKING:
    import torch

    from convert.spec import Signature


class TorchProbe:
    """A module whose operators are recorded."""

    how = "operators recorded by PyTorch's dispatcher"

    def __init__(self, module: torch.nn.Module, signature: Signature, dtype: str) -> None:
        self._module, self._dtype = module, dtype
        self._names = tuple(spec.name for spec in signature.outputs)

    def run(self, inputs: Arrays) -> Trace:
        """Run the module, by nodes where it is an exported graph; floating inputs are cast up first for float64."""
        import inspect

        import torch

        from convert.sources._torch import call, output_names
        from validators.runtimes.torch import widened
        from validators.taps._torch_recorder import NodeByNode, Recorder, owners_of, paths_followed

        tensors = {name: torch.from_numpy(array) for name, array in widened(inputs, self._dtype).items()}
        module = self._module
        owners, _kept = owners_of(module)
        scripted, exported = isinstance(module, torch.jit.ScriptModule), isinstance(module, torch.fx.GraphModule)
        recorder = Recorder(tensors, owners, lines=not scripted and not exported, inherits=scripted)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64 if self._dtype else before)
        try:
            with torch.no_grad():
                if scripted:
                    with recorder:
                        answer = call(module, tensors)
                elif exported:
                    taken = inspect.signature(module.forward)
                    by_node = NodeByNode(module, recorder)
                    forward = module.forward
                    module.forward = lambda *args, **kwargs: by_node.run(*taken.bind(*args, **kwargs).args)
                    try:
                        with recorder:
                            answer = call(module, tensors)
                    finally:
                        module.forward = forward
                else:
                    with paths_followed(module, recorder), recorder:
                        answer = call(module, tensors)
        finally:
            torch.set_default_dtype(before)
        return recorder.trace(answer, lambda found: output_names(found, self._names))


def open_torch(subject: Subject) -> TorchProbe:
    """Load the module, and make it compute in float64 where asked; raises LoadError where it cannot."""
    import torch

    from validators.runtimes.torch import in_float64

    torch.set_num_threads(subject.threads)
    loaded = load(subject.file, subject.options)
    signature = loaded.facts.signature
    module = in_float64(loaded.model, signature) if subject.dtype == "float64" else loaded.model
    return TorchProbe(module, signature, subject.dtype)


TAPS.register(Tap("torch", TORCH.environment, open_torch, families=("torch",)))
