"""Reading what benchmark tools print: of old versions and of today's, and nothing that is not there."""

from __future__ import annotations

import pytest
from device_tools import CLASSIC, PERF_TEST, TODAY, TOO_NEW

from convert.errors import UsageError
from validators.benchmarks import BENCHMARKS, Ask, benchmark_for

MIB = 1 << 20
LITERT, ORT = BENCHMARKS["benchmark_model"], BENCHMARKS["onnxruntime_perf_test"]
ASK = Ask("model/net", 4, 64, 1.0, 10.0, 3, 0.1, (("batch", 1), ("length", 16)))


def test_an_old_benchmark_model_tells_an_average_and_no_median():
    told = LITERT.read(CLASSIC)

    assert (told.load_seconds, told.first_seconds) == pytest.approx((0.03148, 0.04123))
    assert (told.runs, told.warm_up_runs) == (64, 5)
    assert (told.mean_seconds, told.fastest_seconds, told.slowest_seconds, told.deviation_seconds) == pytest.approx(
        (0.0204889, 0.020344, 0.021876, 0.000211)
    )
    assert told.percentiles == {}
    assert "no median" in told.untold["median_seconds"]
    assert (told.memory.load.resident, told.memory.run.resident) == (17.5 * MIB, 26.25 * MIB)


def test_a_benchmark_model_of_today_tells_a_median_and_the_95th_percentile():
    told = LITERT.read(TODAY)

    assert told.load_seconds == pytest.approx(0.004478)
    assert told.first_seconds == pytest.approx(0.001033), "of the warm-up, not of what counts"
    assert told.runs == 2112
    assert told.percentiles == pytest.approx({5: 460e-6, 50: 462e-6, 95: 478e-6})
    assert "median_seconds" not in told.untold
    assert told.memory.run.resident == 11.5 * MIB
    assert told.memory.run.anonymous is None
    assert told.process_peak_bytes is None
    assert told.notes == (
        "the tool does not know and ignored --no_such_flag=1",
        "TfLiteXNNPackDelegate runs 62 of 64 nodes",
    )


def test_a_peak_that_was_asked_for_is_read():
    more = "Overall peak memory footprint (MB) via periodic monitoring: 93.25\n"
    told = LITERT.read(CLASSIC + more)

    assert told.process_peak_bytes == 93.25 * MIB
    assert "process_peak_bytes" not in told.untold


def test_runs_that_all_took_the_same_are_read():
    text = "Initialized session in 1.5ms.\ncount=1 curr=40\n\ncount=64 curr=15(all same)\n"
    told = LITERT.read(text)

    assert told.first_seconds == pytest.approx(40e-6)
    assert (told.mean_seconds, told.percentiles[50], told.deviation_seconds) == pytest.approx((15e-6, 15e-6, 0))


def test_perf_test_tells_percentiles_and_the_peak_of_its_whole_process():
    told = ORT.read(PERF_TEST)

    assert (told.load_seconds, told.first_seconds, told.runs) == pytest.approx((0.0417, 0.012, 1093))
    assert told.mean_seconds == pytest.approx(0.009151052)
    assert told.percentiles == pytest.approx({50: 0.0091377, 90: 0.00928, 95: 0.00951, 99: 0.0112})
    assert (told.fastest_seconds, told.slowest_seconds) == pytest.approx((0.00881, 0.0140212))
    assert told.process_peak_bytes == 66453504
    assert told.memory is None
    assert "whole process" in told.untold["peak_added_bytes"]


def test_perf_test_before_1_24_is_read_too():
    assert ORT.read(PERF_TEST.replace("cost total:", "cost:")).mean_seconds == pytest.approx(0.009151052)


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (LITERT, ""),
        (LITERT, TOO_NEW),
        (LITERT, CLASSIC.partition("count=64")[0]),
        (LITERT, CLASSIC.replace("count=64", "count=0")),
        (LITERT, "Initialized session in 1.5ms.\n"),
        (ORT, ""),
        (ORT, "Session creation time cost: 0.04 s\n"),
        (ORT, PERF_TEST.replace("requests: 1093", "requests: 0")),
    ],
    ids=["nothing", "too new", "half of it", "no runs", "no statistics", "nothing", "only opened", "no requests"],
)
def test_what_is_not_whole_is_not_read(tool, text):
    assert tool.read(text) is None


def test_everything_that_a_tool_does_not_tell_has_a_reason():
    for tool, text in ((LITERT, CLASSIC), (LITERT, TODAY), (ORT, PERF_TEST)):
        told = tool.read(text)
        shown = {name for share, name in ((50, "median_seconds"), (90, "p90_seconds")) if share not in told.percentiles}
        unknown = {name for name in ("memory", "process_peak_bytes", "deviation_seconds") if not getattr(told, name)}
        assert shown | unknown | {"cpu_median_seconds", "spread"} <= set(told.untold), tool.name


def test_tools_are_called_as_they_want_to_be():
    assert "--num_threads=4" in LITERT.words(ASK)
    assert "--graph=model/net" in LITERT.words(ASK)
    assert not any("peak_memory" in word for word in LITERT.words(ASK)), "watching memory slows what is timed"
    words = " ".join(ORT.words(ASK))
    assert "-x 4" in words
    assert "-f batch:1 -f length:16" in words
    assert words.endswith("model/net")


def test_a_format_that_no_tool_times_is_refused():
    with pytest.raises(UsageError, match="no tool is known that times torchscript") as refused:
        benchmark_for("torchscript")
    assert "onnx, tflite" in refused.value.fix
