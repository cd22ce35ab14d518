"""Toolchains are made whole or not at all, found again, and say what is missing. No test needs a network."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from convert import toolchains
from convert.errors import ToolchainError, UsageError
from convert.toolchains import TOOLCHAINS, Preparing, Toolchain, _interpreters, _making

#: Retries of a network that refuses at once take 3 s; without a limit they would never end.
OFFLINE_SECONDS = 60.0


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "toolchains"


@pytest.fixture
def wheel(tmp_path):
    """A package whose module prints its version."""
    path = tmp_path / "tiny-1.5-py3-none-any.whl"
    info = "tiny-1.5.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/__init__.py", "")
        archive.writestr("tiny/__main__.py", "import sys; print('tiny 1.5'); sys.exit('--break' in sys.argv)")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.5\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def tiny(wheel):
    """A toolchain that this very interpreter can run, made from a file."""
    yield TOOLCHAINS.register(toolchain(packages=(f"tiny @ {wheel.as_uri()}",)))
    TOOLCHAINS.unregister("tiny")


def toolchain(**changes: object) -> Toolchain:
    running = sys.version_info[:2]
    settings = {
        "name": "tiny",
        "title": "tiny 1.5",
        "version": "1.5",
        "python": running,
        "below": (running[0], running[1] + 1),
        "packages": (),
        "module": "tiny",
        "probe": (),
        "download": "1 MB",
    }
    return Toolchain(**{**settings, **changes})


def test_a_toolchain_is_made_once_and_found_again(cache, tiny):
    assert toolchains.find("tiny") is None
    place = toolchains.prepare(Preparing("tiny"))
    made = (Path(place.folder) / _making.MARKER).stat().st_mtime_ns
    assert toolchains.find("tiny") == place
    assert toolchains.prepare(Preparing("tiny")) == place
    assert (Path(place.folder) / _making.MARKER).stat().st_mtime_ns == made
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_two_runs_at_once_make_it_once(cache, tiny, monkeypatch):
    made = []
    install = _making._install
    monkeypatch.setattr(_making, "_install", lambda *job: made.append(job) or install(*job))
    threads = [threading.Thread(target=toolchains.prepare, args=(Preparing("tiny"),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert toolchains.find("tiny")


def broken_marker(folder: Path) -> None:
    (folder / _making.MARKER).write_text("{")


def gone_marker(folder: Path) -> None:
    (folder / _making.MARKER).unlink()


def gone_interpreter(folder: Path) -> None:
    _making.python_of(folder).unlink()


def gone_package(folder: Path) -> None:
    (package,) = folder.glob("lib/python*/site-packages/tiny")
    package.rename(package.with_name("elsewhere"))


@pytest.mark.parametrize("damage", [broken_marker, gone_marker, gone_interpreter, gone_package])
def test_a_damaged_toolchain_is_not_used_but_made_again(cache, tiny, damage):
    place = toolchains.prepare(Preparing("tiny"))
    damage(Path(place.folder))
    assert toolchains.find("tiny") is None
    assert [state.state for state in toolchains.listing() if state.name == "tiny"] == [toolchains.DAMAGED]
    with pytest.raises(ToolchainError, match="is not prepared") as error:
        toolchains.require("tiny")
    assert "--toolchains prepare:tiny" in error.value.fix
    assert toolchains.prepare(Preparing("tiny")) == place
    assert toolchains.find("tiny") == place


def test_what_a_killed_run_left_is_cleared_away(cache, tiny):
    left = cache / ".tiny-abc"
    (left / "environment").mkdir(parents=True)
    toolchains.prepare(Preparing("tiny"))
    assert not left.exists()


def test_another_list_of_packages_is_another_environment(cache, tiny, wheel):
    old = toolchains.prepare(Preparing("tiny"))
    TOOLCHAINS.unregister("tiny")
    TOOLCHAINS.register(toolchain(packages=(f"tiny @ {wheel.as_uri()}", "")))
    assert toolchains.find("tiny") is None
    new = toolchains.prepare(Preparing("tiny"))
    assert new.folder != old.folder
    states = [state.state for state in toolchains.listing() if state.name == "tiny"]
    assert states == [toolchains.READY, toolchains.OUTDATED]
    assert sorted(toolchains.remove("tiny")) == sorted([old.folder, new.folder])
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_without_a_network_it_says_so_in_bounded_time(cache, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(cache.parent / "uv"))
    TOOLCHAINS.register(toolchain(packages=("tiny==1.5",)))
    began = time.monotonic()
    try:
        with pytest.raises(ToolchainError, match=r"cannot prepare tiny 1\.5, .*refused") as error:
            toolchains.prepare(Preparing("tiny"))
    finally:
        TOOLCHAINS.unregister("tiny")
    assert time.monotonic() - began < OFFLINE_SECONDS
    assert "connect to the network" in error.value.fix
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_what_does_not_start_is_not_kept(cache, wheel):
    TOOLCHAINS.register(toolchain(packages=(f"tiny @ {wheel.as_uri()}",), probe=("--break",)))
    try:
        with pytest.raises(ToolchainError, match="was installed and does not start"):
            toolchains.prepare(Preparing("tiny"))
    finally:
        TOOLCHAINS.unregister("tiny")
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_named(cache, tiny):
    cache.parent.mkdir()
    cache.parent.chmod(0o500)
    with pytest.raises(ToolchainError, match="cannot prepare") as error:
        toolchains.prepare(Preparing("tiny"))
    assert "EDGEPROOF_CACHE" in error.value.fix


def test_a_cache_that_is_a_file_is_named(tiny, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEPROOF_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolchainError, match="cannot prepare") as error:
        toolchains.prepare(Preparing("tiny"))
    assert "EDGEPROOF_CACHE" in error.value.fix


def test_it_runs_with_its_programs_first_and_no_network(cache, tiny, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    variables = toolchains.prepare(Preparing("tiny")).environment()
    assert variables["PATH"].split(os.pathsep)[0].startswith(str(cache))
    assert variables["https_proxy"] == variables["HTTPS_PROXY"] == "http://127.0.0.1:9"
    assert "PYTHONPATH" not in variables


def test_every_package_of_a_registered_toolchain_is_pinned():
    for registered in TOOLCHAINS:
        assert all("==" in package.split(";")[0] for package in registered.packages)
        assert not [package for package in registered.packages if "://" in package]


# Interpreters: fakes that answer like one, or do not start, like the shims of pyenv.


def interpreter(path: Path, version: str = "", *, plain: bool = True) -> Path:
    """Write a program that answers as Python `version` would, or one that does not start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = json.dumps({"version": [int(part) for part in version.split(".") if part], "plain": plain})
    path.write_text(f"#!/bin/sh\necho '{answer}'\n" if version else "#!/bin/sh\necho not found >&2\nexit 127\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine that runs Python 3.11 and has nothing else."""
    monkeypatch.setattr(sys, "executable", str(interpreter(tmp_path / "running" / "python", "3.11.7")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(_interpreters, "managed", lambda _: iter(()))
    return tmp_path


WANTED = toolchain(python=(3, 12), below=(3, 14))


def test_the_running_interpreter_comes_first(machine):
    interpreter(machine / "bin" / "python3.12", "3.12.9")
    running = interpreter(machine / "running" / "python", "3.13.0")
    assert _interpreters.search(WANTED).path == str(running)


def test_an_interpreter_on_path_that_does_not_start_is_passed_over(machine, monkeypatch):
    monkeypatch.setenv("PATH", f"{machine / 'shims'}{os.pathsep}{machine / 'bin'}")
    interpreter(machine / "shims" / "python3.12")
    good = interpreter(machine / "bin" / "python3.12", "3.12.9")
    found = _interpreters.search(WANTED)
    assert found.path == str(good)
    assert found.version == (3, 12, 9)


def test_versions_that_pyenv_keeps_are_found(machine):
    kept = interpreter(machine / "pyenv" / "versions" / "3.13.0" / "bin" / "python", "3.13.0")
    interpreter(machine / "pyenv" / "versions" / "3.10.1" / "bin" / "python", "3.10.1")
    assert _interpreters.search(WANTED).path == str(kept)


def test_versions_that_uv_keeps_come_last(machine, monkeypatch):
    kept = interpreter(machine / "uv" / "python3.12", "3.12.1")
    monkeypatch.setattr(_interpreters, "managed", lambda _: iter([kept]))
    assert _interpreters.search(WANTED).path == str(kept)


@pytest.mark.parametrize(("version", "plain"), [("3.14.0", True), ("3.11.9", True), ("3.12.1", False)])
def test_an_interpreter_that_does_not_suit_is_named_and_not_used(machine, version, plain):
    interpreter(machine / "bin" / "python3", version, plain=plain)
    interpreter(machine / "bin" / "python3.13")
    with pytest.raises(ToolchainError, match=r"Python 3\.12 to 3\.13, and this machine has none") as error:
        _interpreters.search(WANTED)
    assert "python3.13 does not start" in error.value.message
    assert "3.11.7" in error.value.message
    assert "uv python install 3.12" in error.value.fix


def test_an_interpreter_that_hangs_is_passed_over(machine, monkeypatch):
    monkeypatch.setattr(_interpreters, "START_SECONDS", 0.5)
    hanging = interpreter(machine / "bin" / "python3.12", "3.12.1")
    hanging.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    good = interpreter(machine / "bin" / "python3.13", "3.13.1")
    assert _interpreters.search(WANTED).path == str(good)


def test_asking_uv_for_its_own_interpreters_downloads_none(monkeypatch):
    asked = []
    monkeypatch.setattr(_interpreters, "_output", lambda line: asked.append(line) or "")
    assert list(_interpreters.managed(WANTED)) == []
    assert "--no-python-downloads" in asked[0]


def test_a_command_that_cannot_be_read_is_a_usage_error():
    from convert.toolchains import _command

    for asked in ("removal", "list:onnx2tf", ":onnx2tf"):
        with pytest.raises(UsageError, match="cannot read --toolchains"):
            _command.perform(asked, 10.0, 0, lambda _: None, as_json=False)
