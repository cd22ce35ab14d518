"""Weights and the architecture they belong to: what is wrong with `--architecture` is said by name, with a fix."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "samples"

NET = """
import torch
from beside import WIDTH

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(WIDTH, 2)

def needs(size):
    return torch.nn.Linear(size, 2)

def text():
    return "no module"

def fails():
    raise RuntimeError("not today")

NUMBER = 3
"""

#: What --architecture is given, the error it ends in, and words of the error.
WRONG = {
    "no colon": ("net.py", "UsageError", "cannot read --architecture 'net.py'"),
    "no name": ("net.py:", "UsageError", "cannot read"),
    "no place": (":Net", "UsageError", "cannot read"),
    "a file that is not there": ("nosuch.py:Net", "UsageError", "there is no file nosuch.py"),
    "a module that is not there": ("no_such.module:Net", "UsageError", "there is no module 'no_such'"),
    "a name that is not there": ("net.py:Nat", "UsageError", "it has: Net, fails, needs, text"),
    "a name that cannot be called": ("net.py:NUMBER", "UsageError", "no callable 'NUMBER'"),
    "a function that needs an argument": ("net.py:needs", "LoadError", "without required arguments"),
    "a function that returns no module": ("net.py:text", "LoadError", "returned a str"),
    "a function that fails": ("net.py:fails", "LoadError", "RuntimeError: not today"),
    "a file that cannot be imported": ("broken.py:Net", "LoadError", "ZeroDivisionError"),
    "a file that is no Python": ("syntax.py:Net", "LoadError", "SyntaxError"),
    "a file that imports what is not installed": ("imports.py:Net", "UsageError", "'no_such_package'"),
}

BUILD_EACH = """
import json, sys
from convert.errors import EdgeproofError
from convert.sources._architecture import build
endings = {}
for architecture in sys.argv[1:]:
    try:
        endings[architecture] = [type(build(architecture)).__name__, "", ""]
    except EdgeproofError as error:
        endings[architecture] = [type(error).__name__, error.message, error.fix]
print(json.dumps(endings))
"""


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, list[str]]:
    """Build every architecture, all in one process: the class that was built or the error, its message and its fix."""
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "below").mkdir()
    (folder / "net.py").write_text(NET)
    (folder / "beside.py").write_text("WIDTH = 4\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "syntax.py").write_text("class Net(:\n")
    (folder / "imports.py").write_text("import no_such_package\n")
    (folder / "below" / "elsewhere.py").write_text("import torch\nNet = torch.nn.Identity\n")
    words = [architecture for architecture, _, _ in WRONG.values()]
    line = [sys.executable, "-c", BUILD_EACH, *words, "net.py:Net", "below/elsewhere.py:Net", "torch.nn:Identity"]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True, cwd=folder).stdout)


@pytest.mark.parametrize(
    ("architecture", "built"),
    [("net.py:Net", "Net"), ("below/elsewhere.py:Net", "Identity"), ("torch.nn:Identity", "Identity")],
)
def test_an_architecture_is_found_in_a_file_its_neighbours_or_a_package(endings, architecture, built):
    assert endings[architecture] == [built, "", ""]


@pytest.mark.parametrize(("architecture", "error", "said"), WRONG.values(), ids=WRONG.keys())
def test_an_architecture_that_cannot_be_built_is_named_with_what_is_wrong_and_a_fix(endings, architecture, error, said):
    found, message, fix = endings[architecture]
    assert found == error
    assert said in f"{message}\n{fix}"
    assert "--architecture" in message
    assert fix, "it says how to go on"
