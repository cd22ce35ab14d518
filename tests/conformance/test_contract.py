"""The contract of a source survives into every artifact: unsorted names, names of operators, a free batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert import convert, signature_file
from convert.formats import FORMATS
from validators.verdict import Status

SAVE = """
import sys
import torch
from convert import signature_file

class Crossed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide = torch.nn.Linear(5, 4)
        self.deep = torch.nn.Linear(3, 4)

    def forward(self, zeta, alpha):
        mixed = torch.tanh(self.wide(zeta)) - self.deep(alpha)
        return torch.softmax(mixed, -1), mixed

torch.jit.save(
    torch.jit.trace(Crossed().eval(), (torch.ones(2, 5), torch.ones(2, 3))),
    sys.argv[1],
    _extra_files=signature_file("zeta:float32[batch,5]", "alpha:float32[batch,3]", outputs=["softmax", "add"]),
)
"""


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Artifacts of a model whose names are unsorted and collide with those of operators."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("crossed")
    subprocess.run([sys.executable, "-c", SAVE, folder / "crossed.pt"], check=True)
    report = convert(folder / "crossed.pt", to="all", out=folder / "out", threads=())
    return {target.target: target for target in report.targets}


@pytest.mark.parametrize("form", FORMATS.names())
def test_names_and_their_order_survive_whatever_they_are(crossed, form):
    target = crossed[form]
    assert target.status is Status.PASS, target.reason
    signature = FORMATS[form].read(Path(target.artifact.path)).signature
    assert [spec.name for spec in signature.inputs] == ["zeta", "alpha"]
    assert [spec.name for spec in signature.outputs] == ["softmax", "add"]


@pytest.mark.parametrize("form", FORMATS.names())
def test_a_free_batch_stays_free(crossed, form):
    signature = FORMATS[form].read(Path(crossed[form].artifact.path)).signature
    assert [spec.shape[0] for spec in (*signature.inputs, *signature.outputs)] == ["batch"] * 4


def test_a_free_batch_survives_an_unrolled_loop_in_tflite(samples, tmp_path):
    (target,) = convert(samples / "recurrent.pt", to="tflite", out=tmp_path, threads=()).targets
    assert target.status is Status.PASS, target.reason
    assert target.attempts[target.kept].plan == "litert-torch"
    assert FORMATS["tflite"].read(Path(target.artifact.path)).signature.free == ("batch",)


def test_a_signature_file_needs_specs_that_can_be_read():
    from convert.errors import UsageError

    with pytest.raises(UsageError):
        signature_file("zeta float32")
