"""The ONNX importer computes what the standard's own test cases say, and names what it does not know."""

from __future__ import annotations

import importlib
import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from convert.errors import LoadError
from convert.onnx_torch import module_of, supported
from convert.onnx_torch.values import tensor_of

#: Values that PyTorch does not compute with on the CPU, or that no device runtime has.
TYPES = re.compile(r"FLOAT8|FLOAT4|INT4|INT2|e4m3|e5m2|e8m0|e2m1|int4|int2|uint16|uint32|uint64|string|STRING", re.I)

#: Cases that are known to differ, and why.
SET_ASIDE = {
    **dict.fromkeys(
        ("test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"),
        "the reference scales by sizes before they are rounded; ONNX Runtime and PyTorch by those after",
    ),
    **dict.fromkeys(
        (f"test_resize_downsample_{by}_{mode}_antialias" for by in ("scales", "sizes") for mode in ("linear", "cubic")),
        "the reference repeats the edge; ONNX Runtime and PyTorch leave out what lies outside",
    ),
    **dict.fromkeys(
        ("test_reduce_max_empty_set", "test_reduce_min_empty_set", "test_reduce_max_empty_set_bool"), "empty"
    ),
    "test_roialign_mode_max": "refused: the standard's max is of weighted corners, not of samples",
    "test_scan_sum": "refused: the batched form of operator set 8",
}


#: Cases of types or operators that are not claimed, which their names do not tell.
UNUSUAL = {"test_bitwise_not_3d", "test_if_opt", "test_loop16_seq_none"}

#: Modules of the standard's cases that are always run: the operators of most models, and those with most forms.
QUICK = (
    "averagepool",
    "conv",
    "convtranspose",
    "gather",
    "gru",
    "lstm",
    "maxpool",
    "pad",
    "reshape",
    "resize",
    "slice",
)

#: Attention over a cache that is not full yet: ONNX's own inliner cannot write its definition out.
CACHED = re.compile(r"test_attention_.*(nonpad|padded_kv|ext_cache|local_window_with_past|4d_causal_with_past)")

#: Operators that the importer reads as the standard defines them by others.
DEFINED = {"Attention"}


def is_claimed(case) -> bool:
    local = {function.name for function in case.model.functions}
    nodes = [*case.model.graph.node, *(node for function in case.model.functions for node in function.node)]
    kinds = {node.op_type if not node.domain else f"{node.domain}::{node.op_type}" for node in nodes}
    known = {*supported(), *DEFINED}
    return all(kind in known or kind.rpartition("::")[2] in local for kind in kinds) and not (
        TYPES.search(case.name)
        or case.name.startswith("test_training_")
        or case.name in UNUSUAL
        or CACHED.match(case.name)
    )


def collected(modules: tuple[str, ...] = ()) -> dict:
    """Give the standard's cases that are claimed, those of some modules or all."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the standard's cases divide by zero on purpose
        if not modules:
            return {case.name: case for case in node.collect_testcases(None) if is_claimed(case)}
        for module in modules:
            importlib.import_module(f"{node.__name__}.{module}")
    homes = {f"test_{module}" for module in modules}
    found = [case for case in node._NodeTestCases if case.name.startswith(tuple(homes))]
    return {case.name: case for case in found if is_claimed(case)}


def tensor(value):
    if isinstance(value, list):
        return [tensor(item) for item in value]
    array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype("float32")).to(torch.bfloat16)
    return torch.from_numpy(array.copy())


def flat(values) -> list[torch.Tensor]:
    return [item for value in values for item in (flat(value) if isinstance(value, list) else [tensor_of(value)])]


def check(case) -> None:
    module = module_of(case.model)
    for given, expected in case.data_sets:
        inputs = [None if value is None else tensor(value) for value in given]
        with torch.no_grad():
            actual = flat(module.run(module.graph, dict(zip(module.graph.inputs, inputs, strict=True))))
        wanted = flat([tensor(value) for value in expected])
        assert [(value.dtype, value.shape) for value in actual] == [(value.dtype, value.shape) for value in wanted]
        for one, other in zip(actual, wanted, strict=True):
            tolerance = 1e-5 if one.dtype is torch.float32 else 1e-2 if one.dtype is torch.bfloat16 else 1e-3
            torch.testing.assert_close(one, other, rtol=1e-3, atol=tolerance, equal_nan=True)


def wrong_among(found: dict) -> dict[str, str]:
    wrong = {}
    for name in sorted(set(found) - set(SET_ASIDE)):
        try:
            check(found[name])
        except (AssertionError, LoadError, RuntimeError, TypeError, IndexError, NotImplementedError) as error:
            wrong[name] = str(error).splitlines()[0]
    return wrong


def test_the_standards_cases_of_the_commonest_operators_agree():
    found = collected(QUICK)
    assert wrong_among(found) == {}
    assert len(found) > 100


@pytest.mark.slow
def test_every_case_of_the_standard_that_is_claimed_agrees():
    found = collected()
    assert wrong_among(found) == {}
    assert len(found) > 1350
    for name in SET_ASIDE:
        with pytest.raises((AssertionError, LoadError, IndexError)):
            check(found[name])


def graph(nodes, inputs, outputs, initializers=(), version: int = 18) -> onnx.ModelProto:
    def values(named):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in named]

    tensors = [numpy_helper.from_array(array, name) for name, array in initializers]
    made = helper.make_graph(nodes, "g", values(inputs), values(outputs), tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", version)], ir_version=9)


def test_an_unknown_operator_is_named_with_its_node():
    node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], name="words", mode="TF", max_gram_length=1)
    model = graph([node], [("x", TensorProto.INT32, [4])], [("y", TensorProto.FLOAT, [4])])
    with pytest.raises(LoadError, match=r"operator TfIdfVectorizer \(node words\)"):
        module_of(model)


def test_an_operator_of_a_foreign_domain_is_named_with_its_domain():
    node = helper.make_node("Fancy", ["x"], ["y"], domain="acme")
    model = graph([node], [("x", TensorProto.FLOAT, [4])], [("y", TensorProto.FLOAT, [4])])
    with pytest.raises(LoadError, match="operator acme::Fancy"):
        module_of(model)


def flattened_by_its_own_shape() -> onnx.ModelProto:
    """Build what exporters make of `x.view(x.size(0), -1) + 1`: the batch goes through shape arithmetic."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["lead"]),
        helper.make_node("Unsqueeze", ["lead", "axes"], ["lead1"]),
        helper.make_node("Concat", ["lead1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Add", ["flat", "one"], ["y"]),
    ]
    constants = [
        ("zero", np.array(0, np.int64)),
        ("axes", np.array([0], np.int64)),
        ("rest", np.array([-1], np.int64)),
        ("one", np.array(1, np.float32)),
    ]
    shapes = ("x", TensorProto.FLOAT, ["batch", 2, 3]), ("y", TensorProto.FLOAT, ["batch", 6])
    return graph(nodes, [shapes[0]], [shapes[1]], constants)


def test_a_free_batch_survives_export_through_shape_arithmetic():
    module = module_of(flattened_by_its_own_shape())
    dims = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.ones(2, 2, 3),), dynamic_shapes=(dims,), strict=False)
    assert exported.module()(torch.ones(7, 2, 3))[0].shape == (7, 6)


def frames_of_a_batch() -> onnx.ModelProto:
    """Build what tf2onnx makes of cutting a batch of waves: an end beyond every axis, and sizes by Max."""
    nodes = [
        helper.make_node("Shape", ["x"], ["lead"], start=0, end=1),
        helper.make_node("Max", ["zero", "lead"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["target"], axis=0),
        helper.make_node("Slice", ["x", "zeros", "ends"], ["all"]),
        helper.make_node("Reshape", ["all", "target"], ["y"]),
    ]
    constants = [
        ("zero", np.array([0])),
        ("zeros", np.array([0, 0])),
        ("ends", np.array([1_000_000_000, 1_000_000_000])),
        ("rest", np.array([2, 3])),
    ]
    shapes = ("x", TensorProto.FLOAT, ["batch", 6]), ("y", TensorProto.FLOAT, ["batch", 2, 3])
    return graph(nodes, [shapes[0]], [shapes[1]], constants)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_free_batch_survives_slices_without_end_and_sizes_by_max():
    module = module_of(frames_of_a_batch())
    dims = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.ones(2, 6),), dynamic_shapes=(dims,), strict=False)
    assert exported.module()(torch.ones(7, 6))[0].shape == (7, 2, 3)
    traced = torch.jit.trace(module, (torch.ones(2, 6),), check_trace=False)
    assert traced(torch.ones(7, 6))[0].shape == (7, 2, 3)


def test_a_free_batch_survives_resizing_to_a_computed_size():
    nodes = [
        helper.make_node("Shape", ["x"], ["lead"], start=0, end=2),
        helper.make_node("Concat", ["lead", "size"], ["target"], axis=0),
        helper.make_node("Resize", ["x", "", "", "target"], ["larger"], mode="linear"),
        helper.make_node("Resize", ["larger", "", "scales"], ["y"], mode="nearest"),
    ]
    constants = [("size", np.array([4, 4])), ("scales", np.array([1, 1, 2, 2], np.float32))]
    shapes = ("x", TensorProto.FLOAT, ["batch", 1, 3, 3]), ("y", TensorProto.FLOAT, ["batch", 1, 8, 8])
    module = module_of(graph(nodes, [shapes[0]], [shapes[1]], constants))
    dims = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.ones(2, 1, 3, 3),), dynamic_shapes=(dims,), strict=False)
    assert exported.module()(torch.ones(7, 1, 3, 3))[0].shape == (7, 1, 8, 8)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_free_batch_survives_a_trace_through_shape_arithmetic():
    traced = torch.jit.trace(module_of(flattened_by_its_own_shape()), (torch.ones(2, 2, 3),), check_trace=False)
    assert traced(torch.ones(7, 2, 3))[0].shape == (7, 6)


def test_a_widened_module_computes_in_float64():
    module = module_of(flattened_by_its_own_shape()).widen()
    (found,) = module(torch.full((1, 2, 3), 0.1, dtype=torch.float64))
    assert found.dtype is torch.float64
    assert torch.equal(found, torch.full((1, 6), 1.1, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_condition_on_the_data_is_refused_by_a_trace_rather_than_baked_in():
    def branch(name: str, kind: str):
        made = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
        return helper.make_graph([helper.make_node(kind, ["x"], [name])], name, [], [made])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("a", "Neg"), else_branch=branch("b", "Exp")),
    ]
    shape = (TensorProto.FLOAT, [2])
    module = module_of(graph(nodes, [("x", *shape)], [("y", *shape)], [("zero", np.array(0, np.float32))]))
    assert module(torch.ones(2))[0].tolist() == [-1, -1]
    with pytest.raises(LoadError, match="depends on the data"):
        torch.jit.trace(module, (torch.ones(2),), check_trace=False)


def test_local_functions_are_inlined():
    node = helper.make_node("Twice", ["x"], ["y"], domain="mine")
    model = graph([node], [("x", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert module_of(model)(torch.ones(2))[0].tolist() == [2, 2]
