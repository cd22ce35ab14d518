"""Every plug-in is whole, stands alone in its file, and is imported without any framework."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from convert.calibration import READERS
from convert.formats import FORMATS
from convert.plan import Wish, candidates
from convert.rewrites import REWRITES
from convert.routes import ROUTES
from convert.sources import SOURCES
from convert.worker import Environment
from validators.ideals import IDEALS
from validators.reports import RENDERINGS
from validators.runtimes import RUNTIMES, reference_for, runtime_for

FAMILIES = {source.family.name for source in SOURCES}
REGISTRIES = (SOURCES, ROUTES, FORMATS, RUNTIMES, RENDERINGS, REWRITES, READERS)

FAMILIES = {source.family.name for source in SOURCES}

#: The function of each kind of plug-in that tells which file it comes from.
HOMES = {
    "source": "load",
    "route": "convert",
    "format": "seal",
    "runtime": "open",
    "rendering": "render",
    "rewrite": "apply",
    "calibration reader": "open",
}

PLUG_INS = [
    pytest.param(registry, item, id=f"{registry.noun}-{item.name}") for registry in REGISTRIES for item in registry
]

FRAMEWORKS = {
    *("torch", "torchvision", "tensorflow", "keras", "jax", "onnx", "onnxruntime", "onnxscript", "tf2onnx"),
    *("ai_edge_litert", "litert_torch", "flatbuffers", "h5py", "safetensors", "google", "PIL", "pyarrow"),
}

#: Import every module named after the first argument, in an environment where no framework is installed.
IMPORT_ALONE = """
import importlib, json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FRAMEWORKS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

FRAMEWORKS = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocker())
failures = {}
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        failures[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failures))
"""


def modules_of(package: str) -> list[str]:
    """Name every module of a package, those shared by several plug-ins included."""
    return [module.name for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}.")]


def import_without_frameworks(names: list[str], **more) -> dict[str, str]:
    """Import modules where no framework is installed, and say which could not be, and why."""
    words = [sys.executable, "-c", IMPORT_ALONE, ",".join(FRAMEWORKS), *names]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True, **more).stdout)


MODULES = [name for registry in REGISTRIES for name in modules_of(registry.package)]
ENTRANCES = [
    "convert",
    "validators",
    "convert.api",
    "convert.cli",
    "convert.worker",
    "validators.api",
    "validators.cli",
]


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    return import_without_frameworks([*ENTRANCES, *MODULES])


@pytest.mark.parametrize("name", [*ENTRANCES, *MODULES])
def test_a_module_is_imported_where_no_framework_is_installed(failures, name):
    assert failures.get(name) is None


@pytest.mark.parametrize("line", ["import torch", "from google.protobuf import message", "import keras.layers"])
def test_a_module_that_imports_a_framework_would_be_caught(tmp_path, line):
    (tmp_path / "careless.py").write_text(f"{line}\n")
    assert "ModuleNotFoundError" in import_without_frameworks(["careless"], cwd=tmp_path)["careless"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.noun)
def test_every_file_of_the_folder_registers_one_plug_in(registry):
    homes = Counter(getattr(item, HOMES[registry.noun]).__module__ for item in registry)
    files = [name for name in modules_of(registry.package) if not name.rpartition(".")[2].startswith("_")]
    assert homes == Counter(files)


@pytest.mark.parametrize(("registry", "item"), PLUG_INS)
def test_a_plug_in_has_a_name_to_type_and_a_title_to_read(registry, item):
    assert re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", item.name)
    assert item.title.strip() == item.title != ""
    assert registry[item.name] is item


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.noun)
def test_no_two_plug_ins_read_alike(registry):
    titles = [item.title for item in registry]
    assert sorted(set(titles)) == sorted(titles)


@pytest.mark.parametrize("kind", SOURCES.names())
def test_a_kind_of_model_file_has_one_framework_that_runs_it_as_the_reference(kind):
    family = SOURCES[kind].family.name
    assert [runtime for runtime in RUNTIMES if family in runtime.families] == [reference_for(kind)]


@pytest.mark.parametrize("kind", SOURCES.names())
@pytest.mark.parametrize("form", FORMATS.names())
def test_a_kind_of_model_file_has_a_route_to_every_format(kind, form):
    assert candidates(Wish(kind), form)


@pytest.mark.parametrize("form", FORMATS.names())
def test_a_format_has_one_engine_that_runs_it_as_a_device_would(form):
    assert [runtime for runtime in RUNTIMES if form in runtime.formats] == [runtime_for(form)]


@pytest.mark.parametrize("runtime", list(RUNTIMES), ids=lambda runtime: runtime.name)
def test_an_engine_runs_something_and_only_what_there_is(runtime):
    assert runtime.families or runtime.formats or runtime.path_of or runtime.name in {ideal.runtime for ideal in IDEALS}
    assert runtime.path_of in ("", *FORMATS.names())
    assert set(runtime.families) <= FAMILIES
    assert set(runtime.formats) <= set(FORMATS.names())


@pytest.mark.parametrize("form", list(FORMATS), ids=lambda form: form.name)
def test_a_format_has_a_suffix_of_its_own(form):
    assert re.fullmatch(r"\.[a-z0-9]+|", form.suffix)  # none: a folder
    assert [other.name for other in FORMATS if other.suffix == form.suffix] == [form.name]


@pytest.mark.parametrize("route", list(ROUTES), ids=lambda route: route.name)
def test_a_route_leads_from_what_there_is_to_what_there_is(route):
    assert route.takes
    assert set(route.takes) <= {*FAMILIES, *SOURCES.names(), *FORMATS.names()}
    assert len(set(route.takes)) == len(route.takes)
    assert route.gives in FORMATS.names()


@pytest.mark.parametrize("route", list(ROUTES), ids=lambda route: route.name)
def test_a_route_gives_the_reason_for_its_place_and_shares_it_with_no_other(route):
    assert len(route.why.split()) >= 3
    starts = [start for start in (*SOURCES.names(), *FORMATS.names()) if route.accepts(start)]
    rivals = [rival for rival in ROUTES if rival.gives == route.gives and any(map(rival.accepts, starts))]
    assert [rival.name for rival in rivals if rival.rank == route.rank] == [route.name]


def test_plug_ins_that_share_a_process_agree_on_how_it_starts():
    """Workers are found by the environment's name alone."""
    environments: dict[str, set[Environment]] = {}
    for registry in (SOURCES, ROUTES, RUNTIMES):
        for item in registry:
            environments.setdefault(item.environment.name, set()).add(item.environment)
    assert {name: found for name, found in environments.items() if len(found) > 1} == {}


@pytest.mark.parametrize(("registry", "item"), [param for param in PLUG_INS if hasattr(param.values[1], "environment")])
def test_what_a_plug_in_preloads_is_installed_with_the_extras(registry, item):
    root = Path(__file__).parents[2] / "pyproject.toml"
    from convert.worker import EXTRAS

    packages = {module.split(".")[0] for module in item.environment.preload} - {"numpy"}
    assert packages <= set(EXTRAS), "a missing one could not be answered with the command that installs it"
    assert all(f"\n{EXTRAS[package]} = [" in root.read_text() for package in packages)
