"""What is timed is the engine's inference alone, on inputs that were put in place, and answers as a run does."""

from __future__ import annotations

import numpy as np
import pytest

from convert.spec import SourceFile
from validators.runtimes import RUNTIMES, Subject

A, B, MANY = (
    np.random.default_rng(seed).random(shape) for seed, shape in enumerate([(1, 8, 8, 1)] * 2 + [(5, 8, 8, 1)])
)


def opened(runtime, path):
    return RUNTIMES[runtime].open(Subject(SourceFile(str(path), *RUNTIMES[runtime].formats, "", "", 0)))


def channels_first(image):
    return {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2)).astype("float32")}


def channels_last(image):
    return {"image": image.astype("float32")}


def test_litert_is_invoked_on_the_tensors_that_were_set(samples):
    pytest.importorskip("ai_edge_litert")
    session = opened("litert", samples / "digits.tflite")
    index = session._interpreter.get_output_details()[0]["index"]
    inputs = [channels_last(image) for image in (A, B, MANY)]
    expected = [session.run(one)["logits"].copy() for one in inputs]
    ready = [session.ready(one) for one in inputs]

    assert [one.whole for one in ready] == [""] * 3
    for place in (0, 1, 2, 1, 0):
        ready[place].place()
        for _ in range(3):  # as often as wanted: LiteRT leaves its inputs as they are
            ready[place].infer()
            assert np.array_equal(session._interpreter.get_tensor(index), expected[place])
    for place in (2, 0):
        assert np.array_equal(session.run(inputs[place])["logits"], expected[place]), "a run still answers"
        ready[1].place()
        ready[1].infer()
        assert np.array_equal(session._interpreter.get_tensor(index), expected[1]), "after a run of another size"


def test_litert_without_a_signature_is_invoked_too(tmp_path):
    session = opened("litert", graph(tmp_path, keys=()))
    ((name, detail),) = session._inputs.items()
    image = channels_last(A)["image"].astype(detail["dtype"])
    ((out, index),) = session._outputs.items()
    expected = session.run({name: image})[out].copy()

    one = session.ready({name: image})
    one.place()
    one.infer()

    assert one.whole == ""
    assert np.array_equal(session._interpreter.get_tensor(index), expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keys": ("serving_default", "again")}, "the file has 2 signatures"),
        ({"more": True}, "the inputs and outputs of its signature are not those of its graph"),
    ],
)
def test_litert_runs_whole_where_a_signature_may_be_of_another_graph(tmp_path, settings, said):
    session = opened("litert", graph(tmp_path, **settings))
    one = session.ready(channels_last(A))
    one.place()

    assert one.whole == said
    assert np.array_equal(one.infer()["logits"], session.run(channels_last(A))["logits"])


def graph(folder, keys=("serving_default",), *, more=False):
    """Write the digits with other signatures; with `more`, the graph gives what its signature leaves out."""
    pytest.importorskip("ai_edge_litert")
    from pathlib import Path

    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf((Path(__file__).parents[3] / "samples" / "digits.tflite").read_bytes())
    (signature,) = model.signatureDefs
    model.signatureDefs = []
    for key in keys:
        made = schema.SignatureDefT()
        made.signatureKey, made.inputs, made.outputs = key, signature.inputs, signature.outputs
        made.subgraphIndex = signature.subgraphIndex
        model.signatureDefs.append(made)
    if more:
        (first,) = model.subgraphs
        first.outputs = [*first.outputs, first.operators[0].outputs[0]]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = folder / "other.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def test_onnxruntime_keeps_a_binding_for_each_set_of_inputs(samples):
    pytest.importorskip("onnxruntime")
    session = opened("onnxruntime", samples / "digits.onnx")
    inputs = [channels_first(image) for image in (A, B, MANY)]
    expected = [session.run(one) for one in inputs]
    ready = [session.ready(one) for one in inputs]

    assert [one.whole for one in ready] == [""] * 3
    for place in (0, 2, 1, 0, 2):
        ready[place].place()
        ready[place].infer()
        (binding,) = ready[place].infer.args
        for found, answer in zip(binding.copy_outputs_to_cpu(), expected[place].values(), strict=True):
            assert np.array_equal(found, answer)
        again = session.run(inputs[1 - place % 2])
        assert all(np.array_equal(again[name], answer) for name, answer in expected[1 - place % 2].items())


def onnx_file(folder, node, kind, out):
    onnx = pytest.importorskip("onnx")
    given = onnx.helper.make_tensor_value_info("x", kind, [None])
    net = onnx.helper.make_graph([onnx.helper.make_node(node, ["x"], ["y"])], "net", [given], [out(onnx.helper)])
    model = onnx.helper.make_model(net, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return opened("onnxruntime", folder / "net.onnx")


def test_onnxruntime_answers_in_the_shape_that_the_inputs_make(tmp_path):
    session = onnx_file(tmp_path, "NonZero", 1, lambda h: h.make_tensor_value_info("y", 7, [1, None]))
    ready = [session.ready({"x": np.array(values, "float32")}) for values in ([1, 0, 1], [1, 1, 1], [0, 0, 0])]

    for _ in range(2):
        for one in ready:
            one.place()
            one.infer()
    assert [one.infer.args[0].copy_outputs_to_cpu()[0].tolist() for one in ready] == [[[0, 2]], [[0, 1, 2]], [[]]]


@pytest.mark.parametrize(
    ("node", "kind", "given", "named"),
    [("SequenceConstruct", 1, np.ones(2, "float32"), "y"), ("Identity", 8, np.array(["one", "two"]), "x")],
    ids=["a sequence", "text"],
)
def test_onnxruntime_runs_whole_what_it_cannot_bind(tmp_path, node, kind, given, named):
    def out(helper):
        made = helper.make_tensor_type_proto(kind, [None])
        return helper.make_value_info("y", helper.make_sequence_type_proto(made) if named == "y" else made)

    session = onnx_file(tmp_path, node, kind, out)
    one = session.ready({"x": given})
    one.place()

    assert one.whole == f"ONNX Runtime binds tensors of numbers, and {named} is none"
    assert np.array_equal(np.ravel(one.infer()["y"]), given)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_is_called_on_tensors_that_are_made_once(samples):
    torch = pytest.importorskip("torch")
    session = opened("torchscript", samples / "digits.pt")
    inputs = [channels_first(image) for image in (A, B)]
    for _ in range(3):  # its executor compiles in the first calls, and then answers otherwise in the last bits
        expected = [session.run(one) for one in inputs]
    ready = [session.ready(one) for one in inputs]

    for place in (0, 1, 0):
        found = ready[place].infer()
        (answer,) = expected[place].values()
        assert not found.requires_grad
        assert torch.equal(found, torch.from_numpy(answer))
    assert np.array_equal(*(next(iter(one.values())) for one in (session.run(inputs[1]), expected[1])))
