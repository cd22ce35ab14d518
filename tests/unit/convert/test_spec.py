"""The nouns: what `--input` may look like, how it reads back, and what a signature says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from convert.errors import UsageError
from convert.spec import SIGNATURE_FILE, Promise, Request, Signature, TensorSpec, sha256_of, signature_file

GOOD_FORMS = {
    "image:float32[batch,1,8,8]": TensorSpec("image", "float32", ("batch", 1, 8, 8)),
    "ids:int64[1,16]=0..99": TensorSpec("ids", "int64", (1, 16), 0, 99),
    "offset:int8[2]=-5..-1": TensorSpec("offset", "int8", (2,), -5, -1),
    "pixels:uint8[batch,4]=7..7": TensorSpec("pixels", "uint8", ("batch", 4), 7, 7),
    "mask:bool[batch]": TensorSpec("mask", "bool", ("batch",)),
    "scalar:float64[]": TensorSpec("scalar", "float64", ()),
    "serving/input-1.x:float16[rows,rows]": TensorSpec("serving/input-1.x", "float16", ("rows", "rows")),
    " image : float32 [ batch , 3 ] ": TensorSpec("image", "float32", ("batch", 3)),
}

#: Every one must be refused, and the message must repeat what was written.
BAD_FORMS = {
    "nothing": "",
    "a name alone": "image",
    "no shape": "image:float32",
    "no dtype": "image:[1]",
    "no name": ":float32[1]",
    "a shape without its end": "image:float32[1,2",
    "a shape without its start": "image:float321,2]",
    "two colons": "image:float32:[1]",
    "text after the shape": "image:float32[1]x",
    "an unknown dtype": "image:float3[1]",
    "a complex dtype": "image:complex64[1]",
    "a dtype in capitals": "image:Float32[1]",
    "a size of zero": "image:float32[0]",
    "a negative size": "image:float32[-1]",
    "a fraction": "image:float32[1.5]",
    "a question mark": "image:float32[?,8]",
    "two words in one dimension": "image:float32[batch size]",
    "a size left out": "image:float32[1,,8]",
    "a comma too many": "image:float32[1,8,]",
    "a digit that is no number": "image:float32[²]",
    "half a range": "ids:int64[1]=5",
    "a range without an end": "ids:int64[1]=0..",
    "a range of fractions": "ids:int64[1]=0..0.5",
    "a range upside down": "ids:int64[1]=9..0",
    "a range of floats": "image:float32[1]=0..9",
    "a range of truth values": "mask:bool[1]=0..1",
    "a range beyond the dtype": "ids:int8[1]=0..999",
    "a negative range of an unsigned dtype": "ids:uint8[1]=-1..5",
}


@pytest.mark.parametrize(("text", "spec"), GOOD_FORMS.items(), ids=GOOD_FORMS.keys())
def test_a_tensor_is_read_as_it_was_written(text, spec):
    assert TensorSpec.parse(text) == spec


@pytest.mark.parametrize("text", BAD_FORMS.values(), ids=BAD_FORMS.keys())
def test_a_tensor_written_badly_is_refused_with_what_was_written_and_a_fix(text):
    with pytest.raises(UsageError) as refused:
        TensorSpec.parse(text)
    assert repr(text) in refused.value.message
    assert refused.value.fix


def test_an_unknown_dtype_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="'float3'") as refused:
        TensorSpec.parse("image:float3[1]")
    assert "float32" in refused.value.fix
    assert "int64" in refused.value.fix


@pytest.mark.parametrize("spec", GOOD_FORMS.values(), ids=GOOD_FORMS.keys())
def test_a_tensor_as_text_reads_back_as_itself(spec):
    assert TensorSpec.parse(str(spec)) == spec


def test_the_free_dimensions_of_a_tensor_are_those_with_a_name():
    assert TensorSpec.parse("image:float32[batch,3,height,width]").free == ("batch", "height", "width")
    assert TensorSpec.parse("image:float32[1,3]").free == ()


def test_the_free_dimensions_of_a_signature_are_named_once_in_the_order_they_appear():
    signature = Signature(
        (TensorSpec.parse("a:float32[batch,rows]"), TensorSpec.parse("b:float32[columns,batch]")),
        (TensorSpec.parse("c:float32[other]"),),
    )
    assert signature.free == ("batch", "rows", "columns")


def test_fixing_a_dimension_fixes_it_in_every_input_and_output_and_leaves_the_others():
    signature = Signature(
        (TensorSpec.parse("ids:int64[batch,length]=0..9"), TensorSpec.parse("mask:bool[batch,4]")),
        (TensorSpec.parse("logits:float32[batch,length,10]"),),
    )
    fixed = signature.fixed({"batch": 1})
    assert str(fixed) == "(ids:int64[1,length]=0..9, mask:bool[1,4]) -> (logits:float32[1,length,10])"
    assert signature.free == ("batch", "length"), "the signature itself must not change"
    assert fixed.free == ("length",)


def test_fixing_a_dimension_that_is_not_there_changes_nothing():
    signature = Signature((TensorSpec.parse("x:float32[batch,4]"),), (TensorSpec.parse("y:float32[batch]"),))
    assert signature.fixed({"rows": 3}) == signature


def test_sizes_take_the_place_of_free_dimensions():
    assert TensorSpec.parse("x:float32[batch,3,batch]").sized({"batch": 2}) == (2, 3, 2)


def test_an_array_that_fits_has_no_mismatch():
    spec = TensorSpec.parse("x:float32[batch,3]")
    assert spec.mismatch(np.zeros((1, 3), "float32")) is None
    assert spec.mismatch(np.zeros((7, 3), "float32")) is None


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3), "float64"), "float64"),
        (np.zeros((2, 4), "float32"), r"\[2, 4\]"),
        (np.zeros((2, 3, 1), "float32"), r"\[2, 3, 1\]"),
        (np.zeros((), "float32"), r"\[\]"),
    ],
    ids=["dtype", "size", "rank", "scalar"],
)
def test_an_array_that_does_not_fit_is_told_what_differs(array, said):
    assert re.search(said, TensorSpec.parse("x:float32[batch,3]").mismatch(array))


def test_a_signature_file_reads_back_as_the_promise_it_was_written_from():
    (name, text), *others = signature_file("x:float32[batch,4]", "ids:int64[batch]=0..9", outputs=["y", "z"]).items()
    assert (name, others) == (SIGNATURE_FILE, [])
    promise = msgspec.json.decode(text, type=Promise)
    assert [str(spec) for spec in promise.inputs] == ["x:float32[batch,4]", "ids:int64[batch]=0..9"]
    assert promise.output_names == ("y", "z")


def test_a_signature_file_is_refused_where_its_spec_cannot_be_read():
    with pytest.raises(UsageError, match="cannot read the tensor"):
        signature_file("image")


def test_a_run_is_named_after_the_file_and_goes_to_a_folder_of_that_name():
    assert Request("models/net.v2.pt", ("onnx",)).name == "net.v2"
    assert Request("models/net.v2.pt", ("onnx",)).folder == Path("build/net.v2")
    assert Request("models/net.v2.pt", ("onnx",), out="elsewhere").folder == Path("elsewhere")


def test_a_file_of_several_blocks_is_hashed_whole(tmp_path):
    path = tmp_path / "large"
    content = bytes(range(256)) * 8192  # 2 MiB and a bit: more than two blocks
    path.write_bytes(content + b"end")
    assert sha256_of(path) == hashlib.sha256(content + b"end").hexdigest()
