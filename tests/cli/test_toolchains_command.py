"""`--toolchains` lists, prepares and removes, and explains what it cannot do."""

from __future__ import annotations

import json

import pytest

from convert.toolchains import TOOLCHAINS


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_list_names_every_toolchain_and_makes_nothing(command, cache):
    ran = command("--toolchains")
    assert ran.returncode == 0
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == list(TOOLCHAINS.names())
    assert "not prepared" in ran.stdout
    assert not cache.exists()


def test_the_list_as_json_has_the_same(command):
    states = json.loads(command("--toolchains", "list", "--json").stdout)
    assert [state["name"] for state in states] == list(TOOLCHAINS.names())
    assert {state["state"] for state in states} == {"not prepared"}


def test_removing_what_is_not_there_is_no_error(command):
    assert command("--toolchains", "remove").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--toolchains", "prepare:onnx2fr"], "did you mean 'onnx2tf'"),
        (["--toolchains", "tidy"], "cannot read --toolchains"),
        (["model.pt", "--toolchains", "list"], "--toolchains converts nothing"),
        ([], "no model file was named"),
    ],
)
def test_what_it_cannot_mean_is_a_usage_error(command, refused, words, said):
    refused(command(*words), 2, said)


def test_preparing_without_a_network_ends_with_its_fix(command, refused, monkeypatch, cache):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(cache / "uv"))
    # On a machine without Python 3.12 it ends there, with the fix for that.
    refused(command("--toolchains", "prepare:onnx2tf", "--quiet"), 3, "onnx2tf 2.6.9")
