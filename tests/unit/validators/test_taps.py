"""Tapped runs count only where their outputs are those of the untouched run, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from convert.errors import UnknownName
from convert.spec import SourceFile
from convert.worker import Environment
from validators.divergence import Value
from validators.runtimes import RUNTIMES, Runtime, Session, Subject
from validators.taps import TAPS, Tap, Tapping, Trace, series, tap, tap_for, tap_of
from validators.taps._torch_recorder import line_of
from validators.taps.litert import layers_of

NOTHING = Environment("nothing", ())


class Doubling:
    """A model that doubles its input; tapped, it errs by `off`, and names its first tensor after its input's size."""

    how = "doubled"

    def __init__(self, off=0.0):
        self.off = off

    def run(self, inputs):
        x = inputs["x"]
        values = (Value("x", ""), Value(f"half-{x.size}", "Mul", (0,)), Value("y", "Mul", (1,)))
        return Trace(values, [x, x * 1.5, x * 2 + self.off], (("y", 2),))


class Untouched(Session):
    """The same model as an engine runs it."""

    def run(self, inputs):
        return {"y": inputs["x"] * 2}


@pytest.fixture
def tapping(tmp_path):
    """Register an engine and a tap of it, and tap it on some cases."""
    RUNTIMES.register(Runtime("doubling", "Doubling", NOTHING, lambda _: Untouched()))
    made = []

    def run(cases, **settings):
        TAPS.register(Tap("doubling", NOTHING, formats=("doubled",), runtime="doubling", **settings))
        made.append("doubling")
        np.savez(tmp_path / "in.npz", **{f"{name}/x": array for name, array in cases.items()})
        subject = Subject(SourceFile("", "doubled", "", "", 0))
        return tap(Tapping("doubling", subject, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), tuple(cases)))

    yield run
    for name in made:
        TAPS.unregister(name)
    RUNTIMES.unregister("doubling")


ONE = np.arange(3, dtype=np.float32)


def test_a_tap_that_changes_nothing_is_used(tapping):
    found = tapping({"a": ONE, "b": ONE + 1}, open=lambda _: Doubling(), open_cut=None)
    assert (found.changed, found.cases, found.how) == ("", ("a", "b"), "doubled")
    read = series(found, ("a", "b"))
    np.testing.assert_array_equal(read.arrays[1][1], (ONE + 1) * 1.5)


def test_where_a_tap_changes_an_output_the_model_is_cut(tapping):
    cut = Doubling()
    cut.how = "cut"
    found = tapping({"a": ONE}, open=lambda _: Doubling(1e-6), open_cut=lambda _: cut)
    assert (found.changed, found.how) == ("", "cut")


def test_where_it_cannot_be_cut_the_change_is_said(tapping):
    assert tapping({"a": ONE}, open=lambda _: Doubling(1e-6)).changed == "y"


def test_cases_on_which_other_operators_run_are_left_out(tapping):
    assert tapping({"a": ONE, "b": ONE[:2], "c": ONE}, open=lambda _: Doubling()).cases == ("a", "c")


@pytest.mark.parametrize("find", [tap_for, tap_of])
def test_what_nothing_taps_is_answered_with_what_can_be(find):
    with pytest.raises(UnknownName, match="no tap"):
        find("savedmodel")


def test_names_that_litert_torch_joins_are_split_into_layers():
    assert layers_of("model/stem/2;;model/stem/1;;model/stem/0;2") == ("model/stem/2", "model/stem/1", "model/stem/0")


def test_the_line_of_a_printed_stack_is_the_users_own():
    stack = 'File "/home/net.py", line 12, in forward\n  y = self.a(x)\nFile "/lib/torch/nn/a.py", line 3, in forward'
    assert line_of(stack) == "net.py:12"
    assert line_of("") == ""
