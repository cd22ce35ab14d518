"""The bench of latency tells what was measured: who agrees, what comparisons said, and goes on where it stopped."""

from __future__ import annotations

import bench_latency
import latency_page
import latency_results
import pytest
from latency_page import BEGIN, END
from latency_results import CONTESTS, ROUNDS, Agreement, Contest, Side, agreement, contest, keep, tool_of
from latency_sides import SIDES, Watch

MODEL = next(iter(latency_results.SUBJECTS))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of results of its own, so that those of a real bench stay as they are."""
    monkeypatch.setattr(latency_results, "FOLDER", tmp_path)
    return tmp_path


def timed(ours, theirs, form="onnx", model=MODEL, rounds=ROUNDS, **more):
    memory = [{"load": 1 << 20, "run": (2 << 20) + 4096 * (number % 2)} for number in range(rounds)]
    sides = dict.fromkeys(SIDES[form], theirs) | {"reported": ours}
    turns = tuple({name: Side(took, took, 256, held) for name, took in sides.items()} for held in memory)
    result = Agreement(model, form, tool_of(), turns, {"onnxruntime": "1.2"}, {"cores": "2"}, **more)
    keep(result)
    return result


def page(tmp_path):
    path = tmp_path / "latency.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    latency_page.write(path)
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "\nold\n" not in text
    return text


def test_a_median_within_three_per_cent_of_the_other_tools_agrees(tmp_path):
    timed(1.02e-3, 1e-3)
    assert "Within 3% in CPU time: 1 of 1 that take 1.000 ms or more, 1 of 1 in all." in page(tmp_path)

    timed(1.04e-3, 1e-3)
    text = page(tmp_path)
    assert "Within 3% in CPU time: 0 of 1 that take" in text
    assert "1.040 (1.040 to 1.040)" in text
    assert "| 40.0 µs |" in text, "the difference is said as a number"


def test_short_inferences_are_counted_apart(tmp_path):
    timed(1.2e-4, 1e-4)

    assert "Within 3% in CPU time: 0 of 0 that take 1.000 ms or more, 0 of 1 in all." in page(tmp_path)


def test_what_inputs_and_outputs_take_is_said_beside_what_is_reported(tmp_path):
    timed(8e-6, 20e-6, "tflite")

    assert "| tflite | 8.0 µs | 20.0 µs | 2.500 (2.500 to 2.500) | 12.0 µs |" in page(tmp_path)


def test_what_could_not_be_timed_says_so_and_agrees_with_nothing(tmp_path):
    keep(Agreement(MODEL, "onnx", tool_of(), error="it could not be converted"))

    text = page(tmp_path)
    assert "it could not be converted" in text
    assert "0 of 0" in text


def test_memory_says_how_far_processes_differ(tmp_path):
    timed(1e-3, 1e-3)

    assert "| 1,024 KiB | 0.00% | 2,048 KiB | 0.20% |" in page(tmp_path)


def test_verdicts_of_comparisons_are_counted(tmp_path):
    for extra, verdicts in ((0.0, ("same", "cannot tell")), (0.10, ("slower", "same"))):
        for seed, verdict in enumerate(verdicts):
            keep(Contest(extra, seed, tool_of(), verdict, 1 + extra, 1, 1.2, 0.01, 20.0 + 100 * seed))

    text = page(tmp_path)
    assert "| itself | 0 | 0 | 1 | 1 | 1.000 | 20 to 120 |" in text
    assert "| 10% more | 1 | 0 | 1 | 0 | 1.100 | 20 to 120 |" in text


def test_results_of_other_code_are_counted(tmp_path):
    keep(Agreement(MODEL, "onnx", "other", timed(1e-3, 1e-3).rounds))

    assert "Results made by other code of the tool than this: 1 of 1." in page(tmp_path)


def test_a_page_without_its_markers_is_not_written(tmp_path):
    path = tmp_path / "other.md"
    path.write_text("mine\n")
    with pytest.raises(ValueError, match="must have each of these once"):
        latency_page.write(path)
    assert path.read_text() == "mine\n"


def test_rounds_that_are_there_are_not_gone_again(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_latency, "job_of", lambda path, folder: folder)
    gone = []

    def side(name, job, runs):
        gone.append(name)
        return Side(1e-3, 1e-3, runs)

    monkeypatch.setattr(bench_latency, "side", side)
    kept = timed(1e-3, 1e-3, rounds=ROUNDS - 2)

    result = bench_latency.agree(MODEL, "onnx", tmp_path, kept)

    assert len(result.rounds) == ROUNDS
    assert len(gone) == 2 * len(SIDES["onnx"])
    assert gone[:2] != gone[2:], "sides take turns, forwards and backwards"
    assert agreement(MODEL, "onnx") == result


def test_results_are_taken_again_where_code_or_an_error_asks_for_it():
    assert bench_latency.current(timed(1e-3, 1e-3))
    assert not bench_latency.current(None)
    assert not bench_latency.current(Agreement(MODEL, "onnx", "other"))
    assert not bench_latency.current(Contest(0.0, 0, tool_of(), error="it failed"))


def test_a_damaged_result_is_measured_again(folder):
    timed(1e-3, 1e-3)
    latency_results.path_of(f"{MODEL}.onnx").write_text("{")
    assert agreement(MODEL, "onnx") is None
    assert contest(next(iter(CONTESTS)), 0) is None


def test_a_clock_that_is_listened_to_tells_cpu_time_of_the_same_pieces():
    watch = Watch()
    began = watch.perf_counter()
    sum(range(300_000))
    ended = watch.perf_counter()

    assert ended - began == watch.shown[1] - watch.shown[0] > 0
    assert 0 < watch.computed[1] - watch.computed[0] <= 1.5 * (ended - began)


def test_what_an_app_waits_for_is_more_than_what_is_reported(samples, tmp_path):
    pytest.importorskip("ai_edge_litert")
    job = bench_latency.job_of(samples / "digits.tflite", tmp_path)

    rounds = [[bench_latency.side(name, job, 2000).cpu for name in ("run", "reported")] for _ in range(6)]
    whole, reported = map(min, zip(*rounds, strict=True))  # what else runs here makes single ones longer

    assert whole > 1.2 * reported


def test_litert_benchmark_is_listened_to_run_by_run(samples, tmp_path):
    pytest.importorskip("ai_edge_litert")
    job = bench_latency.job_of(samples / "digits.tflite", tmp_path)

    found = bench_latency.side("litert-benchmark", job, 50)

    assert found.runs == 50
    assert 1e-7 < found.wall < 1e-2
    assert 1e-7 < found.cpu < 1e-2
