"""Asking for help is instant, says everything, and loads nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from convert.formats import FORMATS

MODULES = ("convert", "validators")

#: The most `--help` may take; computing time, the best of several tries, so that a busy machine does not decide.
HELP_SECONDS = 0.3
TRIES = 5

HEAVY = "torch,tensorflow,keras,jax,onnx,onnxruntime,onnxscript,tf2onnx,ai_edge_litert,litert_torch,h5py,safetensors"

#: Run a command in this very process and say which of the heavy packages it loaded.
LOADED = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as left:
    assert not left.code, left.code
print("loaded:", *sorted(set("{HEAVY}".split(",")) & set(sys.modules)))
"""


def loaded_by(code: str, *words: object) -> list[str]:
    """Name the heavy packages that a fresh process has loaded after `code`."""
    line = [sys.executable, "-c", code, *map(str, words)]
    ran = subprocess.run(line, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("module", MODULES)
def test_help_is_there_before_one_notices(module):
    assert min(cpu_seconds(sys.executable, "-m", module, "--help") for _ in range(TRIES)) < HELP_SECONDS


def cpu_seconds(*line: str) -> float:
    """Run a command and give the time it computed: what it takes on a machine that does nothing else."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("module", MODULES)
def test_help_loads_no_framework(module):
    assert loaded_by(LOADED, module, "--help") == []


@pytest.mark.parametrize(
    "line", ["import convert, validators", "from convert import convert, inspect", "import convert.cli"]
)
def test_importing_our_packages_loads_no_framework(line):
    code = f"import sys\n{line}\nprint('loaded:', *sorted(set('{HEAVY}'.split(',')) & set(sys.modules)))"
    assert loaded_by(code) == []


def test_a_framework_that_was_loaded_would_be_seen():
    assert loaded_by("import sys, safetensors\nprint('loaded:', *({'safetensors'} & set(sys.modules)))") == [
        "safetensors"
    ]


def test_loading_a_model_loads_no_framework_into_the_command_itself(samples):
    assert loaded_by(LOADED, "convert", samples / "digits.pt", "--inspect") == []


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_exit_code_and_shows_how_it_is_done(command, module, option):
    ran = command(option, module=module)
    assert ran.returncode == 0
    assert ran.stderr == ""
    assert [f"{code} " for code in (0, 1, 2, 3, 130, 143) if f"{code} " not in ran.stdout] == []
    assert f"python -m {module} " in ran.stdout


def test_help_names_every_format(command):
    text = command("--help").stdout
    assert [name for name in FORMATS.names() if name not in text] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_version_is_told(command, module):
    from convert import __version__

    assert command("--version", module=module).stdout.split()[-1] == __version__
