"""TFLite files as sources: what they take and give, and those a stock interpreter cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convert.errors import LoadError, UnknownName, UsageError
from convert.formats import tflite as tflite_format
from convert.plan import Wish, candidates
from convert.sources import SOURCES, identify, load
from convert.sources._tflite import choose
from convert.spec import LoadOptions, TensorSpec
from validators.runtimes import Subject, reference_for

SAMPLE = Path(__file__).parents[3] / "samples" / "digits.tflite"


def test_its_signature_is_read_with_its_free_batch_and_its_outputs_are_measured():
    facts = load(identify(SAMPLE), LoadOptions()).facts
    assert str(facts.signature) == "(image:float32[batch,8,8,1]) -> (logits:float32[batch,10])"
    assert facts.parameters == 6090


def test_it_is_narrowed_as_stated():
    stated = LoadOptions(inputs=(TensorSpec.parse("image:float32[1,8,8,1]"),))
    assert str(load(identify(SAMPLE), stated).facts.signature.outputs[0]) == "logits:float32[1,10]"


def test_a_file_without_a_signature_is_run_by_its_tensors(tmp_path):
    bare = tmp_path / "bare.tflite"
    model = tflite_format.read_model(SAMPLE)
    model.signatureDefs = None
    tflite_format.write_model(bare, model)
    image = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    found = [load(identify(path), LoadOptions()).model for path in (SAMPLE, bare)]
    with_it, without = (model.run(dict.fromkeys(model.inputs, image)) for model in found)
    for one, other in zip(with_it.values(), without.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_file_is_refused(tmp_path):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(SAMPLE.read_bytes()[:200])
    with pytest.raises(LoadError, match="cannot load") as caught:
        load(identify(cut), LoadOptions())
    assert caught.value.fix


def test_an_operator_that_a_stock_interpreter_lacks_is_refused_with_a_fix(tmp_path):
    foreign = tmp_path / "foreign.tflite"
    model = tflite_format.read_model(SAMPLE)
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32  # CUSTOM
    model.operatorCodes[0].customCode = b"Fancy"
    tflite_format.write_model(foreign, model)
    with pytest.raises(LoadError, match="Fancy") as caught:
        load(identify(foreign), LoadOptions())
    assert "built-in operators" in caught.value.fix


def test_the_signature_is_chosen_by_name_then_the_default_then_the_only_one():
    path = Path("model.tflite")
    assert choose(path, ("encode", "decode"), "decode") == "decode"
    assert choose(path, ("encode", "serving_default"), "") == "serving_default"
    assert choose(path, ("encode",), "") == "encode"
    assert choose(path, (), "") == ""
    with pytest.raises(UsageError, match="several signatures"):
        choose(path, ("encode", "decode"), "")
    with pytest.raises(UnknownName, match="no signature in model"):
        choose(path, ("encode",), "decode")


def test_it_has_no_oracle():
    with pytest.raises(LoadError, match="no kernels in float64"):
        reference_for("tflite").open(Subject(identify(SAMPLE), dtype="float64"))


@pytest.mark.parametrize("kind", sorted(set(SOURCES.names()) - {"tflite"}))
def test_no_other_model_goes_through_tflite_to_onnx(kind):
    for form in ("onnx", "torchscript"):
        assert not [plan.name for plan in candidates(Wish(kind), form) if "tflite-tf2onnx" in plan.name]


def test_onnx_takes_no_detour_over_torchscript_to_where_it_can_go_at_once():
    assert not [plan.name for plan in candidates(Wish("onnx"), "tflite") if len(plan.routes) > 1]


def test_nothing_goes_round_in_circles():
    for kind in ("onnx", "tflite"):
        for form in ("onnx", "tflite", "torchscript"):
            for plan in candidates(Wish(kind), form):
                assert kind not in [route.gives for route in plan.routes[:-1]]
                assert kind != form or len(plan.routes) == 1
