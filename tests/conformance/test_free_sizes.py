"""Batch and sequence length stay free in TFLite, wherever a size went into the graph; or the file is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Converts two networks: one that uses its sizes in every way that can be freed, one in a way that cannot.
CONVERT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from convert.errors import RouteError
from convert.routes import Work
from convert.routes._free_sizes import recognisable_sizes
from convert.routes.torch_to_tflite import convert
from convert.formats.tflite import seal
from convert.spec import Signature, specs_from

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(40, 8)
        self.first = torch.nn.Parameter(torch.randn(1, 1, 8))
        self.register_buffer("turns", torch.tensor([1.0, 0.1, 0.01, 0.001]), persistent=False)
        self.attend = torch.nn.Linear(8, 24)

    def forward(self, x):
        batch, length, _ = x.shape
        x = x + self.table(torch.arange(length)) + torch.arange(length)[None, :, None] / 7
        angle = torch.arange(length)[:, None] * self.turns
        x = x * torch.cat([angle, angle], dim=-1).cos()
        query, key, value = self.attend(x).chunk(3, dim=-1)
        query, key, value = (part.reshape(batch, length, 2, 4).transpose(1, 2) for part in (query, key, value))
        scores = query @ key.transpose(-1, -2) + torch.full((length, length), -1e4).triu(1)
        x = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, 8)
        x = x + torch.ones(batch, length, dtype=torch.int32).cumsum(1)[..., None] * 0.01
        whole = torch.cat([self.first.expand(batch, -1, -1), x[:, -1:]], dim=1)
        return x, whole, x.repeat_interleave(2, dim=1)

class Wave(torch.nn.Module):
    def forward(self, x):
        return x * torch.sin(torch.arange(x.shape[1]) * 0.3)[None, :, None]

inputs = specs_from(["x:float32[batch,length,8]"])
outputs = specs_from(["x:float32[batch,length,8]", "whole:float32[batch,2,8]", "twice:float32[batch,x_1,8]"])

def worst(net, path):
    from ai_edge_litert.interpreter import Interpreter
    found = {}
    for batch, length in ((1, 16), (3, 5), (2, 33)):
        x = torch.randn(batch, length, 8)
        interpreter = Interpreter(path)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
        run = interpreter.get_signature_runner()
        actual = run(x=x.numpy())
        names = [spec.name + "_out" for spec in outputs]
        pairs = zip(names, net(x))
        found[f"{batch},{length}"] = max(
            float(np.abs(actual[name] - value.detach().numpy()).max()) if actual[name].shape == value.shape else 9.0
            for name, value in pairs
        )
    return found

def hollow(path):
    from convert.formats.tflite import read_model
    model = read_model(path)
    graph = model.subgraphs[0]
    made = {int(index) for operator in graph.operators for index in operator.outputs} | {*map(int, graph.inputs)}
    return [
        tensor.name.decode()
        for index, tensor in enumerate(graph.tensors)
        if index not in made and model.buffers[tensor.buffer].data is None and np.prod(tensor.shape)
    ]

def late(path):
    "The shapes that are not known yet when the graph is prepared for inputs of other sizes."
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    interpreter = Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (3, 5, 8))
    interpreter.allocate_tensors()
    shapes = [int(o["inputs"][1]) for o in interpreter._get_ops_details() if o["op_name"] == "RESHAPE"]
    before = [interpreter.get_tensor(index).tolist() for index in shapes]
    interpreter.invoke()
    after = [interpreter.get_tensor(index).tolist() for index in shapes]
    return [one for one, other in zip(before, after) if one != other] if shapes else ["no shape was found"]

named = tuple(type(spec)(spec.name + "_out", spec.dtype, spec.shape) for spec in outputs)
net, out = Net().eval(), Path("net.tflite")
draft = convert(Work(out, net, Signature(inputs, named), out))
seal(out, draft)
answers = {"rescues": draft.rescues, "worst": worst(net, str(out)), "hollow": hollow(out), "late": late(str(out))}
try:
    convert(Work(out, Wave(), Signature(inputs, inputs), Path("wave.tflite")))
except RouteError as error:
    answers["refused"] = [error.message, error.fix]
print("\\n" + json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("sizes")
    ran = subprocess.run([sys.executable, "-c", CONVERT], capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_file_gives_its_sources_answers_at_sizes_it_was_not_converted_at(answers):
    assert all(error < 1e-5 for error in answers["worst"].values()), answers["worst"]


def test_what_had_to_be_computed_is_reported(answers):
    said = " ".join(answers["rescues"])
    assert [words for words in ("shapes are computed", "cut to length", "counted") if words not in said] == []


def test_a_size_that_cannot_be_taken_out_of_the_graph_is_refused_with_the_option_that_fixes_it(answers):
    message, fix = answers["refused"]
    assert "length is part of a constant" in message
    assert "--fix length=16" in fix


def test_no_constant_has_a_size_and_no_bytes(answers):
    assert answers["hollow"] == []


def test_computed_shapes_are_known_before_the_graph_runs_so_that_nothing_is_dynamic(answers):
    assert answers["late"] == []
