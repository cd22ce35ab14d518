"""Finished files: the contract is written into them, and read back without the framework that made them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from convert.formats import FORMATS, Draft, Foreign, FormatError, Unsigned, recognise
from convert.formats import onnx as onnx_format
from convert.formats import tflite as tflite_format
from convert.spec import Promise, Signature, TensorSpec

SAMPLES = Path(__file__).parents[3] / "samples"

#: What the small files below compute: left - right, twice.
PROMISED = Signature(
    (TensorSpec("left", "float32", ("batch", 4)), TensorSpec("right", "float32", ("batch", 4))),
    (TensorSpec("difference", "float32", ("batch", 4)), TensorSpec("double", "float32", ("batch", 4))),
)


def draft(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], signature: Signature = PROMISED) -> Draft:
    return Draft(str(path), signature, inputs, outputs)


def shuffled_onnx(path: Path, *, producer: str = "", inner: str = "add__7", batch: int | str = "unk__12") -> Path:
    """Write a graph as converters leave it: other names, inputs and outputs in another order, unnamed sizes."""

    def value(name: str):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4])

    nodes = [
        helper.make_node("Sub", ["a:0", "b:0"], [inner], name="sub__5"),
        helper.make_node("Identity", [inner], ["Identity:0"], name="id__6"),
        helper.make_node("Add", [inner, inner], ["Identity_1:0"], name="add__7"),
    ]
    graph = helper.make_graph(nodes, "g", [value("b:0"), value("a:0")], [value("Identity_1:0"), value("Identity:0")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name=producer, ir_version=9)
    onnx.save(model, str(path))
    return path


def sealed_onnx(path: Path, **more) -> Path:
    shuffled_onnx(path, **more)
    onnx_format.seal(path, draft(path, ("a:0", "b:0"), ("Identity:0", "Identity_1:0")))
    return path


def run_onnx(path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def tflite_tensor(name: str, size: int, signature: list[int] | None = None):
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name.encode(), 0, [size, 4], 0
    tensor.shapeSignature = signature
    return tensor


def tflite_operator(code: int, inputs: list[int], outputs: list[int]):
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    if code == 0:
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SubOptions, schema.SubOptionsT()
    else:
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    return operator


def shuffled_tflite(path: Path, *, signed: bool = True, free: bool = True) -> Path:
    """Write a flatbuffer as converters leave it: other names, inputs and outputs in another order."""
    model = schema.ModelT()
    model.version, model.description, model.buffers = 3, b"made by a test", [schema.BufferT()]
    codes = []
    for builtin in (schema.BuiltinOperator.SUB, schema.BuiltinOperator.ADD):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        codes.append(code)
    graph = schema.SubGraphT()
    sizes = [-1, 4] if free else None
    graph.tensors = [tflite_tensor(name, 1, sizes) for name in ("serving_b:0", "serving_a:0", "inner", "out:0")]
    graph.inputs, graph.outputs = [0, 1], [3, 2]
    graph.operators = [tflite_operator(0, [1, 0], [2]), tflite_operator(1, [2, 2], [3])]
    model.operatorCodes, model.subgraphs = codes, [graph]
    if signed:
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = b"made_up", 0
        definition.inputs = [tflite_entry("input_0", 1), tflite_entry("input_1", 0)]
        definition.outputs = [tflite_entry("output_1", 3), tflite_entry("output_0", 2)]
        model.signatureDefs = [definition]
    tflite_format.write_model(path, model)
    return path


def tflite_entry(name: str, index: int):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def run_tflite(path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return {name: np.array(value) for name, value in runner(**inputs).items()}


LEFT = np.arange(8, dtype="float32").reshape(2, 4)
RIGHT = np.ones((2, 4), "float32")


def test_onnx_carries_the_promised_names_in_the_promised_order_and_names_its_free_dimensions(tmp_path):
    facts = onnx_format.read(sealed_onnx(tmp_path / "x.onnx"))
    assert facts.signature == PROMISED
    assert facts.operators == {"Add": 1, "Identity": 1, "Sub": 1}


def test_sealed_onnx_is_valid_and_computes_what_it_did(tmp_path):
    path = sealed_onnx(tmp_path / "x.onnx")
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    found = run_onnx(path, left=LEFT, right=RIGHT)
    np.testing.assert_array_equal(found["difference"], LEFT - RIGHT)
    np.testing.assert_array_equal(found["double"], 2 * (LEFT - RIGHT))


@pytest.mark.parametrize("inner", ["left", "double", "right"])
@pytest.mark.parametrize("producer", ["", "tf2onnx"])
def test_an_inner_value_steps_aside_for_a_promised_name(tmp_path, inner, producer):
    path = sealed_onnx(tmp_path / "x.onnx", inner=inner, producer=producer)
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    np.testing.assert_array_equal(run_onnx(path, left=LEFT, right=RIGHT)["double"], 2 * (LEFT - RIGHT))


def test_names_that_a_converter_swapped_are_swapped_back(tmp_path):
    path = shuffled_onnx(tmp_path / "x.onnx")
    swapped = onnx.load(str(path))
    renames = {"a:0": "right", "b:0": "left"}
    for value in swapped.graph.input:
        value.name = renames[value.name]
    for node in swapped.graph.node:
        node.input[:] = [renames.get(name, name) for name in node.input]
    onnx.save(swapped, str(path))
    onnx_format.seal(path, draft(path, ("right", "left"), ("Identity:0", "Identity_1:0")))
    found = run_onnx(path, left=LEFT, right=RIGHT)
    np.testing.assert_array_equal(found["difference"], LEFT - RIGHT)


def test_a_size_that_the_file_fixes_stays_fixed_and_is_read_as_such(tmp_path):
    facts = onnx_format.read(sealed_onnx(tmp_path / "x.onnx", batch=3))
    assert [spec.shape for spec in facts.signature.inputs] == [(3, 4), (3, 4)]


def test_an_onnx_file_without_a_promised_tensor_is_refused_by_that_tensors_name(tmp_path):
    path = shuffled_onnx(tmp_path / "x.onnx")
    with pytest.raises(FormatError, match=r"no tensor for .*double"):
        onnx_format.seal(path, draft(path, ("a:0", "b:0"), ("Identity:0", "nowhere")))


@pytest.mark.parametrize("counter", [1, 400])
def test_the_numbers_a_converter_counts_on_leave_no_trace(tmp_path, counter):
    """tf2onnx goes on counting from one conversion to the next."""
    first, later = sealed_onnx(tmp_path / "a.onnx", producer="tf2onnx"), tmp_path / "b.onnx"
    shuffled_onnx(later, producer="tf2onnx", inner=f"add__{7 + counter}")
    model = onnx.load(str(later))
    for position, node in enumerate(model.graph.node):
        node.name = f"{node.name.rpartition('__')[0]}__{position + counter}"
    onnx.save(model, str(later))
    onnx_format.seal(later, draft(later, ("a:0", "b:0"), ("Identity:0", "Identity_1:0")))
    assert later.read_bytes() == first.read_bytes()


def test_tflite_carries_the_promised_names_in_the_promised_order_and_its_free_batch(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite")
    tflite_format.seal(path, draft(path, ("input_0", "input_1"), ("output_0", "output_1")))
    facts = tflite_format.read(path)
    assert facts.signature == PROMISED
    assert facts.operators == {"ADD": 1, "SUB": 1}


def test_sealed_tflite_computes_what_it_did(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite")
    tflite_format.seal(path, draft(path, ("input_0", "input_1"), ("output_0", "output_1")))
    found = run_tflite(path, left=LEFT, right=RIGHT)
    np.testing.assert_array_equal(found["difference"], LEFT - RIGHT)
    np.testing.assert_array_equal(found["double"], 2 * (LEFT - RIGHT))


def test_the_graphs_own_order_follows_the_signatures_for_callers_that_go_by_position(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite")
    tflite_format.seal(path, draft(path, ("input_0", "input_1"), ("output_0", "output_1")))
    graph = tflite_format.read_model(path).subgraphs[0]
    assert (list(graph.inputs), list(graph.outputs)) == ([1, 0], [2, 3])


def test_a_tflite_file_without_a_signature_is_signed_by_position(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite", signed=False)
    by_position = Signature(tuple(reversed(PROMISED.inputs)), tuple(reversed(PROMISED.outputs)))
    tflite_format.seal(path, draft(path, ("b", "a"), ("out", "inner"), by_position))
    found = run_tflite(path, left=LEFT, right=RIGHT)
    np.testing.assert_array_equal(found["difference"], LEFT - RIGHT)


def test_a_tflite_file_without_a_signature_is_read_by_its_tensors(tmp_path):
    signature = tflite_format.read(shuffled_tflite(tmp_path / "x.tflite", signed=False, free=False)).signature
    assert [str(spec) for spec in signature.inputs] == ["serving_b:0:float32[1,4]", "serving_a:0:float32[1,4]"]


def test_a_tflite_file_without_a_promised_tensor_is_refused_by_that_tensors_name(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite")
    with pytest.raises(FormatError, match="no tensor 'nowhere'"):
        tflite_format.seal(path, draft(path, ("input_0", "nowhere"), ("output_0", "output_1")))


def test_sealing_tflite_twice_changes_nothing_more(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite")
    tflite_format.seal(path, draft(path, ("input_0", "input_1"), ("output_0", "output_1")))
    before = path.read_bytes()
    tflite_format.seal(path, draft(path, ("left", "right"), ("difference", "double")))
    assert path.read_bytes() == before


@pytest.mark.parametrize(("name", "make"), [("tflite", shuffled_tflite), ("onnx", shuffled_onnx)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_damaged_and_says_so(tmp_path, name, make, share):
    path = make(tmp_path / "x.bin")
    assert recognise(path).name == name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FormatError, match="damaged") as refused:
        FORMATS[name].read(path)
    assert str(path) in refused.value.message
    assert refused.value.fix


def test_a_tflite_file_whose_inside_is_garbage_is_damaged(tmp_path):
    path = shuffled_tflite(tmp_path / "x.tflite")
    content = bytearray(path.read_bytes())
    content[16:-16] = b"\x7f" * (len(content) - 32)
    path.write_bytes(content)
    with pytest.raises(FormatError):
        tflite_format.read(path)


def test_onnx_weights_outside_the_models_folder_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [out], [weight])
    (folder / "x.onnx").write_bytes(helper.make_model(graph, ir_version=9).SerializeToString())
    with pytest.raises(FormatError):
        onnx_format.read(folder / "x.onnx")


def saved_by(torch_version: str, path: Path, root: str) -> Path:
    """Copy the sample archive as another save would have written it: other root, identity and debug records."""
    with zipfile.ZipFile(SAMPLES / "digits.pt") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            member = name.split("/", 1)[1]
            new.writestr(f"{root}/{member}", torch_version.encode() if "serialization_id" in member else old.read(name))
            if member.endswith(".py"):
                new.writestr(f"{root}/{member}.debug_pkl", f"/home/{root}/net.py".encode())
    return path


DIGITS = Signature(
    (TensorSpec("image", "float32", ("batch", 1, 8, 8)),), (TensorSpec("logits", "float32", ("batch", 10)),)
)


def sealed_torchscript(path: Path) -> Path:
    FORMATS["torchscript"].seal(path, draft(path, ("image",), ("logits",), DIGITS))
    return path


def test_torchscript_carries_the_promise_as_its_extra_file(tmp_path):
    path = sealed_torchscript(saved_by("1", tmp_path / "x.pt", "mine"))
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("signature.json")]
        promise = msgspec.json.decode(archive.read(name), type=Promise)
    assert promise == Promise(DIGITS.inputs, ("logits",), DIGITS.outputs)
    facts = FORMATS["torchscript"].read(path)
    assert facts.signature == DIGITS
    assert facts.operators["batch_norm"] >= 1


def test_two_saves_of_one_module_give_equal_archives(tmp_path):
    first = sealed_torchscript(saved_by("1", tmp_path / "first.pt", "first"))
    second = sealed_torchscript(saved_by("2", tmp_path / "second.pt", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_of_the_machine_that_saved_it_is_left_in_the_archive(tmp_path):
    path = sealed_torchscript(saved_by("1", tmp_path / "mine.pt", "somebody"))
    with zipfile.ZipFile(path) as archive:
        assert [name for name in archive.namelist() if "debug" in name or "somebody" in name] == []
        assert archive.testzip() is None
    assert b"/home/somebody" not in path.read_bytes()


def test_the_weights_stay_as_they_were(tmp_path):
    path = sealed_torchscript(saved_by("1", tmp_path / "x.pt", "mine"))
    with zipfile.ZipFile(path) as sealed, zipfile.ZipFile(SAMPLES / "digits.pt") as original:
        for name in original.namelist():
            member = name.split("/", 1)[1]
            if member.startswith("data/") or member in ("data.pkl", "constants.pkl", "version"):
                assert sealed.read(f"model/{member}") == original.read(name)


def test_a_torchscript_archive_without_a_full_signature_does_not_say_what_it_takes():
    with pytest.raises(Unsigned, match="carries no full signature"):
        FORMATS["torchscript"].read(SAMPLES / "digits.pt")  # names its outputs, but not their shapes


def with_custom(path: Path, *names: str, runtime: str = "") -> Path:
    """Write a TFLite file whose operators are custom ones of these names."""
    model = tflite_format.read_model(shuffled_tflite(path))
    model.operatorCodes, model.subgraphs[0].operators = [], []
    for position, name in enumerate(names):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = name
        model.operatorCodes.append(code)
        model.subgraphs[0].operators.append(tflite_operator(position, [0, 1], [2]))
    if runtime:
        stated = schema.MetadataT()
        stated.name, stated.buffer = "min_runtime_version", len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(runtime.encode().ljust(16, b"\0"), np.uint8)
        model.metadata = [stated]
    tflite_format.write_model(path, model)
    return path


def test_operators_that_a_stock_interpreter_lacks_are_named_with_the_tensor_they_write(tmp_path):
    path = with_custom(tmp_path / "x.tflite", "FlexErf", "ONNX_STFT", "TFLite_Detection_PostProcess")
    facts = tflite_format.read(path)
    assert facts.foreign == (Foreign("flex", "FlexErf", "inner"), Foreign("custom", "ONNX_STFT", "inner"))
    assert facts.operators == {"FlexErf": 1, "ONNX_STFT": 1, "TFLite_Detection_PostProcess": 1}


@pytest.mark.parametrize(("stated", "said"), [("2.16.0", "2.16.0"), ("", "of no stated version")])
def test_the_least_runtime_is_the_one_the_file_states(tmp_path, stated, said):
    path = with_custom(tmp_path / "x.tflite", "FlexErf", runtime=stated)
    assert tflite_format.read(path).requires == (f"TFLite runtime {said}",)
