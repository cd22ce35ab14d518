"""Every kind of model file reaches every format, and every route leads to an artifact that passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from kinds import SAMPLE_OF, SAMPLES

from convert import convert, plan
from convert.formats import FORMATS
from convert.plan import Plan, Wish, candidates
from convert.routes import ROUTES
from convert.sources import SOURCES, identify
from convert.spec import FOREIGN, fingerprint
from validators.verdict import Status

#: One of each framework is converted whenever the tests run; all of them by `make zoo`.
QUICK = ("digits.keras", "digits.pt")

HAZARDS = sorted(
    path.name
    for path in SAMPLES.iterdir()
    if path.suffix in (".keras", ".h5", ".pt", ".pt2") and path.name not in {s.file for s in SAMPLE_OF.values()}
)


@pytest.mark.parametrize("kind", SOURCES.names())
def test_every_kind_of_model_file_has_a_sample(kind):
    assert kind in SAMPLE_OF, f"add a trained sample of {kind} to samples/ and to {Path(__file__).parent / 'kinds.py'}"


@pytest.mark.parametrize(("kind", "sample"), SAMPLE_OF.items(), ids=SAMPLE_OF.keys())
def test_a_sample_is_of_the_kind_it_stands_for(kind, sample, tmp_path):
    assert identify(sample.path(tmp_path)).kind == kind


@pytest.mark.parametrize("sample", QUICK)
@pytest.mark.parametrize("form", FORMATS.names())
def test_a_model_of_each_framework_passes_in_every_format(converted, sample, form):
    run = converted(sample)
    (target,) = [target for target in run.report["targets"] if target["target"] == form]
    assert target["status"] == "PASS", target["reason"]
    artifact = run.folder / f"digits{FORMATS[form].suffix}"
    assert Path(target["artifact"]["path"]) == artifact
    assert (target["artifact"]["sha256"], target["artifact"]["file_bytes"]) == fingerprint(artifact)


@pytest.mark.parametrize("sample", QUICK)
@pytest.mark.parametrize("form", FORMATS.names())
def test_its_contract_survives_with_its_names_and_its_free_batch(converted, sample, form):
    run = converted(sample)
    (target,) = [target for target in run.report["targets"] if target["target"] == form]
    assert target["artifact"]["signature"] == run.report["model"]["signature"]
    shapes = [spec["shape"] for spec in run.report["model"]["signature"]["inputs"]]
    assert shapes[0][0] == "batch"


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES.names())
def test_every_kind_of_model_file_passes_in_every_format(kind, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SAMPLES)  # where the pickle's class is
    sample = SAMPLE_OF[kind]
    report = convert(sample.path(tmp_path), "all", out=tmp_path / "out", **sample.options)
    assert {target.target: target.status for target in report.targets} == dict.fromkeys(FORMATS.names(), Status.PASS)
    assert report.exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", HAZARDS)
def test_every_hazard_passes_in_every_format(name, tmp_path):
    report = convert(SAMPLES / name, "all", out=tmp_path)
    assert {t.target: (t.status, t.reason) for t in report.targets if t.status is not Status.PASS} == {}


def plans_with(name: str) -> list[tuple[str, str, Plan]]:
    """List the plans that take a route, with the kind and format they lead from and to, shortest first."""
    found = [
        (kind, form, candidate)
        for kind in SOURCES.names()
        for form in FORMATS.names()
        for candidate in candidates(Wish(kind, FOREIGN), form)
        if name in [route.name for route in candidate.routes]
    ]
    return sorted(found, key=lambda entry: len(entry[2].routes))


@pytest.mark.parametrize("name", ROUTES.names())
def test_every_route_is_part_of_a_plan(name):
    assert plans_with(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [route.name for route in ROUTES if not route.needs])
def test_every_route_leads_to_an_artifact_that_passes(name, tmp_path, monkeypatch):
    kind, form, candidate = plans_with(name)[0]
    monkeypatch.setattr(plan, "ROUTES", candidate.routes)  # no other to fall back to
    sample = SAMPLE_OF[kind]
    report = convert(sample.path(tmp_path), form, out=tmp_path / "out", **sample.options)
    (target,) = report.targets
    assert [(attempt.plan, attempt.status) for attempt in target.attempts] == [(candidate.name, Status.PASS)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form", "name"),
    [
        (kind, form, candidate.name)
        for kind in ("keras",)
        for form in FORMATS.names()
        for candidate in candidates(Wish(kind), form)
        if len(candidate.routes) > 1
    ],
)
def test_a_chain_through_another_artifact_passes(kind, form, name, tmp_path, monkeypatch):
    (candidate,) = [c for c in candidates(Wish(kind), form) if c.name == name]
    monkeypatch.setattr(plan, "ROUTES", candidate.routes)
    (target,) = convert(SAMPLES / SAMPLE_OF[kind].file, form, out=tmp_path).targets
    assert [(attempt.plan, attempt.status) for attempt in target.attempts] == [(name, Status.PASS)]
