"""Train the hazard networks in PyTorch, and export the digits network once more with its batch fixed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.functional import cross_entropy

from convert import signature_file
from digits_data import LabelledImages, load_split
from digits_torch import Digits
from hazards_torch import Dictionary, Recurrent, Tokens, TwoByTwo
from training_torch import Loss, fit, make_deterministic, save_exported, save_scripted

FOLDER = Path(__file__).resolve().parent
EPOCHS = 60
LEAST_ACCURACY = 0.9


@dataclass(frozen=True, slots=True)
class Hazard:
    """One network, what it is fed, which of its outputs are the digit's logits, and what it promises."""

    name: str
    network: Callable[[], nn.Module]
    inputs: Callable[[LabelledImages], tuple[Tensor, ...]]
    logits: Callable[[Any], Tensor]
    loss: Loss
    signature: dict[str, str]


def halves(data: LabelledImages) -> tuple[Tensor, ...]:
    """Cut the images into a left and a right half, [count,1,8,4] each."""
    return torch.from_numpy(data.nchw).split(4, dim=3)


def digit_and_parity(outputs: tuple[Tensor, Tensor], digits: Tensor) -> Tensor:
    """Sum the losses of naming the digit and of telling odd from even."""
    return cross_entropy(outputs[0], digits) + cross_entropy(outputs[1], digits % 2)


HAZARDS = (
    Hazard(
        "two_by_two",
        TwoByTwo,
        halves,
        lambda outputs: outputs[0],
        digit_and_parity,
        signature_file("left:float32[batch,1,8,4]", "right:float32[batch,1,8,4]", outputs=["digit", "parity"]),
    ),
    Hazard(
        "tokens",
        Tokens,
        lambda data: (torch.from_numpy(data.ids),),
        lambda logits: logits,
        cross_entropy,
        signature_file("ids:int64[batch,64]=0..16", outputs=["logits"]),
    ),
    Hazard(
        "recurrent",
        Recurrent,
        lambda data: (torch.from_numpy(data.images),),
        lambda logits: logits,
        cross_entropy,
        signature_file("rows:float32[batch,8,8]", outputs=["logits"]),
    ),
    Hazard(
        "dictionary",
        Dictionary,
        lambda data: (torch.from_numpy(data.nchw),),
        lambda outputs: outputs["logits"],
        lambda outputs, digits: cross_entropy(outputs["logits"], digits),
        signature_file("image:float32[batch,1,8,8]"),  # the outputs are named by the dictionary's keys
    ),
)


def require_accuracy(name: str, accuracy: float) -> None:
    """Print what was reached, and end the run when it is too little."""
    print(f"{name} (torch): test accuracy {accuracy:.4f}")
    if accuracy <= LEAST_ACCURACY:
        sys.exit(f"{name} (torch) must be more accurate than {LEAST_ACCURACY}; it was not saved")


def train_hazard(hazard: Hazard, train: LabelledImages, test: LabelledImages) -> nn.Module:
    """Train, measure and script one network."""
    make_deterministic()
    network = hazard.network()
    fit(network, hazard.inputs(train), torch.from_numpy(train.labels), hazard.loss, EPOCHS)
    with torch.inference_mode():
        logits = hazard.logits(network(*hazard.inputs(test)))
    require_accuracy(hazard.name, test.accuracy(logits.numpy()))
    save_scripted(network, FOLDER / f"{hazard.name}.pt", hazard.signature)
    return network


def export_dictionary(network: nn.Module, test: LabelledImages) -> None:
    """Export a network that returns a dictionary, with a free batch dimension."""
    example = torch.from_numpy(test.nchw[:2])
    program = torch.export.export(network, (example,), dynamic_shapes={"image": {0: Dim("batch")}})
    save_exported(program, FOLDER / "dictionary.pt2", signature_file("image:float32[batch,1,8,8]"))


def export_fixed_batch(test: LabelledImages) -> None:
    """Export the digits network, with the weights train_digits_torch.py gave it, for one image at a time."""
    network = Digits()
    network.load_state_dict(torch.load(FOLDER / "digits_weights.pt", weights_only=True))
    program = torch.export.export(network.eval(), (torch.from_numpy(test.nchw[:1]),))
    run = program.module()
    with torch.inference_mode():
        logits = torch.cat([run(image) for image in torch.from_numpy(test.nchw).split(1)])
    require_accuracy("fixed_batch", test.accuracy(logits.numpy()))
    save_exported(program, FOLDER / "fixed_batch.pt2", signature_file("image:float32[1,1,8,8]", outputs=["logits"]))


def main() -> None:
    train, test = load_split()
    networks = {hazard.name: train_hazard(hazard, train, test) for hazard in HAZARDS}
    export_dictionary(networks["dictionary"], test)
    export_fixed_batch(test)


if __name__ == "__main__":
    main()
