"""onnx2tf in its own environment, for real: a proven file, native images, fused recurrences, no network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from kinds import SAMPLES

from convert import convert
from convert.formats import FORMATS
from convert.spec import NHWC
from validators.verdict import Status


def built(name: str, folder: Path, **options: object):
    report = convert(
        folder / name if (folder / name).exists() else SAMPLES / name, "tflite", out=folder, threads=(), **options
    )
    (target,) = report.targets
    assert [(a.plan, a.status) for a in target.attempts] == [(target.attempts[0].plan, Status.PASS)], target.reason
    return target, Counter(FORMATS["tflite"].read(Path(target.artifact.path)).operators)


def test_a_model_passes_with_native_images_and_a_free_batch(toolchain, tmp_path):
    target, operators = built("digits.pt", tmp_path, via="onnx2tf", layout=NHWC)
    (image,) = target.artifact.signature.inputs
    assert image.shape == ("batch", 8, 8, 1)
    assert operators["CONV_2D"] == 2
    assert operators["TRANSPOSE"] <= 1  # the one before PyTorch's flatten; none at the input


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent.pt", "recurrent.keras"])
def test_a_recurrence_is_one_fused_kernel_that_forgets_between_calls(toolchain, name, tmp_path):
    target, operators = built(name, tmp_path, via="onnx2tf-batch1")
    assert operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert sum(operators.values()) < 20
    assert any("empties their state" in line for line in target.artifact.rescues)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens.pt", "two_by_two.pt", "dictionary.pt", "digits.keras"])
def test_every_shape_of_model_passes(toolchain, name, tmp_path):
    built(name, tmp_path, via="onnx2tf")


@pytest.mark.slow
def test_a_length_that_is_free_stays_free(toolchain, tmp_path):
    import torch

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Conv1d(6, 8, 3, padding=1)
            self.attend = torch.nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mixed = torch.relu(self.mix(rows.transpose(1, 2))).transpose(1, 2)
            return mixed + self.attend(mixed, mixed, mixed, need_weights=False)[0], mixed.mean(1)

    torch.manual_seed(1)
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    exported = torch.export.export(Rows().eval(), (torch.randn(2, 11, 6),), dynamic_shapes=(free,))
    torch.export.save(exported, tmp_path / "rows.pt2")
    target, _ = built("rows.pt2", tmp_path, via="onnx2tf-batch1")
    (rows,) = target.artifact.signature.inputs
    assert [isinstance(size, str) for size in rows.shape] == [False, True, False]
    assert [isinstance(spec.shape[1], str) for spec in target.artifact.signature.outputs] == [True, False]
