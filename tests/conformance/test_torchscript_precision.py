"""TorchScript artifacts of lower precision: they load with PyTorch alone, and err as much as their ideals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("reduced_torchscript.py")


@pytest.fixture
def reduced(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Reduce one of the nets to some precisions, in a process of its own."""

    def reduce(net: str, *precisions: str) -> dict[str, Any]:
        command = [sys.executable, "-W", "ignore", SCRIPT, tmp_path, net, *precisions]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    return reduce


def check(found: dict[str, Any], precision: str) -> None:
    """See that an artifact is what it says, loses something, and no more than its ideal does."""
    assert found["precision"] == precision
    assert found["same signature"]
    assert found["error"] > 100 * found["float"]
    assert 0.9 < found["error"] / found["ideal"] < 1.15, found


@pytest.mark.parametrize("net", ["encoder", "recurrent"])
def test_dynamic_integers_lose_what_their_ideal_loses(reduced: Callable[..., dict[str, Any]], net: str) -> None:
    found = reduced(net, "int8-dynamic")["int8-dynamic"]
    check(found, "int8-dynamic")
    assert found["size"] < 0.4


def test_half_precision_rounds_what_its_ideal_rounds(reduced: Callable[..., dict[str, Any]]) -> None:
    found = reduced("recurrent", "fp16")["fp16"]
    check(found, "fp16")
    assert found["size"] < 0.55


def test_stored_integers_lose_what_their_ideal_loses(reduced: Callable[..., dict[str, Any]]) -> None:
    found = reduced("residual", "int8-weights", "fp16-but-conv_1")
    check(found["int8-weights"], "int8-weights")
    check(found["fp16-but-conv_1"], "fp16")
