"""Registries: a plug-in is one file in a scanned folder, and nothing else has to be edited."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from convert.errors import UnknownName
from convert.registry import Registry


@dataclass(frozen=True)
class Thing:
    name: str


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that holds a registry of things and no plug-in yet; give its folder and its name."""
    folder = tmp_path / f"things_{tmp_path.name.replace('-', '_')}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def add_plug_in(folder: Path, name: str, code: str = "") -> None:
    """Write one plug-in file; the test's registry is found through `sys.modules`."""
    (folder / f"{name}.py").write_text(
        f"import sys\n{code}\nsys.modules[{folder.name!r}].REGISTRY.register("
        f"sys.modules[{folder.name!r}].Thing({name!r}))\n"
    )


def registry_of(folder: Path) -> Registry[Thing]:
    """Make the registry and hang it where the plug-ins find it."""
    import importlib

    package = importlib.import_module(folder.name)
    package.REGISTRY = Registry("thing", folder.name)
    package.Thing = Thing
    return package.REGISTRY


def test_a_file_added_to_the_folder_is_a_plug_in(package):
    add_plug_in(package, "pear")
    add_plug_in(package, "apple")
    registry = registry_of(package)
    assert registry.names() == ("apple", "pear")
    assert registry["pear"] == Thing("pear")


def test_what_plug_ins_share_is_not_imported_with_them(package):
    add_plug_in(package, "pear")
    (package / "_shared.py").write_text("import a_framework_that_is_not_installed\n")
    assert registry_of(package).names() == ("pear",)


def test_nothing_is_imported_before_somebody_asks(package):
    add_plug_in(package, "pear")
    registry_of(package)
    assert f"{package.name}.pear" not in sys.modules


def test_a_second_plug_in_of_one_name_is_refused():
    registry = Registry("thing", "nowhere")
    registry.register(Thing("pear"))
    with pytest.raises(ValueError, match="two things are named 'pear'"):
        registry.register(Thing("pear"))


def test_two_files_that_register_one_name_are_refused_when_the_folder_is_scanned(package):
    add_plug_in(package, "pear")
    (package / "second.py").write_text((package / "pear.py").read_text())
    with pytest.raises(ValueError, match="two things are named 'pear'"):
        registry_of(package).names()


def test_an_unknown_name_is_answered_with_the_nearest_known_one(package):
    add_plug_in(package, "pear")
    add_plug_in(package, "apple")
    with pytest.raises(UnknownName, match="no thing named 'pair'") as unknown:
        registry_of(package)["pair"]
    assert "did you mean 'pear'? Known: apple, pear" in unknown.value.fix


def test_a_plug_in_that_was_taken_out_is_unknown():
    registry = Registry("thing", "json")  # any package without plug-ins
    registry.register(Thing("pear"))
    registry.unregister("pear")
    with pytest.raises(UnknownName):
        registry["pear"]


def test_threads_that_ask_at_once_all_see_every_plug_in(package):
    add_plug_in(package, "apple", "import time; time.sleep(0.2)")
    add_plug_in(package, "pear")
    registry = registry_of(package)
    seen: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: seen.append(registry.names())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [("apple", "pear")] * 4


def test_a_plug_in_may_ask_for_the_others_while_it_is_imported(package):
    add_plug_in(package, "apple", f"sys.modules[{package.name!r}].REGISTRY.names()")
    add_plug_in(package, "pear")
    assert registry_of(package).names() == ("apple", "pear")
