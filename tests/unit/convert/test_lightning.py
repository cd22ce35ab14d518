"""Lightning checkpoints, as Lightning writes them: read without it, and without running what they hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NET = """
import torch

class Net(torch.nn.Sequential):
    def __init__(self, width, classes=2):
        super().__init__(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, classes))

class Wide(torch.nn.Sequential):
    def __init__(self, width, classes=2):
        super().__init__(torch.nn.Linear(5, width), torch.nn.ReLU(), torch.nn.Linear(width, classes))

class Deep(Net):
    def __init__(self, width, depth):
        super().__init__(width)

class Whole(torch.nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.net = Net(kwargs["width"], kwargs["classes"])

    def forward(self, input):
        return self.net(input)
"""

#: Writes and loads one checkpoint after the other: statements that change it, what its names begin with, architecture.
LOAD_EACH = """
import json, os, pathlib, sys, types, torch
from convert.errors import EdgeproofError
from convert.sources import identify, load
from convert.spec import LoadOptions, specs_from
sys.path.insert(0, "")
from net import Net

class AttributeDict(dict):
    pass

class FocalLoss:
    pass

class Bag(dict):
    pass

foreign = {"lightning_data": AttributeDict, "theirs": FocalLoss, "others": Bag}
for name, cls in foreign.items():
    module = types.ModuleType(name)
    cls.__module__ = name
    setattr(module, cls.__name__, cls)
    sys.modules[name] = module

def save(path, change, prefix):
    torch.manual_seed(0)
    weights = {f"{prefix}{name}": tensor for name, tensor in Net(width=12, classes=3).state_dict().items()}
    hyper = AttributeDict(width=12, classes=3, lr=0.1)
    checkpoint = {
        "epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.5.0", "state_dict": weights,
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": hyper,
    }
    exec(change)
    torch.save(checkpoint, path)

endings = {}
for name, change, prefix, architecture in json.loads(sys.argv[1]):
    path = pathlib.Path(f"{name}.ckpt")
    save(path, change, prefix)
    try:
        file = identify(path)
        facts = load(file, LoadOptions(architecture, specs_from(["input:float32[batch,4]"]))).facts
        endings[name] = [file.detail, str(facts.signature), *facts.notes]
    except EdgeproofError as error:
        endings[name] = [type(error).__name__, error.message, error.fix]
print(json.dumps(endings))
"""

#: Statements that change a checkpoint, what the names of its weights begin with, the architecture, and what is said.
CASES = {
    "stored": (
        "",
        "",
        "net.py:Net",
        ("built with the stored hyper-parameters width, classes", "output:float32[batch,3]"),
    ),
    "prefix": ("", "model.", "net.py:Net", ("the prefix 'model.' of the weights' names was taken off",)),
    "beside": (
        "weights['criterion.weight'] = torch.ones(3)",
        "model.",
        "net.py:Net",
        ("weights beside it were left out: criterion.weight",),
    ),
    "reverse": (
        "",
        "",
        "net.py:Whole",
        ("the architecture's prefix 'net.' was added to the weights' names", "width, classes, lr"),
    ),
    "foreign": ("hyper['loss'] = FocalLoss()", "", "net.py:Net", ("were not read: loss (theirs.FocalLoss)",)),
    "class named": ("hyper['_class_path'] = 'theirs.Net'", "", "", ("UsageError", "4 weights of theirs.Net")),
    "class unnamed": ("", "", "", ("UsageError", "of a class that was given width, classes, lr", "--architecture")),
    "nothing said": ("del checkpoint['hyper_parameters']", "", "", ("UsageError", "4 weights, but not the class")),
    "needs lightning": ("", "", "needs.py:Net", ("MissingExtra", "'lightning', which is not installed", "pip install")),
    "other sizes": ("", "", "net.py:Wide", ("LoadError", "has shape [12, 4] in the file")),
    "not stored": ("", "", "net.py:Deep", ("LoadError", "Deep(width=...) failed", "depth")),
    "no weights": ("del checkpoint['state_dict']", "", "net.py:Net", ("LoadError", "without weights")),
    "code": ("checkpoint['callbacks'] = os.system", "", "net.py:Net", ("LoadError", "posix.system")),
    "unreadable": ("hyper['bag'] = Bag(a=1)", "", "net.py:Net", ("LoadError", "others.Bag", "--trust")),
    "extra weights": (
        "weights['criterion.weight'] = torch.ones(3)",
        "",
        "net.py:Net",
        ("LoadError", "unexpected in the file: criterion.weight"),
    ),
}


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, list[str]]:
    """Load every checkpoint, all in one process: what was said of it, or the error, its message and its fix."""
    folder = tmp_path_factory.mktemp("lightning")
    (folder / "net.py").write_text(NET)
    (folder / "needs.py").write_text("import lightning\n" + NET)
    cases = [(name, change, prefix, architecture) for name, (change, prefix, architecture, _) in CASES.items()]
    line = [sys.executable, "-c", LOAD_EACH, json.dumps(cases)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_is_loaded_or_refused_with_what_it_says(endings, name):
    said = "\n".join(endings[name])
    assert [words for words in CASES[name][3] if words not in said] == [], said
    assert ("PyTorch Lightning 2.5.0 checkpoint" in said) == (not CASES[name][3][0].endswith(("Error", "Extra")))
