"""What of a model decides which converter is tried first."""

from __future__ import annotations

import pytest
import torch

from convert.sources._torch import traits
from convert.spec import GRID_SAMPLE, RECURRENT, TensorSpec


class Warp(torch.nn.Module):
    def forward(self, image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.grid_sample(image, grid, align_corners=False)


def inputs(*texts):
    return tuple(TensorSpec.parse(text) for text in texts)


@pytest.mark.parametrize(
    ("steps", "expected"), [("8", ()), ("32", ()), ("33", (RECURRENT,)), ("100", (RECURRENT,)), ("steps", (RECURRENT,))]
)
def test_a_recurrence_counts_from_a_length_at_which_unrolling_it_is_a_burden(steps, expected):
    module = torch.nn.LSTM(6, 8, batch_first=True)
    assert traits(module, inputs(f"x:float32[batch,{steps},6]")) == expected


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("form", ["exported", "scripted"])
def test_a_graph_shows_what_its_operators_are(form):
    module, arguments = Warp(), (torch.ones(1, 1, 4, 4), torch.zeros(1, 4, 4, 2))
    graph = torch.export.export(module, arguments).module() if form == "exported" else torch.jit.script(module)
    assert traits(graph, inputs("image:float32[1,1,4,4]", "grid:float32[1,4,4,2]")) == (GRID_SAMPLE,)


def test_a_plain_network_has_no_traits():
    assert traits(torch.nn.Linear(4, 2), inputs("x:float32[batch,4]")) == ()
