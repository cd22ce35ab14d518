"""The tree of errors: what users see, which exit code it has, and how an error leaves a worker."""

from __future__ import annotations

import re

import pytest

from convert import errors
from convert.errors import EdgeproofError, StageFailed, UnknownName, UsageError, by_name


def tree(cls: type[EdgeproofError] = EdgeproofError) -> list[type[EdgeproofError]]:
    """All classes of the tree that the module itself defines."""
    below = [inner for child in cls.__subclasses__() if child.__module__ == "convert.errors" for inner in tree(child)]
    return [cls, *below]


def test_an_error_shows_its_message_and_its_fix():
    assert str(UsageError("the door is shut", fix="open it")) == "the door is shut\nfix: open it"


def test_an_error_without_a_fix_does_not_promise_one():
    assert str(UsageError("the door is shut")) == "the door is shut"


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_error_is_in_the_drawing_of_the_tree_at_its_depth(cls):
    depth = len(cls.__mro__) - len(EdgeproofError.__mro__)
    line = next(line for line in errors.__doc__.splitlines() if re.search(rf"\b{cls.__name__}\b", line))
    assert len(re.match(r"[│├└─ ]*", line)[0]) == 4 * depth


def test_the_drawing_names_no_error_that_is_not_there():
    drawn = re.findall(r"^[│├└─ ]*([A-Z]\w+)", errors.__doc__.partition("\n\n")[2], re.MULTILINE)
    assert sorted(drawn) == sorted(cls.__name__ for cls in tree())


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_what_the_user_got_wrong_exits_with_2_and_what_could_not_be_made_with_3(cls):
    assert cls.exit_code == (2 if issubclass(cls, UsageError) else 3)


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_an_error_is_found_again_by_its_name(cls):
    assert by_name(cls.__name__) is cls


def test_an_error_of_a_plug_in_is_found_again_by_its_name():
    class NewKindOfError(errors.RouteError):
        """Defined outside the tree's own module."""

    assert by_name("NewKindOfError") is NewKindOfError


@pytest.mark.parametrize("name", ["ValueError", "NoSuchError", ""])
def test_an_error_that_is_not_ours_is_a_failed_stage(name):
    assert by_name(name) is StageFailed


@pytest.mark.parametrize(("typed", "meant"), [("tflte", "tflite"), ("TFLITE", "tflite"), ("onx", "onnx")])
def test_a_misspelt_name_is_answered_with_the_nearest(typed, meant):
    error = UnknownName.among("format", typed, ["tflite", "onnx", "torchscript"])
    assert repr(typed) in error.message
    assert f"did you mean {meant!r}" in error.fix


def test_a_name_like_no_other_is_answered_with_all_of_them():
    error = UnknownName.among("format", "xyz", ["tflite", "onnx"])
    assert "did you mean" not in error.fix
    assert "onnx, tflite" in error.fix
