"""Options that Keras 2 wrote and Keras 3 refuses."""

from __future__ import annotations

import pytest

from convert.sources._keras2 import _modernise

KERNEL = {"kernel_initializer": {"class_name": "GlorotUniform"}, "kernel_regularizer": None, "kernel_constraint": None}


@pytest.mark.parametrize(
    ("layer", "config", "left"),
    [
        ("DepthwiseConv2D", {"groups": 1, "strides": 2}, {"strides": 2}),
        ("SeparableConv2D", {"groups": 1, "filters": 12, **KERNEL}, {"filters": 12}),
        ("LSTM", {"time_major": False, "units": 8}, {"units": 8}),
        ("Conv2D", {"groups": 1, **KERNEL}, {"groups": 1, **KERNEL}),
        ("DepthwiseConv2D", {"groups": 2}, {"groups": 2}),  # it means something: Keras 3 is to say what
        ("LSTM", {"time_major": True}, {"time_major": True}),
    ],
)
def test_what_means_nothing_is_left_out_and_all_else_stays(layer, config, left):
    described = {"class_name": layer, "config": dict(config)}
    assert _modernise(described) == (config != left)
    assert described["config"] == left
