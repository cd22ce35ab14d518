"""Learning a model's free dimensions by running it, those among them that must be equal."""

from __future__ import annotations

import pytest

from convert.errors import LoadError
from convert.sources._measure import measure_tied, tied
from convert.spec import specs_from


def attend(arrays):
    """Need two inputs of one length, as a model with a mask does."""
    return {"pooled": (arrays["ids"] * arrays["mask"]).sum(-1), "kept": arrays["ids"] * arrays["mask"]}


def test_lengths_that_must_be_equal_get_one_name():
    signature = measure_tied(attend, specs_from(["ids:int64[batch,ids_1]", "mask:int64[batch,mask_1]"]))
    assert [spec.shape for spec in signature.inputs] == [("batch", "axis_1")] * 2
    assert [spec.shape for spec in signature.outputs] == [("batch",), ("batch", "axis_1")]


def test_lengths_that_vary_by_themselves_keep_their_names():
    inputs = specs_from(["a:float32[batch,a_1]", "b:float32[batch,b_1]"])
    signature = measure_tied(lambda arrays: {"sum": arrays["a"].sum(-1) + arrays["b"].sum(-1)}, inputs)
    assert signature.inputs == inputs


def test_names_that_the_user_gave_are_kept():
    inputs = specs_from(["ids:int64[batch,words]", "mask:int64[batch,mask_1]"])
    assert tied(inputs) == inputs


def test_a_model_that_does_not_run_at_all_fails_with_its_first_error():
    def broken(arrays):
        raise ValueError(f"no {len(arrays)} inputs")

    with pytest.raises(LoadError, match="no 2 inputs"):
        measure_tied(broken, specs_from(["ids:int64[batch,ids_1]", "mask:int64[batch,mask_1]"]))
