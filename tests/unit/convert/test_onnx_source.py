"""ONNX files as sources: what they take and give is read and measured, and hostile or damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.errors import LoadError, MissingInputs, UnknownSource, UsageError
from convert.formats import FORMATS, Draft
from convert.formats import onnx as onnx_format
from convert.sources import identify, load
from convert.spec import LoadOptions, Signature, TensorSpec

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, kind: int, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def dense(
    shape=("batch", 4), *, name: str = "x", constants: bool = False, version: int = 18, ir: int = 9
) -> onnx.ModelProto:
    """Build x @ w, with `w` listed as an input too where `constants`."""
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    inputs = [value(name, FLOAT, shape)] + ([value("w", FLOAT, [4, 3])] if constants else [])
    graph = helper.make_graph(
        [helper.make_node("MatMul", [name, "w"], ["y"], name="dense")],
        "g",
        inputs,
        [value("y", FLOAT, [None, 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=ir)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def loaded(path: Path, *inputs: str):
    options = LoadOptions(inputs=tuple(TensorSpec.parse(text) for text in inputs))
    return load(identify(path), options)


def signature(model: onnx.ModelProto, folder: Path, *inputs: str) -> str:
    return str(loaded(saved(model, folder / "model.onnx"), *inputs).facts.signature)


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        (("batch", 4), "batch,4"),
        (("N", 4), "batch,4"),
        ((None, 4), "batch,4"),
        (("unk__12", 4), "batch,4"),
        (("batch_size", 4), "batch,4"),
        (("rows", 4), "rows,4"),
        ((2, 4), "2,4"),
        (("time", None, 4), "time,x_1,4"),
        ((None, "2*rows", 4), "batch,x_1,4"),
    ],
)
def test_free_dimensions_get_names_and_outputs_are_measured(tmp_path, shape, read):
    text = signature(dense(shape), tmp_path)
    assert text == f"(x:float32[{read}]) -> (y:float32[{read.rpartition(',')[0]},3])"


def test_constants_listed_as_inputs_are_no_inputs(tmp_path):
    model = loaded(saved(dense(constants=True, ir=3), tmp_path / "old.onnx"))
    assert [spec.name for spec in model.facts.signature.inputs] == ["x"]
    assert model.facts.parameters == 12


def test_indices_into_an_embedding_have_its_range(tmp_path):
    table = numpy_helper.from_array(np.zeros((17, 2), np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("ids", INT64, ["batch", 5])], [value("y", FLOAT, None)], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert signature(model, tmp_path) == "(ids:int64[batch,5]=0..16) -> (y:float32[batch,5,2])"


@pytest.mark.parametrize(("added", "known"), [(17, "=0..16"), (1, "")], ids=["wrapped", "shifted"])
def test_an_index_that_is_only_wrapped_has_the_embeddings_range(tmp_path, added, known):
    nodes = [
        helper.make_node("Less", ["ids", "zero"], ["negative"]),
        helper.make_node("Add", ["ids", "added"], ["more"]),
        helper.make_node("Where", ["negative", "more", "ids"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["y"]),
    ]
    constants = {"zero": np.array(0), "added": np.array(added), "table": np.zeros((17, 2), np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [value("ids", INT64, [5])],
        [value("y", FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert signature(model, tmp_path) == f"(ids:int64[5]{known}) -> (y:float32[5,2])"


def test_the_user_narrows_a_free_dimension(tmp_path):
    assert signature(dense(), tmp_path, "x:float32[1,4]") == "(x:float32[1,4]) -> (y:float32[1,3])"


def test_a_truncated_file_is_refused(tmp_path):
    whole = dense().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((LoadError, UnknownSource), match=r"truncated|damaged"):
        loaded(tmp_path / "cut.onnx")


def test_an_operator_set_that_is_too_new_is_refused_with_the_newest_known(tmp_path):
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(LoadError, match=f"needs ONNX opset {newest + 5}; .* knows up to {newest}") as caught:
        signature(dense(version=newest + 5), tmp_path)
    assert "export it again" in caught.value.fix


def test_a_graph_without_outputs_is_refused(tmp_path):
    model = dense()
    del model.graph.output[:]
    with pytest.raises(LoadError, match="no outputs"):
        signature(model, tmp_path)


def test_a_model_that_takes_nothing_is_refused(tmp_path):
    answer = helper.make_node("Constant", [], ["y"], value=helper.make_tensor("v", FLOAT, [2], [1, 2]))
    graph = helper.make_graph([answer], "constant", [], [helper.make_tensor_value_info("y", FLOAT, [2])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    with pytest.raises(LoadError, match="takes no inputs"):
        loaded(tmp_path / "n.onnx")


def test_an_output_that_is_no_tensor_is_refused_by_name(tmp_path):
    model = dense()
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    model.graph.output[0].type.CopyFrom(kind)
    with pytest.raises(LoadError, match=r"output y .* is a sequence_type"):
        signature(model, tmp_path)


def test_an_operator_nobody_knows_is_named(tmp_path):
    model = dense()
    model.graph.node[0].op_type = "Fancy"
    with pytest.raises(LoadError, match="Fancy"):
        signature(model, tmp_path)


def test_an_input_of_strings_is_refused_by_name(tmp_path):
    model = dense()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(LoadError, match=r"input x .* type string"):
        signature(model, tmp_path)


def test_an_input_of_unknown_rank_is_refused_by_name(tmp_path):
    model = dense()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(MissingInputs, match="how many axes the input x has"):
        signature(model, tmp_path)


def with_data(folder: Path, location: str = "weights.bin") -> Path:
    """Write a model whose weights are beside it, and say that they are at `location`."""
    path = folder / "model.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    model = dense()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    return saved(model, path)


def test_weights_beside_the_file_are_read(tmp_path):
    model = loaded(with_data(tmp_path))
    assert model.model.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[18, 22, 26]]
    assert model.model.whole().graph.initializer[0].raw_data


@pytest.mark.parametrize("location", ["/etc/hostname", "../weights.bin", "below/../../weights.bin", ""])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    (tmp_path / "home" / "below").mkdir(parents=True)
    path = with_data(tmp_path / "home", location)
    with pytest.raises(UsageError, match="outside its folder") as caught:
        loaded(path)
    assert caught.value.fix


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    path = with_data(tmp_path / "home")
    (tmp_path / "home" / "weights.bin").unlink()
    (tmp_path / "home" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(UsageError, match="outside its folder"):
        loaded(path)


def test_missing_weights_are_named(tmp_path):
    path = with_data(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UsageError, match=r"weights\.bin, which is not there"):
        loaded(path)


def test_truncated_weights_are_named(tmp_path):
    path = with_data(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    with pytest.raises(LoadError, match=r"weights\.bin, .* truncated: it has 8 bytes of at least 48"):
        loaded(path)


PROMISED = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 3)),))


def test_an_artifact_that_is_too_large_for_one_file_keeps_its_weights_beside_it(tmp_path, monkeypatch):
    path = saved(dense(), tmp_path / "large.onnx")
    assert onnx_format.companions(path) == ()
    monkeypatch.setattr(onnx_format, "INSIDE_BYTES", 16)
    monkeypatch.setattr(onnx_format, "SMALL_BYTES", 0)
    onnx_format.seal(path, Draft(str(path), PROMISED, ("x",), ("y",)))
    assert onnx_format.companions(path) == (tmp_path / "large.onnx.data",)
    assert FORMATS["onnx"].companions is onnx_format.companions
    assert onnx_format.read(path).signature == PROMISED
    assert loaded(path).model.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[18, 22, 26]]


def test_sealing_again_leaves_one_file_of_weights(tmp_path, monkeypatch):
    path = with_data(tmp_path)
    monkeypatch.setattr(onnx_format, "INSIDE_BYTES", 16)
    monkeypatch.setattr(onnx_format, "SMALL_BYTES", 0)
    for _ in range(2):
        onnx_format.seal(path, Draft(str(path), PROMISED, ("x",), ("y",)))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (tmp_path / "model.onnx.data").stat().st_size < 2 * 4096


def test_an_artifact_says_its_opset_and_its_foreign_operators(tmp_path):
    model = dense()
    model.graph.node.append(helper.make_node("Erfc", ["y"], ["z"], name="gelu/Erfc"))
    model.graph.node.append(helper.make_node("Fancy", ["z"], ["end"], name="fancy", domain="acme"))
    facts = onnx_format.read(saved(model, tmp_path / "model.onnx"))
    assert facts.requires == ("ONNX opset 18", "ONNX IR version 9")
    assert [(item.kind, item.operator, item.where) for item in facts.foreign] == [
        ("custom", "Erfc", "gelu/Erfc"),
        ("custom", "acme.Fancy", "fancy"),
    ]
