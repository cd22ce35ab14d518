"""Reduces small TorchScript modules, in a process of its own: `reduced_torchscript.py FOLDER NET PRECISION...`.

Prints, per precision, what came of it: the errors of the artifact and of its ideal against float64, and of broken ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from convert.formats import Draft
from convert.formats.torchscript import read, seal
from convert.precision import Reduction, candidates, perform
from convert.recipe import Calibration, Kept, Recipe, sample_path
from convert.routes._torch_jit import save_frozen
from convert.spec import Artifact, LoadOptions, Signature, SourceFile, fingerprint, specs_from
from validators.ideals import Building, build

SAMPLES = 24


class Encoder(nn.Module):
    """A transformer's layer."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down, self.head = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, transform, average."""
        y = self.first(x)
        scores = self.query(y) @ self.key(y).transpose(-1, -2) / 8.0
        x = x + self.out(scores.softmax(-1) @ self.value(y))
        x = x + self.down(nn.functional.gelu(self.up(self.second(x))))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """Both kinds of recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 48, 2, bidirectional=True, batch_first=True)
        self.gru, self.head = nn.GRU(96, 32, batch_first=True, bias=False), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Answer for the last step."""
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


class Residual(nn.Module):
    """Convolutions, one per channel, a residual, clipped activations and pooling."""

    def __init__(self) -> None:
        super().__init__()

        def layer(taken: int, given: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
            norm = nn.BatchNorm2d(given)
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.2, 0.8)
            return nn.Sequential(nn.Conv2d(taken, given, kernel, padding=kernel // 2, groups=groups), norm)

        self.stem, self.left, self.right = layer(3, 16), layer(16, 16), layer(16, 16)
        self.depthwise, self.pointwise, self.head = layer(16, 16, 3, 16), layer(16, 32, 1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify an image."""
        x = self.stem(x).relu_()
        y = self.right(self.left(x).relu())
        y += x
        x = nn.functional.max_pool2d(y.relu(), 2)
        x = nn.functional.hardswish(self.pointwise(nn.functional.relu6(self.depthwise(x))))
        return self.head(x.mean((2, 3)))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "encoder": (Encoder, (8, 64)),
    "recurrent": (Recurrent, (12, 16)),
    "residual": (Residual, (3, 16, 16)),
}


def reduce(folder: Path, name: str, precision: str, *kept: str) -> dict[str, object]:
    """Make the float archive, reduce it, build its ideal, and measure all of them."""
    torch.manual_seed(0)
    made, shape = NETS[name]
    net = made().eval()
    base, out = folder / f"{name}.pt", folder / f"{name}.{precision}.pt"
    save_frozen(torch.jit.script(net), base)
    signature = Signature(
        specs_from([f"x:float32[batch,{','.join(map(str, shape))}]"]), specs_from(["y:float32[batch,10]"])
    )
    seal(base, Draft(str(base), signature, ("x",), ("y",)))
    (folder / "calibration").mkdir(exist_ok=True)
    for index in range(SAMPLES):
        np.savez(sample_path(folder / "calibration", index), x=torch.randn(1, *shape).numpy())
    data = Calibration(str(folder / "calibration"), SAMPLES, "", "drawn")
    artifact = Artifact(str(base), "torchscript", "fp32", signature, *fingerprint(base))
    quantizer = candidates("torchscript", precision, "torchscript")[0]
    recipe = Recipe("torchscript", precision, quantizer.name, kept=tuple(Kept(layer, "fp32") for layer in kept))
    source = SourceFile(str(base), "torchscript", "", "", 0)
    task = Reduction(recipe, type(quantizer).__module__, artifact, source, LoadOptions(), str(out), data)
    done = perform(task)
    ideal = build(Building("torchscript", precision, str(base), str(out), str(folder / "ideal.pt")))
    inputs = [torch.randn(batch, *shape) for batch in (1, 2, 4, 8)]
    right = run(net.double(), [x.double() for x in inputs])
    found = answers([out, Path(ideal.path), base], inputs, folder)
    errors = dict(zip(("error", "ideal", "float"), (error(one, right) for one in found), strict=True))
    return {
        **errors,
        "size": done.file_bytes / artifact.file_bytes,
        "precision": read(out).precision,
        "same signature": read(out).signature == signature,
        "notes": done.notes,
        "layers": [layer.name for layer in quantizer.layers(base)],
    }


def run(net: nn.Module, inputs: list[Tensor]) -> Tensor:
    """Run a module on batches and join its answers."""
    with torch.no_grad():
        return torch.cat([net(x) for x in inputs]).double()


ALONE = """
import sys, torch
folder, *archives = sys.argv[1:]
inputs = torch.load(f"{folder}/inputs")
with torch.no_grad():
    answers = [[module(x) for x in inputs] for module in map(torch.jit.load, archives)]
torch.save(answers, f"{folder}/answers")
"""


def answers(archives: list[Path], inputs: list[Tensor], folder: Path) -> list[Tensor]:
    """Run archives in a process that imports PyTorch and nothing else."""
    torch.save(inputs, folder / "inputs")
    subprocess.run([sys.executable, "-c", ALONE, folder, *archives], check=True, timeout=120)
    found = torch.load(folder / "answers")
    if any(tensor.dtype != torch.float32 for tensors in found for tensor in tensors):
        raise TypeError("an archive gives other numbers than float32")
    return [torch.cat(tensors).double() for tensors in found]


def error(found: Tensor, right: Tensor) -> float:
    """Give the error as a share of the right answers."""
    return float((found - right).pow(2).mean().sqrt() / right.pow(2).mean().sqrt())


if __name__ == "__main__":
    place, net, *precisions = sys.argv[1:]
    print(json.dumps({word: reduce(Path(place), net, *word.split("-but-")) for word in precisions}))
