"""Pictures: what is drawn, with titles, units and marks, and what is refused before a run."""

from __future__ import annotations

import dataclasses
import importlib.util
import random

import numpy as np
import pytest

from convert.errors import MissingExtra, UnknownName, UsageError
from convert.spec import Artifact, Signature
from validators.interval import Interval, Intervals
from validators.latency import Measurement
from validators.plots import distribution, draw, pictures, require_plots, sweep
from validators.report import TargetReport
from validators.swept import Swept, SweptPoint
from validators.verdict import Status

MS = 1_000_000


@pytest.fixture
def measured(tmp_path):
    rng = random.Random(0)
    wall = [int(2 * MS * rng.uniform(0.95, 1.1)) for _ in range(500)] + [900 * MS]
    np.save(tmp_path / "time.npy", np.array([wall, wall], np.int64))
    found = Measurement(1, 0.02, 0.01, 501, 0.00205, 0.00215, 0.05, 3 << 20, samples=(str(tmp_path / "time.npy"),))
    return dataclasses.replace(found, intervals=Intervals(Interval(0.0019, 0.0022, 0.95)))


def target(measured, *sweeps):
    artifact = Artifact("build/m.onnx", "onnx", "fp32", Signature((), ()), "", 0)
    return TargetReport("onnx", "fp32", Status.PASS, "", artifact, (), latency=(measured,), sweeps=sweeps)


def report(measured, *sweeps):
    from types import SimpleNamespace

    return SimpleNamespace(targets=(target(measured, *sweeps),))


def swept(measured):
    return Swept(
        "batch",
        (
            SweptPoint(8, 8, dataclasses.replace(measured, median_seconds=None, withheld="not stable"), 4 << 20),
            SweptPoint(1, 1, measured, 3 << 20),
            SweptPoint(64, 64, reason="was killed by SIGKILL"),
        ),
    )


WITHIN = Swept("batch", (SweptPoint(1, peak_bytes=9), SweptPoint(2, reason="killed")), "", 10, 1)


def words(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_a_distribution_marks_median_and_p90_and_says_what_it_leaves_out(measured):
    found = words(distribution("m.onnx", measured))
    assert "m.onnx: latency" in found
    for said in (
        "median 2.05 ms",
        "p90 2.15 ms",
        "median is between 1.9 ms and 2.2 ms",
        "wall time of one inference [ms]",
    ):
        assert said in found, found
    assert any("1 slower ones, up to 900 ms" in text for text in found)


def test_one_slow_run_does_not_flatten_the_others(measured):
    above, _ = distribution("m.onnx", measured).axes
    assert above.get_xlim()[1] < 3
    assert sum(patch.get_height() > 0 for patch in above.patches) > 20


def test_a_withheld_latency_is_drawn_and_said_to_be_withheld(measured):
    shaky = dataclasses.replace(measured, median_seconds=None, p90_seconds=None, withheld="it has two speeds")
    assert any("withheld: it has two speeds" in text for text in words(distribution("m", shaky)))


def test_a_sweep_shows_each_value_in_order_and_marks_what_is_missing(measured):
    figure = sweep("m.onnx", swept(measured))
    inference, _, memory = figure.axes
    assert [label.get_text() for label in inference.get_xticklabels()] == ["1", "8", "64"]
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "time of one inference [ms]",
        "time per item [ms]",
        "peak memory added [MiB]",
    ]
    assert list(inference.lines[0].get_xdata()) == [0], "what is withheld is no point"
    assert list(memory.lines[0].get_ydata()) == [3, 4]
    found = words(figure)
    assert found.count("not run") == 3
    assert found.count("wall withheld") == 2, "memory is not"
    assert any("64: was killed by SIGKILL" in text for text in found)


def test_every_artifact_and_every_sweep_is_a_picture(measured):
    names = [name for name, _ in pictures(report(measured, swept(measured), WITHIN, Swept("length", (), "not proven")))]
    assert names == ["onnx-latency-1", "onnx-sweep-batch", "onnx-batch-within"]


def test_pictures_are_files_in_each_format_and_the_same_again(measured, tmp_path):
    whole = report(dataclasses.replace(measured, samples=()), WITHIN)
    first, second = tmp_path / "a" / "b", tmp_path / "c"
    files = draw(whole, first, ("png", "svg"))
    assert [file.name for file in files] == ["onnx-batch-within.png", "onnx-batch-within.svg"]
    assert sorted(first.iterdir()) == sorted(files)
    draw(whole, second, ("png", "svg"))
    assert all(file.read_bytes() == (second / file.name).read_bytes() for file in files)
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in files[1].read_bytes()


def test_what_cannot_be_drawn_is_refused_before_anything_runs(tmp_path, monkeypatch):
    assert require_plots("", "") == ()
    assert require_plots("new", "") == ("png",)
    assert require_plots("new", "svg, png,svg") == ("svg", "png")
    with pytest.raises(UnknownName, match="pgn") as error:
        require_plots("new", "pgn")
    assert "'png'" in error.value.fix
    with pytest.raises(UsageError, match="no meaning") as error:
        require_plots("", "png")
    assert error.value.fix == "add --plots DIR"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        require_plots(str(tmp_path / "file"), "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra) as error:
        require_plots("new", "")
    assert error.value.fix == 'pip install "edgeproof[plots]"'
