"""Image layouts: which inputs are images, and how one layout becomes the other."""

from __future__ import annotations

import numpy as np
import pytest

from convert import layout
from convert.errors import UsageError
from convert.spec import Signature, TensorSpec


def signature(*texts):
    return Signature(tuple(TensorSpec.parse(text) for text in texts), ())


@pytest.mark.parametrize(
    ("text", "framework", "expected"),
    [
        ("x:float32[batch,3,8,9]", "nchw", "nchw"),
        ("x:float32[batch,8,9,3]", "nhwc", "nhwc"),
        ("x:uint8[1,1,8,9]", "nchw", "nchw"),
        ("x:float32[batch,64,8,9]", "nchw", ""),  # a feature map
        ("x:int64[batch,3,8,9]", "nchw", ""),
        ("x:float32[batch,3,8]", "nchw", ""),
        ("x:float32[batch,channels,8,9]", "nchw", ""),
    ],
)
def test_an_image_has_four_axes_few_channels_and_pixels(text, framework, expected):
    assert layout.marked(signature(text), framework).inputs[0].layout == expected


def test_a_promise_in_another_layout_moves_the_images_and_nothing_else():
    source = layout.marked(signature("image:float32[batch,3,8,9]", "scale:float32[batch,2,5,5]"), "nchw")
    assert str(layout.promised(source, "nhwc")).startswith("(image:float32[batch,8,9,3], scale:float32[batch,2,5,5])")
    assert layout.permutations(source, "nhwc") == {"image": (0, 2, 3, 1)}


@pytest.mark.parametrize("wanted", ["keep", "nchw"])
def test_nothing_moves_where_the_source_has_the_layout_already(wanted):
    source = layout.marked(signature("image:float32[batch,3,8,9]"), "nchw")
    assert layout.promised(source, wanted) == source
    assert layout.permutations(source, wanted) == {}


def test_the_inverse_takes_a_permutation_back():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    axes = (0, 2, 3, 1)
    np.testing.assert_array_equal(array.transpose(axes).transpose(layout.inverse(axes)), array)


def test_a_layout_for_a_model_without_images_is_refused():
    with pytest.raises(UsageError, match="is an image"):
        layout.require_image(signature("x:float32[batch,5]"), "nhwc")
    layout.require_image(signature("x:float32[batch,5]"), "keep")
