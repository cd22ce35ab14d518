"""Reduces small TorchScript modules, in a process of its own, called with a folder and NET:PRECISION[:KEPT...] words.

Prints, for each, what came of it: the errors of the artifact, of its ideal and of the float archive against float64.
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


class Tokens(nn.Module):
    """A table of words, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(400, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Find the words nearest to numbers, and classify their mean."""
        return self.head(self.table((x.abs() * 100).long().clamp(0, 399)).mean(1))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "encoder": (Encoder, (8, 64)),
    "recurrent": (Recurrent, (12, 16)),
    "residual": (Residual, (3, 16, 16)),
    "tokens": (Tokens, (20,)),
    "clipped": (Residual, (3, 16, 16)),
}


def drawn(name: str, *shape: int) -> Tensor:
    """Draw inputs; those of the clipped network lie at the ends of their range for a good part, as dark pixels do."""
    noise = torch.randn(*shape)
    return noise.clamp(-2.5, 2.5).where(noise.abs() < 1, 2.5 * noise.sign()) if name == "clipped" else noise


def made_of(folder: Path, name: str) -> tuple[Artifact, Calibration, list[Tensor], Tensor]:
    """Make a float archive, calibration data, and inputs with the right answers."""
    torch.manual_seed(0)
    made, shape = NETS[name]
    net, base = made().eval(), folder / f"{name}.pt"
    save_frozen(torch.jit.script(net), base)
    inputs = specs_from([f"x:float32[batch,{','.join(map(str, shape))}]"])
    signature = Signature(inputs, specs_from(["y:float32[batch,10]"]))
    seal(base, Draft(str(base), signature, ("x",), ("y",)))
    place = folder / f"{name}-calibration"
    place.mkdir()
    for index in range(SAMPLES):
        np.savez(sample_path(place, index), x=drawn(name, 1, *shape).numpy())
    batches = [drawn(name, batch, *shape) for batch in (1, 2, 4, 8)]
    with torch.no_grad():
        right = torch.cat([net.double()(x.double()) for x in batches])
    artifact = Artifact(str(base), "torchscript", "fp32", signature, *fingerprint(base))
    return artifact, Calibration(str(place), SAMPLES, name, "drawn"), batches, right


def reduce(folder: Path, base: Artifact, data: Calibration, precision: str, *kept: str) -> dict[str, object]:
    """Reduce a float archive and build its ideal."""
    stem = f"{Path(base.path).stem}.{precision}.{len(kept)}"
    out, ideal = folder / f"{stem}.pt", folder / f"{stem}.ideal.pt"
    quantizer = candidates("torchscript", precision, "torchscript")[0]
    recipe = Recipe("torchscript", precision, quantizer.name, kept=tuple(Kept(layer, "fp32") for layer in kept))
    source = SourceFile(base.path, "torchscript", "", "", 0)
    done = perform(Reduction(recipe, "convert.precision", base, source, LoadOptions(), str(out), data))
    build(Building("torchscript", precision, base.path, str(out), str(ideal)))
    return {
        "archives": [str(out), str(ideal), base.path],
        "size": done.file_bytes / base.file_bytes,
        "precision": read(out).precision,
        "same signature": read(out).signature == base.signature,
        "notes": done.notes,
        "layers": [layer.name for layer in quantizer.layers(Path(base.path))],
    }


ALONE = """
import sys, torch
torch.set_num_threads(1)
folder, *archives = sys.argv[1:]
inputs = torch.load(f"{folder}/inputs")
with torch.no_grad():
    answers = {path: [torch.jit.load(path)(x) for x in batches] for path, batches in inputs.items()}
torch.save(answers, f"{folder}/answers")
"""


def answers(inputs: dict[str, list[Tensor]], folder: Path) -> dict[str, Tensor]:
    """Run archives on their inputs in a process that imports PyTorch and nothing else."""
    torch.save(inputs, folder / "inputs")
    subprocess.run([sys.executable, "-c", ALONE, folder], check=True, timeout=120)
    found = torch.load(folder / "answers")
    if any(tensor.dtype != torch.float32 for tensors in found.values() for tensor in tensors):
        raise TypeError("an archive gives other numbers than float32")
    return {path: torch.cat(tensors).double() for path, tensors in found.items()}


def error(found: Tensor, right: Tensor) -> float:
    """Give the error as a share of the right answers."""
    return float((found - right).pow(2).mean().sqrt() / right.pow(2).mean().sqrt())


def main(folder: Path, *words: str) -> None:
    """Reduce everything, then run it all."""
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other are slow
    nets = {name: made_of(folder, name) for name in dict.fromkeys(word.split(":")[0] for word in words)}
    cells = {}
    for word in words:
        name, precision, *kept = word.split(":")
        cells[word] = reduce(folder, *nets[name][:2], precision, *kept)
    batches = {path: nets[word.split(":")[0]][2] for word, cell in cells.items() for path in cell["archives"]}
    found = answers(batches, folder)
    for word, cell in cells.items():
        right = nets[word.split(":")[0]][3]
        cell.update(
            zip(("error", "ideal", "float"), (error(found[path], right) for path in cell["archives"]), strict=True)
        )
        reduced, ideal, _ = (found[path] for path in cell["archives"])
        cell["distance"] = float((reduced - ideal).norm() / (ideal - right).norm())
    print(json.dumps(cells))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
