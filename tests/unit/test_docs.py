"""What the documents say is what the code says."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_schema_is_that_of_the_report(generate):
    assert generate.SCHEMA.read_text(encoding="utf-8") == generate.schema_text(), "run make docs"


def test_the_published_schema_is_that_of_a_policy(generate):
    assert generate.POLICY_SCHEMA.read_text(encoding="utf-8") == generate.policy_schema_text(), "run make docs"


def test_the_help_in_the_readme_is_that_of_the_commands(generate):
    current = generate.README.read_text(encoding="utf-8")
    assert "Usage: python -m convert" in current
    assert generate.readme_text(current) == current, "run make docs"


def test_the_docs_state_the_numbers_that_the_code_decides_by():
    from convert import faster
    from validators import contest, interval, kinds, pairs, protocol, steady, sweep, swept, tolerance, versus

    parity = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    assert f"Bound for fp32: {tolerance.RATIO_BOUNDS['fp32']:g}." in parity
    assert f"reach {tolerance.CASE_FACTOR:g} times the\nbound" in parity
    assert f"beyond {tolerance.VARIATION_OVER_NOISE:g} times its rounding noise" in parity
    assert f"{sum(kinds.KINDS.values())} seeded cases" in parity
    precision = (ROOT / "docs" / "precision.md").read_text(encoding="utf-8")
    assert f"takes {faster.WORTH_SECONDS * 1e6:g} microseconds or more" in precision
    timing = (ROOT / "docs" / "latency.md").read_text(encoding="utf-8")
    assert f"within {steady.QUARTER_DRIFT * 100:g} % of the whole's" in timing
    assert f"spreads over no more than {steady.SPREAD_LIMIT * 100:g} %" in re.sub(r"\s+", " ", timing)
    presets = protocol.PROTOCOLS.values()
    assert f"| {' | '.join(preset.name for preset in presets)} |" in timing
    assert f"| runs in a window at least | {' | '.join(f'{preset.runs:,}' for preset in presets)} |" in timing
    assert f"at least | {' | '.join(f'{preset.seconds:g}' for preset in presets)} |" in timing
    assert f"and infer once | {' | '.join(str(preset.openings) for preset in presets)} |" in timing
    assert f"After {', '.join(map(str, versus.LOOKS[:-1]))} and {versus.LOOKS[-1]} blocks" in timing
    assert f"makes {contest.LEAST_PAIRS} to {contest.MOST_PAIRS} pairs, for {contest.PAIRS_SECONDS:g} s" in timing
    assert f"per two artifacts, {contest.VISIT_PAIRS} at a time" in timing
    assert f"A pair** is {' '.join('AB'[side] for side in contest.ORDER)}," in timing
    assert f"above {1 + pairs.LEAST_EFFECT:g}, and" in timing
    assert f"within {pairs.SAME_WITHIN:.0%} of one" in timing.replace(" %", "%")
    words = re.sub(r"\s+", " ", timing)
    assert f"of one alone, by {interval.ONE_PROCESS_DIFFERS * 100:g} %, which" in words
    assert f"all processes, {interval.MEMORY_DIFFERS * 100:g} % wider on either side" in words
    assert f"is in it with {interval.CONFIDENCE * 100:g} % confidence" in words
    assert f"from 1 up to {swept.MOST_BATCH:,}, then" in words
    assert f"fewer than 8 in rotation: {sweep.ROTATION_BYTES >> 20} MiB of them" in words
    assert f"and {sweep.STOP_BESIDE >> 20} MiB more before" in words
    assert f"the 90th from {protocol.P90_RUNS}, the 99th from {protocol.P99_RUNS}." in timing


def test_every_link_in_the_documents_leads_somewhere():
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "samples" / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("sample", sorted((ROOT / "samples").glob("*.pt*")), ids=lambda path: path.name)
def test_a_sample_holds_no_path_of_the_machine_it_was_made_on(sample):
    with zipfile.ZipFile(sample) as archive:
        for name in archive.namelist():
            assert not re.search(rb"site-packages|/(root|home|usr)/", archive.read(name)), name
