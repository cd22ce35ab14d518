"""How the PyTorch samples are trained, and how they are saved without a trace of the machine they were trained on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from digits_data import SEED

Loss = Callable[[Any, Tensor], Tensor]  # of a network's outputs and the digits it should have seen

BATCH_SIZE = 32
LEARNING_RATE = 3e-3

#: What TorchScript stores for its error messages, which quotes the path of every Python file it compiled.
DEBUG_SUFFIX = ".debug_pkl"


def make_deterministic() -> None:
    """Seed PyTorch and hold it to one thread, so that sums do not depend on the number of cores."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def fit(network: nn.Module, inputs: tuple[Tensor, ...], digits: Tensor, loss: Loss, epochs: int) -> None:
    """Train `network` in place with Adam and leave it in evaluation mode."""
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(digits)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss(network(*(tensor[chosen] for tensor in inputs)), digits[chosen]).backward()
            optimizer.step()
    network.eval()


def save_scripted(network: nn.Module, path: Path, signature: dict[str, str]) -> None:
    """Compile `network` to TorchScript, unfrozen, and save it with its signature."""
    stream = BytesIO()
    torch.jit.save(torch.jit.script(network), stream, _extra_files=signature)
    with zipfile.ZipFile(stream) as whole, zipfile.ZipFile(path, "w") as portable:
        for record in whole.infolist():
            if not record.filename.endswith(DEBUG_SUFFIX):
                portable.writestr(record, whole.read(record))


def save_exported(program: ExportedProgram, path: Path, signature: dict[str, str]) -> None:
    """Save an exported program with its signature, but without the stack traces that quote paths."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    torch.export.save(program, path, extra_files=signature)
