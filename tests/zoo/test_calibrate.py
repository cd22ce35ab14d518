"""The bounds are held against right exports and planted faults, and the command that does it tells the truth."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import calibrate
import calibrate_results
import numpy as np
import planted
import pytest
import separation
from calibrate_page import BEGIN, END
from calibrate_results import BEFORE, NUMBERS, Export, Figures, Judged, Result, decoded, faint, keep, read, tool_of
from cells import Store
from halves import BY_NAME, CALIBRATION, FORMATS, FP32, HELD_OUT, SUBJECTS, Subject
from models import BUILDABLE, ENTRIES, UNSEEN
from precision_results import SUBJECTS as PRECISION_SUBJECTS
from separation import curve

from validators import tolerance
from validators.inputs import CaseSet
from validators.mutants import AXES, SCALE, SCALED
from validators.structure import Binding
from validators.verdict import OutputParity, Status

#: Small ones of a kind of source each, with the format that is made of them here.
SLICE = (("torch/hand_named", "onnx"), ("torch/hand_hyper", "torchscript"))

HELD, USED = (next(s.name for s in SUBJECTS if s.half == half) for half in (HELD_OUT, CALIBRATION))

GOOD = Figures("y", "PASS", "float64", ratio=1.1, case_ratio=1.5, rmse=1e-6, rms=0.5, noise=9e-7, close=1e-3)
RIGHT = Judged("PASS", "36 cases", (GOOD,))
BAD = dataclasses.replace(GOOD, status="FAIL", ratio=4e3, case_ratio=9e3, rmse=4e-3)
CAUGHT = Judged("FAIL", "errs 4e3 times", (BAD,), SCALED, "w", SCALE, NUMBERS, moved=4e3)
SURVIVOR = Judged("PASS", "errs 5 times", (dataclasses.replace(GOOD, ratio=5.0),), SCALED, "w2", SCALE, moved=5.0)
HIDDEN = dataclasses.replace(SURVIVOR, where="w3", moved=0.4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results of its own, so that those of a real calibration stay as they are."""
    monkeypatch.setattr(calibrate_results, "FOLDER", tmp_path)
    monkeypatch.setattr(calibrate, "FOLDER", tmp_path)
    return tmp_path


def kept(name: str, *faults: Judged, right: Judged = RIGHT, agreed: bool | None = True) -> Result:
    """Keep a result as if it had been measured by this code."""
    export = Export(name, "onnx", FP32, "torch-onnx", right, agreed, "7 dB" if agreed is False else "", faults)
    found = Result(name, BY_NAME[name].half, tool_of(), calibrate_results.built_as(name), exports=(export,))
    keep(found)
    return found


def outcome(name: str, folder: Path) -> tuple[int, str]:
    """Run the command on one model, and give its exit code and the page it wrote."""
    page = folder / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return calibrate.main(["--only", name, "--page", str(page)]), page.read_text()


@pytest.mark.parametrize(("name", "form"), SLICE, ids=[name for name, _ in SLICE])
def test_a_right_export_passes_its_faults_are_caught_and_the_page_is_written(
    name: str, form: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(name, HELD_OUT, "a small one")
    monkeypatch.setattr(calibrate, "FORMATS", (form,))
    monkeypatch.setattr(calibrate, "SUBJECTS", (subject,))
    monkeypatch.setattr("calibrate_page.SUBJECTS", (subject,))
    for module in ("calibrate_page", "calibrate_results"):
        monkeypatch.setattr(f"{module}.BY_NAME", {name: subject})
    monkeypatch.setattr(calibrate, "Store", lambda: Store(folder))
    code, page = outcome(name, folder)
    found = read(name)
    assert code == 0, calibrate.line(found, kept=False)
    (export,) = found.exports
    assert export.form == form
    assert export.right.status == "PASS"
    assert export.agreed is True, export.check
    assert export.right.outputs[0].close < separation.CLOSE_BOUND
    strong = [fault for fault in export.faults if not faint(fault)]
    assert len(strong) >= 4
    assert {fault.kind for fault in strong} >= {SCALED, AXES}
    assert all(fault.caught for fault in strong if fault.counts)
    assert any(fault.told_by == NUMBERS and fault.moved > 100 for fault in strong)
    assert next(fault for fault in strong if fault.kind == AXES).told_by == BEFORE
    weak = [fault for fault in export.faults if faint(fault)]
    same = {fault.where: fault for fault in strong if fault.kind == SCALED}
    assert weak
    assert all(fault.moved < same[fault.where].moved / 5 for fault in weak), "a tenth of the fault moves a tenth"
    assert "1 models" in page
    assert f"{len([f for f in strong if f.counts])} of {len([f for f in strong if f.counts])} (100.0%)" in page
    monkeypatch.setattr(calibrate, "measure", lambda *_: pytest.fail("a kept result is taken again"))
    assert calibrate.main(["--only", name, "--page", ""]) == 0


def test_a_right_export_that_is_refused_ends_with_1_and_is_named(folder: Path, capsys) -> None:
    refused = Judged("FAIL", "y: errs 9 times what its source does, bound 8", (dataclasses.replace(GOOD, ratio=9.0),))
    kept(HELD, right=refused)
    code, page = outcome(HELD, folder)
    assert code == 1
    assert "REFUSED" in capsys.readouterr().out
    assert f"held out, refused: {HELD}, onnx fp32" in page
    assert "errs 9 times" in page


def test_what_cannot_be_judged_is_not_accepted(folder: Path) -> None:
    kept(HELD, right=Judged("NOT_RUN", "vacuous"))
    assert outcome(HELD, folder)[0] == 1


def test_a_wrong_export_is_no_false_alarm_and_one_that_passes_ends_with_1(folder: Path) -> None:
    kept(HELD, right=Judged("FAIL", "errs 3e3 times", (BAD,)), agreed=False)
    code, page = outcome(HELD, folder)
    assert code == 0
    assert "1 of 1 (100.0%)" in page.split("wrong exports")[1].splitlines()[0]
    kept(HELD, agreed=False)
    code, page = outcome(HELD, folder)
    assert code == 1
    assert "called right and wrong by another check" in page


def test_a_fault_that_survives_ends_with_1_and_is_named(folder: Path, capsys) -> None:
    kept(HELD, CAUGHT, SURVIVOR)
    code, page = outcome(HELD, folder)
    assert code == 1
    assert "SURVIVED" in capsys.readouterr().out
    assert "held out, survived" in page
    assert "`w2`" in page
    assert "1 of 2 (50.0%)" in page


def test_a_fault_that_nobody_could_see_is_named_and_not_counted(folder: Path) -> None:
    harmless = dataclasses.replace(SURVIVOR, where="w4", no_worse=True)
    kept(HELD, CAUGHT, HIDDEN, harmless)
    code, page = outcome(HELD, folder)
    assert code == 0
    assert page.count("held out, not counted and not caught") == 2
    assert "`w3`" in page
    assert "`w4`" in page
    assert "1 of 1 (100.0%)" in page


def test_only_models_that_no_bound_was_set_with_decide(folder: Path) -> None:
    kept(USED, SURVIVOR)
    code, page = outcome(USED, folder)
    assert code == 0
    assert "calibration, survived" in page


def test_a_model_that_fails_is_a_result_and_the_others_are_judged(folder: Path, monkeypatch, capsys) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("it cannot be built")

    other = next(s.name for s in SUBJECTS if s.half == HELD_OUT and s.name != HELD)
    kept(other, CAUGHT)
    monkeypatch.setattr(Store, "model", fails)
    page = folder / "page.md"
    page.write_text(f"{BEGIN}{END}")
    assert calibrate.main(["--only", f"{HELD},{other}", "--page", str(page)]) == 1
    said = capsys.readouterr().out
    assert "NOT JUDGED: RuntimeError: it cannot be built" in said
    assert "1 of 1 faults caught" in said
    assert f"could not be judged: {HELD}" in page.read_text()
    assert calibrate.kept_result(BY_NAME[HELD], stale=False) is None, "it is tried again next time"


def test_what_time_leaves_out_is_no_success(folder: Path) -> None:
    assert calibrate.main(["--only", HELD, "--minutes", "0", "--page", ""]) == 1


def test_a_result_is_taken_again_only_while_tool_and_model_are_the_same(folder: Path) -> None:
    found = kept(HELD, CAUGHT)
    subject = BY_NAME[HELD]
    assert calibrate.kept_result(subject, stale=False) == found
    keep(dataclasses.replace(found, tool="older"))
    assert calibrate.kept_result(subject, stale=False) is None
    assert calibrate.kept_result(subject, stale=True) is not None
    keep(dataclasses.replace(found, built_as="otherwise"))
    assert calibrate.kept_result(subject, stale=True) is None
    calibrate_results.path_of(HELD).write_text("{")
    assert calibrate.kept_result(subject, stale=True) is None


def test_a_result_is_read_as_it_was_kept(folder: Path) -> None:
    found = kept(HELD, CAUGHT, dataclasses.replace(HIDDEN, moved=math.inf))
    assert decoded(json.loads(json.dumps(dataclasses.asdict(found)))) == found == read(HELD)


def test_a_page_without_its_markers_is_refused(folder: Path) -> None:
    kept(HELD, CAUGHT)
    page = folder / "page.md"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="must have each of these once"):
        calibrate.main(["--only", HELD, "--page", str(page)])


def test_an_unknown_model_ends_the_command_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"no model is named 'nothing'; there are .*torch/hand_block"):
        calibrate.main(["--only", "nothing"])


def answered(folder: Path, name: str, values: list[float], rmse: float, noise: float | None = 1e-6) -> SimpleNamespace:
    """What is asked of a proof: an artifact's answers to two cases, and how far they are from float64."""
    np.savez(folder / f"{name}.npz", **{f"{case}/out": np.array(values, np.float64) for case in "ab"})
    output = OutputParity("y", Status.PASS, "", "float64", 4, rmse=rmse, reference_noise_rmse=noise, reference_rms=1.0)
    binding = Binding((), (("y", "out"),), ())
    ran = SimpleNamespace(path=str(folder / f"{name}.npz"))
    return SimpleNamespace(ran=ran, ideal=None, binding=binding, facts=None, parity=SimpleNamespace(outputs=(output,)))


def test_what_a_fault_moves_is_held_against_what_must_be_erred(tmp_path: Path) -> None:
    baseline = SimpleNamespace(cases=CaseSet("", (("a", ()), ("b", ()))))
    faulty = answered(tmp_path, "faulty", [1.0 + 2e-6, -1.0 - 2e-6], 2e-6)

    def moved(right: SimpleNamespace) -> planted.Movement:
        return planted.movement(baseline, right, faulty)

    assert moved(answered(tmp_path, "right", [1.0, -1.0], 1e-6)).share == pytest.approx(2.0)
    assert moved(answered(tmp_path, "rough", [1.0, -1.0], 4e-6)).share == pytest.approx(0.5)
    assert moved(answered(tmp_path, "unknown", [1.0, -1.0], 1e-6, None)).share is None
    assert moved(answered(tmp_path, "other", [1.0, -1.0, 0.0], 1e-6)).share is None, "shapes differ: nothing compares"
    assert moved(faulty).idle
    assert not moved(answered(tmp_path, "right", [1.0, -1.0], 1e-6)).idle


def test_a_fault_is_no_worse_only_where_it_is_as_near_to_float64(tmp_path: Path) -> None:
    right, rough = (answered(tmp_path, "right", [1.0], rmse) for rmse in (5e-7, 3e-6))
    near, far = (answered(tmp_path, "faulty", [1.0], rmse) for rmse in (9e-7, 2e-6))
    assert planted.no_worse(right, near), "nearer than the source itself"
    assert not planted.no_worse(right, far)
    assert planted.no_worse(rough, far), "nearer than the right file"
    far.ideal = SimpleNamespace(path="")
    assert not planted.no_worse(rough, far), "said of fp32 only"


def test_a_curve_says_where_bounds_separate_and_where_none_does() -> None:
    clear = curve("R", 8.0, [1.0, 2.0, None], [20.0, math.inf])
    assert (clear.rights, clear.faults, clear.auc) == (2, 2, 1.0)
    assert clear.separating == (2.0, 20.0)
    assert (clear.refused, clear.caught) == (0, 2)
    mixed = curve("R", 8.0, [1.0, 9.0], [3.0, 10.0])
    assert mixed.separating is None
    assert mixed.auc == 0.75  # of four pairs of a right and a faulty one, three are in order
    assert (mixed.refused, mixed.caught) == (1, 1)
    assert curve("R", None, [1.0], []).auc is None


def test_r_as_judged_knows_the_floor_and_the_worst_case() -> None:
    assert separation.as_judged(RIGHT) == pytest.approx(1.1)
    below = dataclasses.replace(GOOD, ratio=300.0, rmse=tolerance.FLOOR * GOOD.rms / 2)
    assert separation.as_judged(Judged("PASS", "", (below,))) == pytest.approx(1.5 / tolerance.CASE_FACTOR)
    assert separation.ratio(Judged("PASS", "", (below,))) == 300.0
    one_case = dataclasses.replace(GOOD, case_ratio=160.0)
    assert separation.as_judged(Judged("FAIL", "", (one_case,))) == pytest.approx(160.0 / tolerance.CASE_FACTOR)
    assert separation.as_judged(Judged("FAIL", "", (dataclasses.replace(GOOD, basis="equality"),))) is None


def test_the_halves_share_no_network_and_what_set_a_bound_is_not_held_out() -> None:
    assert len(BY_NAME) == len(SUBJECTS)
    assert set(BY_NAME) <= set(BUILDABLE)
    held = [subject for subject in SUBJECTS if subject.half == HELD_OUT]
    builders = {half: {(BUILDABLE[s.name].builder, BUILDABLE[s.name].arguments) for s in SUBJECTS if s.half == half}
                for half in (HELD_OUT, CALIBRATION)}  # fmt: skip
    assert not builders[HELD_OUT] & builders[CALIBRATION]
    assert not {subject.name for subject in held} & set(PRECISION_SUBJECTS)
    assert sum(len(FORMATS) * len(subject.precisions) for subject in held) >= 30


def test_unseen_networks_are_in_no_table_of_the_zoo() -> None:
    assert not {entry.name for entry in UNSEEN} & {entry.name for entry in ENTRIES}
    assert not {entry.arguments for entry in UNSEEN} & {entry.arguments for entry in ENTRIES}
    assert any(entry.name in BY_NAME for entry in UNSEEN)


@pytest.mark.slow
def test_no_right_export_of_models_that_no_bound_was_set_with_is_refused() -> None:
    found = []
    for subject in SUBJECTS:
        if subject.half == HELD_OUT:
            result = calibrate.kept_result(subject, stale=False)
            if result is None:
                result = calibrate.measure(subject, Store())
                keep(result)
            found.append(result)
    rights = [export for result in found for export in result.rights]
    assert [f"{result.model}: {result.error}" for result in found if result.error] == []
    assert len(rights) >= 30
    assert [f"{export.label}: {export.right.reason}" for export in rights if export.refused] == []
