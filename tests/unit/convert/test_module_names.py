"""Names of tensors lead to modules, in few words."""

from __future__ import annotations

import pytest

from convert.routes._module_names import module_path

WRAPPER = "convert.sources._torch.positional.<locals>.Positional"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (f"{WRAPPER};7", "model;7"),
        (f"{WRAPPER}/my.net.Named_model/torch.nn.modules.linear.Linear_dense;1", "model/dense;1"),
        (f"{WRAPPER}/my.Net_bert/transformers.bert.BertLayer_0/torch.nn.Linear_position_embeddings;",
         "bert/0/position_embeddings;"),
        (f"{WRAPPER}/my.Net_a;1;{WRAPPER}/my.Net_b;2", "a;1;b;2"),
        ("arith.constant4", "arith.constant4"),
        ("serving_default_args_0", "serving_default_args_0"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_name_is_the_path_of_the_module(name, short):
    assert module_path(name) == short


def test_what_is_no_path_of_modules_keeps_its_name():
    assert module_path("functional_1/conv2d/Relu;functional_1/bn/add") == "functional_1/conv2d/Relu;functional_1/bn/add"
