"""Train the digits network in PyTorch and save it as TorchScript, as an exported program and as bare weights."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import nn
from torch.export import Dim

from convert import signature_file
from digits_data import load_split, write_test_data
from digits_torch import Digits
from training_torch import fit, make_deterministic, save_exported, save_scripted

FOLDER = Path(__file__).resolve().parent
EPOCHS = 20
LEAST_ACCURACY = 0.97


def save(network: Digits, example: torch.Tensor) -> None:
    """Write every kind of PyTorch file that edgeproof reads."""
    signature = signature_file("image:float32[batch,1,8,8]", outputs=["logits"])
    save_scripted(network, FOLDER / "digits.pt", signature)
    program = torch.export.export(network, (example,), dynamic_shapes={"image": {0: Dim("batch")}})
    save_exported(program, FOLDER / "digits.pt2", signature)
    torch.save(network.state_dict(), FOLDER / "digits_weights.pt")
    (FOLDER / "digits_weights.safetensors").write_bytes(to_safetensors(network.state_dict()))


def main() -> None:
    make_deterministic()
    train, test = load_split()
    network = Digits()
    fit(network, (torch.from_numpy(train.nchw),), torch.from_numpy(train.labels), nn.functional.cross_entropy, EPOCHS)
    with torch.inference_mode():
        accuracy = test.accuracy(network(torch.from_numpy(test.nchw)).numpy())
    print(f"digits (torch): test accuracy {accuracy:.4f}")
    if accuracy <= LEAST_ACCURACY:
        sys.exit(f"digits (torch) must be more accurate than {LEAST_ACCURACY}; nothing was saved")
    save(network, torch.from_numpy(test.nchw[:2]))
    write_test_data(test, FOLDER)


if __name__ == "__main__":
    main()
