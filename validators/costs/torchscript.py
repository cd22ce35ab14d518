"""The costs of a TorchScript archive: what PyTorch's dispatcher sees of a run, and the archive's own tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from convert.worker import summary
from validators.costs import COSTERS, Coster, Counted
from validators.runtimes.torchscript import TORCHSCRIPT

if TYPE_CHECKING:
    import numpy as np

BASIS = (
    "what lives at once while TorchScript's interpreter runs, one operator after another, without its optimising "
    "passes; views and what is computed in place share their memory"
)


def count(path: Path, given: Mapping[str, np.ndarray] | None) -> Counted:
    """Count what an archive costs; MACs and activations are those of a run, through branches and loops."""
    import torch

    from convert.formats.torchscript import operators_of
    from convert.sources._probe import probe

    seen = probe(path)
    reasons = dict.fromkeys(("delegated_share", "partitions"), "PyTorch's CPU kernels have no delegate")
    stored = Counted(weight_bytes=weight_bytes(path), operators=operators_of(seen))
    if given is None:
        return _without(stored, reasons, "it was not run")
    from validators.costs._torch_recording import Recording

    tensors = [torch.from_numpy(array) for array in given.values()]
    try:
        # NOTE: Why without optimisation: its passes fold constants by running operators, in the middle of a run.
        with torch.no_grad(), torch.jit.optimized_execution(should_optimize=False):
            module = torch.jit.load(str(path), map_location="cpu").eval()
            module(*tensors)  # what is only computed once is computed now
            recording = Recording(tensors)
            with recording:
                answer = module(*tensors)
    except (RuntimeError, ValueError) as error:
        return _without(stored, reasons, f"it does not run on PyTorch: {summary(error, 1)}")
    macs = recording.macs
    return Counted(
        weight_bytes=stored.weight_bytes,
        activation_bytes=recording.peak(answer),
        basis=BASIS,
        macs=macs.all,
        known_macs=macs.known,
        operators=stored.operators,
        unknown=macs.unknown,
        reasons=reasons | macs.reason(),
    )


def _without(stored: Counted, reasons: dict[str, str], reason: str) -> Counted:
    """Give what the archive tells without a run."""
    unknown = dict.fromkeys(("activation_bytes", "macs"), reason)
    return Counted(weight_bytes=stored.weight_bytes, operators=stored.operators, reasons=reasons | unknown)


def weight_bytes(path: Path) -> int:
    """Add up the storages of an archive, which are files of their own in it."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename.split("/")[1:], entry.file_size) for entry in archive.infolist()]
    return sum(size for names, size in entries if len(names) == 2 and names[0] in ("constants", "data"))


COSTERS.register(Coster("torchscript", TORCHSCRIPT, count))
