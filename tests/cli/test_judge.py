"""`python -m validators judge`: a real report held against a policy, from the command line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def judge(command):
    def run(*words: object):
        return command("judge", *words, module="validators")

    return run


def test_a_report_is_judged_as_it_was_and_by_a_policy(judge, converted, tmp_path):
    folder = converted("digits.pt").folder
    ran = judge(folder / "report.json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "tflite (was PASS): PASS" in ran.stdout
    assert judge(folder).returncode == 0
    (tmp_path / "strict.toml").write_text("[outputs.logits]\nmax_abs = 1e-9\n")
    ran = judge(folder, "--policy", "strict.toml")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "(was PASS): FAIL" in ran.stdout
    assert "bound 1e-09" in ran.stdout
    found = json.loads(judge(folder, "--policy", "strict.toml", "--json").stdout)
    assert {item["verdict"]["status"] for item in found} == {"FAIL"}


def test_a_budget_is_judged_from_the_report_alone_and_found_in_the_working_folder(judge, converted, tmp_path):
    folder = converted("digits.pt").folder
    policy = tmp_path / "edgeproof.toml"
    policy.write_text("[budget]\nfile_bytes = '1 MiB'\n")
    ran = judge(folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("policy: edgeproof.toml\n")
    assert "at most 1 MiB by [budget]" in ran.stdout
    policy.write_text("[budget]\nfile_bytes = '1 KiB'\n")
    ran = judge(folder)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "(was PASS): FAIL, file_bytes: size " in ran.stdout
    ran = judge(folder, "--no-policy")
    assert ran.returncode == 0
    assert ran.stdout.startswith("policy: none")


def test_what_cannot_be_judged_is_refused(judge, converted, tmp_path, refused):
    refused(judge(tmp_path / "nowhere.json"), 2, "there is no report")
    (tmp_path / "torn.json").write_text("{")
    refused(judge("torn.json"), 2, "is no report")
    (tmp_path / "other.toml").write_text("[outputs.scores]\nmax_abs = 1\n")
    refused(judge(converted("digits.pt").folder, "--policy", "other.toml"), 2, "'scores'", "logits")
    refused(judge(converted("digits.pt").folder, "--policy", "nowhere.toml"), 2, "there is no policy")
