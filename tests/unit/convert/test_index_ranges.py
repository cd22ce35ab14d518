"""Ranges of integer inputs, read from the embeddings and classes that a PyTorch model looks them up in."""

from __future__ import annotations

import pytest
import torch

from convert.sources import _torch
from convert.sources._torch import loaded
from convert.sources.exported_program import read_inputs
from convert.spec import LoadOptions, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Direct(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(50, 8)

    def forward(self, ids):
        return self.words(ids).sum(1)


class Cast(Direct):
    def forward(self, ids):
        return self.words(ids.long()[:, 1:].reshape(-1)).mean(0, keepdim=True) * torch.ones(ids.shape[0], 1)


class Hot(torch.nn.Module):
    def forward(self, ids):
        return torch.nn.functional.one_hot(ids, 10).float()


class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(21, 8))

    def forward(self, ids):
        return self.table[ids]


class Selected(Table):
    def forward(self, ids):
        return torch.index_select(self.table, 1, ids.flatten())


class Least(Direct):
    def __init__(self):
        super().__init__()
        self.few = torch.nn.Embedding(20, 8)

    def forward(self, ids):
        first, second = ids.chunk(2, dim=-1)
        return self.words(torch.cat([second, first], -1)).sum(1) + self.few(ids).sum(1)


class Counted(torch.nn.Module):
    """Computes with its integers, which says nothing of how large they may be."""

    def forward(self, ids):
        return ids.float() * 2


class Branches(Direct):
    """Cannot be exported."""

    def forward(self, ids):
        if ids.sum() > 3:
            return self.words(ids).sum(1)
        return self.words(ids).mean(1)


KNOWN = [
    (Direct, "ids:int64[batch,6]", 49),
    (Cast, "ids:int32[batch,6]", 49),
    (Hot, "ids:int64[batch]", 9),
    (Table, "ids:int64[batch]", 20),
    (Selected, "ids:int64[batch,3]", 7),
    (Least, "ids:int64[batch,6]", 19),
]


def read(module, *specs):
    options = LoadOptions(inputs=tuple(map(TensorSpec.parse, specs)))
    return loaded(module.eval(), options, None).facts.signature.inputs


@pytest.mark.parametrize("form", ["eager", "scripted"])
@pytest.mark.parametrize(("model", "spec", "high"), KNOWN, ids=lambda value: getattr(value, "__name__", ""))
def test_the_range_of_integers_is_that_of_what_they_are_looked_up_in(model, spec, high, form):
    module = model() if form == "eager" else torch.jit.script(model())

    (found,) = read(module, spec)

    assert (found.low, found.high) == (0, high)


@pytest.mark.parametrize(("model", "spec", "high"), KNOWN, ids=lambda value: getattr(value, "__name__", ""))
def test_so_is_that_of_an_exported_program(model, spec, high):
    declared = TensorSpec.parse(spec)
    example = torch.zeros(declared.sized({"batch": 2}), dtype=getattr(torch, declared.dtype))

    (found,) = read_inputs(torch.export.export(model().eval(), (example,)))

    assert (found.low, found.high) == (0, high)


@pytest.mark.parametrize("model", [Counted, Branches])
def test_where_nothing_tells_a_range_it_stays_unknown(model):
    (found,) = read(model(), "ids:int64[batch,6]")

    assert found.high is None


def test_a_range_that_the_user_states_stays():
    (found,) = read(Direct(), "ids:int64[batch,6]=3..9")

    assert (found.low, found.high) == (3, 9)


def test_nothing_is_exported_for_floats_and_masks(monkeypatch):
    class Masked(torch.nn.Module):
        def forward(self, x, attention_mask):
            return x * attention_mask

    tried = []
    monkeypatch.setattr(_torch, "exported", lambda *_: tried.append(1))

    assert [spec.high for spec in read(Masked(), "x:float32[batch,4]", "attention_mask:int64[batch,4]")] == [None, None]
    assert not tried


class Sum(torch.nn.Module):
    """Adds what it is given to a buffer, counts its calls and remembers the last input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))
        self.last = torch.zeros(1, 4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.total += x
        self.last = x * 1.0
        return self.total + self.last


@pytest.mark.parametrize("form", ["eager", "scripted"])
def test_loading_leaves_a_models_state_as_its_file_has_it(form):
    module = Sum() if form == "eager" else torch.jit.script(Sum())

    read(module, "x:float32[1,4]")

    assert (module.calls, float(module.total.sum()), float(module.last.sum())) == (0, 0, 0)
    assert module(torch.ones(1, 4)).tolist() == [[2, 2, 2, 2]]
