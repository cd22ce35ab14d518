"""Exported programs that return objects of classes which the library that made them is not there to register."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Exports one module for every way of returning two tensors that another library may have registered.
EXPORT = """
import dataclasses, torch
from collections import OrderedDict, namedtuple
from torch.utils import _pytree

class ModelOutput(OrderedDict):
    pass

_pytree.register_pytree_node(
    ModelOutput, lambda found: (list(found.values()), list(found)),
    lambda values, names: ModelOutput(zip(names, values)), serialized_type_name="theirs.ModelOutput",
)

@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    score: torch.Tensor
    loss: object = None

torch.export.register_dataclass(Answer, serialized_type_name="theirs.Answer")
Pair = namedtuple("Pair", "logits score")
_pytree._register_namedtuple(Pair, serialized_type_name="theirs.Pair")

class Net(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x + 1, x.sum())

answers = {
    "output": lambda a, b: ModelOutput(logits=a, score=b), "dataclass": Answer, "namedtuple": Pair,
    "nested": lambda a, b: ModelOutput(first=Pair(a, b)),
}
for name, answer in answers.items():
    torch.export.save(torch.export.export(Net(answer), (torch.ones(2, 3),)), f"{name}.pt2")
"""

LOAD = """
import json, pathlib, sys
from convert.sources import identify, load
from convert.spec import LoadOptions
print(json.dumps({
    path.stem: [str(spec) for spec in load(identify(path), LoadOptions()).facts.signature.outputs]
    for path in pathlib.Path().glob("*.pt2")
}))
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("stand-ins")
    subprocess.run([sys.executable, "-c", EXPORT], check=True, cwd=folder)
    ran = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("name", "before"),
    [("output", ""), ("dataclass", ""), ("namedtuple", ""), ("nested", "first.")],
)
def test_the_tensors_of_an_unknown_class_are_found_by_the_names_of_its_fields(outputs, name, before):
    assert outputs[name] == [f"{before}logits:float32[2,3]", f"{before}score:float32[]"]
