"""The contract: what an artifact says of itself against what its source promises."""

from __future__ import annotations

import dataclasses

import pytest

from convert.formats import Foreign
from convert.spec import Signature, TensorSpec
from validators.runtimes import Feed
from validators.structure import BY_NAME, BY_POSITION, judge
from validators.verdict import Status


def signature(inputs: str, outputs: str) -> Signature:
    return Signature(*(tuple(TensorSpec.parse(text) for text in side.split()) for side in (inputs, outputs)))


PROMISED = signature(
    "left:float32[batch,1,8,4] right:float32[batch,1,8,4]", "digit:float32[batch,10] parity:float32[batch,2]"
)


def broken(side: str, before: str, after: str) -> Signature:
    """Give the promised signature with one side's text changed."""
    text = {"inputs": " ".join(map(str, PROMISED.inputs)), "outputs": " ".join(map(str, PROMISED.outputs))}
    assert before in text[side]
    text[side] = text[side].replace(before, after)
    return signature(text["inputs"], text["outputs"])


BREAKAGES = {
    "renamed input": broken("inputs", "left:", "args_0:"),
    "renamed output": broken("outputs", "digit:", "output_0:"),
    "reordered inputs": Signature(PROMISED.inputs[::-1], PROMISED.outputs),
    "reordered outputs": Signature(PROMISED.inputs, PROMISED.outputs[::-1]),
    "missing input": Signature(PROMISED.inputs[:1], PROMISED.outputs),
    "missing output": Signature(PROMISED.inputs, PROMISED.outputs[:1]),
    "no outputs": Signature(PROMISED.inputs, ()),
    "one output twice": Signature(PROMISED.inputs, (PROMISED.outputs[0],) * 2),
    "extra output": Signature(PROMISED.inputs, (*PROMISED.outputs, TensorSpec("mask", "bool", ("batch",)))),
    "widened input": broken("inputs", "left:float32", "left:float64"),
    "widened output": broken("outputs", "digit:float32", "digit:float64"),
    "narrowed output": broken("outputs", "digit:float32", "digit:float16"),
    "output of integers": broken("outputs", "digit:float32", "digit:int32"),
    "dropped axis": broken("outputs", "[batch,10]", "[batch]"),
    "added axis": broken("outputs", "[batch,10]", "[1,batch,10]"),
    "dropped input axis": broken("inputs", "left:float32[batch,1,8,4]", "left:float32[batch,8,4]"),
    "transposed input": broken("inputs", "left:float32[batch,1,8,4]", "left:float32[batch,1,4,8]"),
    "channels last": broken("inputs", "left:float32[batch,1,8,4]", "left:float32[batch,8,4,1]"),
    "transposed output": broken("outputs", "digit:float32[batch,10]", "digit:float32[10,batch]"),
    "wider output": broken("outputs", "digit:float32[batch,10]", "digit:float32[batch,11]"),
}


@pytest.mark.parametrize("match", [BY_NAME, BY_POSITION])
def test_the_promise_itself_passes(match):
    verdict, binding = judge(PROMISED, PROMISED, match)

    assert verdict.status is Status.PASS
    assert binding.feeds == (Feed("left", "left", "float32"), Feed("right", "right", "float32"))
    assert binding.outputs == (("digit", "digit"), ("parity", "parity"))
    assert binding.fixed == ()


@pytest.mark.parametrize("actual", BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_contract_is_never_a_pass_and_never_runs(actual):
    verdict, binding = judge(PROMISED, actual)

    assert verdict.status is Status.FAIL
    assert verdict.reason
    assert binding is None


@pytest.mark.parametrize(
    "name", [name for name in BREAKAGES if not name.startswith(("renamed", "reordered", "one output twice"))]
)
def test_matching_by_position_forgives_nothing_but_names(name):
    assert judge(PROMISED, BREAKAGES[name], BY_POSITION)[0].status is Status.FAIL


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("renamed output", ["named output_0, parity", "the source's digit, parity", "--match position"]),
        ("reordered outputs", ["come in the order parity, digit"]),
        ("missing output", ["the source has 2 output(s), digit, parity; the artifact 1, digit"]),
        ("no outputs", ["the artifact 0, none"]),
        ("widened output", ["output digit is float64, the source's is float32"]),
        ("dropped axis", ["output digit has the 1 axes [batch], the source's has [batch,10]"]),
        ("transposed input", ["input left has the shape [batch,1,4,8], the source's is [batch,1,8,4]"]),
    ],
)
def test_the_reason_names_the_tensor_and_both_sides(name, words):
    reason = judge(PROMISED, BREAKAGES[name])[0].reason

    assert [word for word in words if word not in reason] == []


def test_every_fault_is_found_not_only_the_first():
    actual = signature(
        "left:float64[batch,1,8,4] right:float32[batch,8,4]", "digit:float32[batch,11] parity:int64[batch,2]"
    )

    faults = [finding for finding in judge(PROMISED, actual)[0].findings if finding.status is Status.FAIL]

    assert [(fault.check, fault.tensor) for fault in faults] == [
        ("dtype", "left"),
        ("shape", "right"),
        ("shape", "digit"),
        ("dtype", "parity"),
    ]


# Matching by position


def test_renamed_tensors_match_by_position_and_that_is_said():
    actual = signature(
        "args_0:float32[batch,1,8,4] args_1:float32[batch,1,8,4]", "out_0:float32[batch,10] parity:float32[batch,2]"
    )

    verdict, binding = judge(PROMISED, actual, BY_POSITION)

    assert verdict.status is Status.PASS
    assert "left is args_0, right is args_1" in verdict.reason
    assert "digit is out_0" in verdict.reason
    assert binding.feeds == (Feed("left", "args_0", "float32"), Feed("right", "args_1", "float32"))
    assert binding.outputs == (("digit", "out_0"), ("parity", "parity"))


# Narrowing


def test_int64_narrowed_to_int32_is_noted_and_fed_as_the_artifact_takes_it():
    promised = signature("ids:int64[batch,16]=0..99", "label:int64[batch]")

    verdict, binding = judge(promised, signature("ids:int32[batch,16]", "label:int32[batch]"))

    assert verdict.status is Status.PASS
    assert verdict.reason == "ids is int32, the source's is int64; label is int32, the source's is int64"
    assert binding.feeds == (Feed("ids", "ids", "int32"),)


def test_float64_narrowed_to_float32_is_noted():
    verdict, _ = judge(signature("x:float64[4]", "y:float64[4]"), signature("x:float32[4]", "y:float32[4]"))

    assert verdict.status is Status.PASS
    assert "x is float32, the source's is float64" in verdict.reason


@pytest.mark.parametrize("found", ["int8", "int16", "float32", "uint8", "bool"])
def test_int64_becomes_nothing_but_int32(found):
    assert judge(signature("x:int64[4]", "y:float32[4]"), signature(f"x:{found}[4]", "y:float32[4]"))[0].status is (
        Status.FAIL
    )


def test_int32_widened_to_int64_fails():
    assert (
        judge(signature("x:int32[4]", "y:float32[4]"), signature("x:int64[4]", "y:float32[4]"))[0].status is Status.FAIL
    )


# Free dimensions


def test_a_free_dimension_fixed_everywhere_is_noted_and_limits_the_cases():
    verdict, binding = judge(PROMISED, PROMISED.fixed({"batch": 1}))

    assert verdict.status is Status.PASS
    assert verdict.reason == "batch is fixed to 1, the source's is free"
    assert binding.fixed == (("batch", 1),)


def test_a_free_dimension_fixed_to_two_sizes_fails():
    actual = broken("inputs", "left:float32[batch,1,8,4] right:float32[batch", "left:float32[1,1,8,4] right:float32[2")

    verdict, binding = judge(PROMISED, actual)

    assert (verdict.status, binding) == (Status.FAIL, None)
    assert "right fixes batch to 2" in verdict.reason


def test_an_output_that_fixes_a_dimension_to_another_size_than_the_inputs_fails():
    actual = PROMISED.fixed({"batch": 1})
    actual = Signature(actual.inputs, (TensorSpec("digit", "float32", (2, 10)), actual.outputs[1]))

    assert judge(PROMISED, actual)[0].status is Status.FAIL


def test_an_output_that_fixes_a_dimension_its_inputs_leave_free_is_not_passed_over():
    actual = Signature(PROMISED.inputs, PROMISED.fixed({"batch": 1}).outputs)

    verdict, _ = judge(PROMISED, actual)

    assert verdict.status is Status.FAIL or "batch" in verdict.reason


def test_a_size_that_only_outputs_have_follows_the_inputs():
    promised = signature("image:float32[batch,8]", "boxes:float32[found,4]")

    assert judge(promised, signature("image:float32[1,8]", "boxes:float32[7,4]"))[0].status is Status.PASS
    assert judge(promised, signature("image:float32[batch,8]", "boxes:float32[7,4]"))[0].status is Status.FAIL


def test_a_fixed_axis_that_the_artifact_leaves_open_is_noted():
    verdict, _ = judge(PROMISED, broken("inputs", "left:float32[batch,1,8,4]", "left:float32[batch,1,height,4]"))

    assert verdict.status is Status.PASS
    assert "left leaves axis 2 open" in verdict.reason


def test_a_dimension_the_artifact_leaves_open_under_another_name_passes():
    assert judge(PROMISED, broken("inputs", "left:float32[batch", "left:float32[N"))[0].status is Status.PASS


def imaged(layout: str, shape: str) -> Signature:
    spec = dataclasses.replace(TensorSpec.parse(f"image:float32[{shape}]"), layout=layout)
    return Signature((spec,), (TensorSpec.parse("digit:float32[batch,10]"),))


def test_an_image_in_another_layout_is_said_and_fed_so():
    verdict, binding = judge(imaged("nchw", "batch,3,8,9"), imaged("nhwc", "batch,8,9,3"))
    assert verdict.status is Status.PASS
    assert "image is NHWC, the source's is NCHW" in verdict.reason
    assert binding.feeds == (Feed("image", "image", "float32", (0, 2, 3, 1)),)


def test_an_image_in_another_layout_must_still_have_its_sizes():
    verdict, _ = judge(imaged("nchw", "batch,3,8,9"), imaged("nhwc", "batch,9,8,3"))
    assert verdict.status is Status.FAIL


def test_a_layout_that_the_artifact_does_not_state_is_a_wrong_shape():
    verdict, _ = judge(imaged("nchw", "batch,3,8,9"), imaged("", "batch,8,9,3"))
    assert verdict.status is Status.FAIL
    assert "--layout nhwc" in verdict.reason


def test_a_shape_that_no_layout_explains_points_to_none():
    verdict, _ = judge(imaged("nchw", "batch,3,8,9"), imaged("", "batch,9,8,3"))
    assert verdict.status is Status.FAIL
    assert "--layout" not in verdict.reason


FLEX = (Foreign("flex", "FlexErf", "model/gelu/Erf"), Foreign("flex", "FlexErf", "model/gelu_1/Erf"))


def test_a_foreign_operator_fails_with_its_name_and_place_and_the_flag_that_accepts_it():
    verdict, binding = judge(PROMISED, PROMISED, foreign=FLEX)
    assert verdict.status is Status.FAIL
    assert "FlexErf (model/gelu/Erf, model/gelu_1/Erf); accept them with --allow-flex" in verdict.reason
    assert binding is None


def test_a_foreign_operator_that_is_allowed_passes_and_is_said():
    verdict, _ = judge(PROMISED, PROMISED, foreign=FLEX, allow=("flex",))
    assert verdict.status is Status.PASS
    assert "FlexErf" in verdict.reason


def test_allowing_one_kind_of_foreign_operator_does_not_allow_the_other():
    verdict, _ = judge(PROMISED, PROMISED, foreign=FLEX, allow=("custom",))
    assert verdict.status is Status.FAIL
