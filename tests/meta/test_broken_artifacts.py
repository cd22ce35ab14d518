"""Real artifact, broken on purpose in their files: each fault is caught by the gate every artifact passes."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.errors import WorkerCrashed
from convert.formats.tflite import read_model, write_model
from validators import validate
from validators.reports.json import read as read_report
from validators.structure import BY_POSITION
from validators.verdict import Status

# ONNX: the parsed model is changed in place


def values(graph, name):
    return next(value for value in (*graph.input, *graph.output) if value.name == name)


def declare(graph, name, dtype, shape):
    values(graph, name).CopyFrom(helper.make_tensor_value_info(name, dtype, shape))


def floats(graph):
    return [t for t in graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 1]


def reweigh(change, pick=lambda tensors: tensors):
    def edit(graph):
        for tensor in pick(floats(graph)):
            array = change(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(array.astype("float32"), tensor.name))

    return edit


def largest_weight_off(array):
    array.flat[np.abs(array).argmax()] *= 1.001
    return array


def replace_uses(graph, renames):
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renames.get(name, name)


def after(name, *nodes, **constants):
    """Put nodes behind an output: they read `was` and write `now`."""

    def edit(graph):
        for node in graph.node:
            for names in (node.input, node.output):
                for position, value in enumerate(names):
                    names[position] = "was" if value == name else value
        graph.initializer.extend(numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items())
        for node in nodes:
            copied = onnx.NodeProto.FromString(node.SerializeToString())
            copied.output[:] = [name if value == "now" else value for value in copied.output]
            graph.node.append(copied)

    return edit


def before(name, *nodes, **constants):
    """Put nodes behind an input: they read `given` and write `used`."""

    def edit(graph):
        replace_uses(graph, {name: f"{name}_used"})
        graph.initializer.extend(numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items())
        for position, node in enumerate(nodes):
            copied = onnx.NodeProto.FromString(node.SerializeToString())
            copied.input[:] = [name if value == "given" else value for value in copied.input]
            copied.output[:] = [f"{name}_used" if value == "used" else value for value in copied.output]
            graph.node.insert(position, copied)

    return edit


def declared(edit, name, dtype, shape):
    def both(graph):
        edit(graph)
        declare(graph, name, dtype, shape)

    return both


def rename(old, new):
    def edit(graph):
        replace_uses(graph, {old: new})
        for node in graph.node:
            node.output[:] = [new if name == old else name for name in node.output]
        values(graph, old).name = new

    return edit


def reorder(side):
    def edit(graph):
        tensors = [type(v).FromString(v.SerializeToString()) for v in reversed(getattr(graph, side))]
        del getattr(graph, side)[:]
        getattr(graph, side).extend(tensors)

    return edit


def remove(name):
    def edit(graph):
        graph.output.remove(values(graph, name))

    return edit


def add_output(graph):
    graph.node.append(helper.make_node("Identity", ["digit"], ["extra"]))
    graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["batch", 10]))


def swap_inputs(graph):
    replace_uses(graph, {"left": "right", "right": "left"})


def ignore_an_input(graph):
    replace_uses(graph, {"right": "left"})


def node(kind, inputs, output="now", **attributes):
    return helper.make_node(kind, inputs, [output], **attributes)


FLOAT, DOUBLE, HALF, LONG = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64
SPOT = np.zeros((1, 10), "float32")
NAN_SPOT = SPOT.copy()
NAN_SPOT[0, 3] = np.nan

AT_STRUCTURE = {
    "renamed output": (rename("digit", "output_0"), "named output_0"),
    "renamed input": (rename("right", "args_1"), "named left, args_1"),
    "reordered outputs": (reorder("output"), "in the order parity, digit"),
    "reordered inputs": (reorder("input"), "in the order right, left"),
    "missing output": (remove("parity"), "the artifact 1, digit"),
    "extra output": (add_output, "the artifact 3"),
    "dropped axis": (
        declared(after("digit", node("ReduceSum", ["was", "axis"], keepdims=0), axis=[1]), "digit", FLOAT, ["batch"]),
        "has the 1 axes",
    ),
    "added axis": (
        declared(after("digit", node("Unsqueeze", ["was", "axis"]), axis=[0]), "digit", FLOAT, [1, "batch", 10]),
        "has the 3 axes",
    ),
    "widened output": (
        declared(after("digit", node("Cast", ["was"], to=DOUBLE)), "digit", DOUBLE, ["batch", 10]),
        "digit is float64",
    ),
    "narrowed output": (
        declared(after("digit", node("Cast", ["was"], to=HALF)), "digit", HALF, ["batch", 10]),
        "digit is float16",
    ),
    "output of integers": (
        declared(after("digit", node("Cast", ["was"], to=LONG)), "digit", LONG, ["batch", 10]),
        "digit is int64",
    ),
    "widened input": (
        declared(before("left", node("Cast", ["given"], "used", to=FLOAT)), "left", DOUBLE, ["batch", 1, 8, 4]),
        "left is float64",
    ),
    "transposed input": (
        declared(
            before("left", node("Transpose", ["given"], "used", perm=[0, 1, 3, 2])), "left", FLOAT, ["batch", 1, 4, 8]
        ),
        "[batch,1,4,8]",
    ),
    "longer output": (
        declared(after("digit", node("Concat", ["was", "was"], axis=1)), "digit", FLOAT, ["batch", 20]),
        "[batch,20]",
    ),
    "transposed output": (
        declared(after("digit", node("Transpose", ["was"], perm=[1, 0])), "digit", FLOAT, [10, "batch"]),
        "digit has the size 10 on axis 0",
    ),
}

AT_PARITY = {
    "weights off by a thousandth": (reweigh(lambda a: a * 1.001), "times what its source does"),
    "weights of one layer off by a thousandth": (
        reweigh(lambda a: a * 1.001, lambda tensors: tensors[:1]),
        "times what its source does",
    ),
    "one weight off by a thousandth": (
        reweigh(largest_weight_off, lambda tensors: [max(tensors, key=lambda t: np.prod(t.dims))]),
        "times what its source does",
    ),
    "weights rounded to float16": (reweigh(lambda a: a.astype("float16")), "times what its source does"),
    "swapped inputs": (swap_inputs, "times what its source does"),
    "ignored input": (ignore_an_input, "input right changes"),
    "halves of an input exchanged": (
        before(
            "left",
            helper.make_node("Split", ["given"], ["top", "bottom"], axis=2, num_outputs=2),
            node("Concat", ["bottom", "top"], "used", axis=2),
        ),
        "times what its source does",
    ),
    "reversed last axis": (
        after("digit", node("Slice", ["was", "a", "b", "c", "d"]), a=[-1], b=[-99], c=[1], d=[-1]),
        "times what its source does",
    ),
    "dropped axis that it does not declare": (
        after(
            "digit",
            node("Shape", ["was"], "s"),
            node("ReduceProd", ["s"], "n", keepdims=1),
            node("Reshape", ["was", "n"]),
        ),
        "",
    ),
    "empty output": (
        after("digit", node("Slice", ["was", "a", "b", "c"]), a=[0], b=[0], c=[0]),
        "",
    ),
    "one NaN": (after("digit", node("Add", ["was", "spot"]), spot=NAN_SPOT), "NaN in other places"),
    "infinity": (after("digit", node("Div", ["was", "zero"]), zero=np.float32(0)), "infinity in other places"),
    "constant output": (
        after("digit", node("Mul", ["was", "zero"]), zero=np.float32(0)),
        "",
    ),
    "softmax forgotten or added": (after("digit", node("Softmax", ["was"], axis=1)), "times what its source does"),
    "mixing the rows of a batch": (
        after(
            "digit",
            node("ReduceMean", ["was", "axis"], "mean", keepdims=1),
            node("Shape", ["was"], "shape"),
            node("Expand", ["mean", "shape"]),
            axis=[0],
        ),
        "batch-",
    ),
    "negative inputs cut off": (before("left", node("Relu", ["given"], "used")), "times what its source does"),
    "large inputs cut off": (
        before("left", node("Clip", ["given", "low", "high"], "used"), low=np.float32(-9), high=np.float32(9)),
        "times what its source does",
    ),
    "spikes cut off": (
        before("left", node("Clip", ["given", "low", "high"], "used"), low=np.float32(-50), high=np.float32(50)),
        "spikes-",
    ),
    "single spikes taken away": (
        before(
            "left",
            node("Abs", ["given"], "size"),
            node("ReduceMax", ["size", "image"], "largest", keepdims=1),
            node("ReduceMean", ["size", "image"], "usual", keepdims=1),
            node("Mul", ["usual", "many"], "limit"),
            node("Greater", ["largest", "limit"], "spiked"),
            node("Clip", ["given", "low", "high"], "calm"),
            node("Where", ["spiked", "calm", "given"], "used"),
            image=[2, 3],
            many=np.float32(15),
            low=np.float32(-9),
            high=np.float32(9),
        ),
        "spikes-",
    ),
    "saturated inputs cut off": (
        before("left", node("Clip", ["given", "low", "high"], "used"), low=np.float32(-110), high=np.float32(110)),
        "saturation-0",
    ),
    "small inputs cut off": (
        before(
            "left",
            node("Abs", ["given"], "size"),
            node("Greater", ["size", "least"], "seen"),
            node("Where", ["seen", "given", "zero"], "used"),
            least=np.float32(5e-3),
            zero=np.float32(0),
        ),
        "small-",
    ),
    "noise": (
        after("digit", node("RandomNormalLike", ["was"], "noise", scale=1e-3), node("Add", ["was", "noise"])),
        "differs when the artifact is run again",
    ),
    "operator on a type it does not take": (after("digit", node("Not", ["was"])), "cannot load"),
    "operator that fails on some sizes": (
        after("digit", node("Reshape", ["was", "one"]), one=[1, 10]),
        "the artifact fails on case batch-",
    ),
}

NOTHING = {
    "saved again": lambda graph: None,
    "identity added": after("digit", node("Identity", ["was"])),
    "weights multiplied by one": reweigh(lambda a: a * 1.0),
    "added and taken away": after(
        "digit", node("Add", ["was", "one"], "more"), node("Sub", ["more", "one"]), one=np.float32(0)
    ),
    "transposed twice": after("digit", node("Transpose", ["was"], "turned"), node("Transpose", ["turned"])),
}


@pytest.fixture
def edited(artifact, tmp_path):
    """Edit a copy of the proven ONNX artifact."""

    def make(edit):
        model = onnx.load(artifact("onnx"))
        del model.graph.value_info[:]
        edit(model.graph)
        if any(n.domain == "nobody" for n in model.graph.node):
            model.opset_import.append(helper.make_opsetid("nobody", 1))
        path = tmp_path / "edited.onnx"
        onnx.save(model, path)
        return path

    return make


@pytest.mark.parametrize("edit", NOTHING.values(), ids=NOTHING.keys())
def test_an_edit_that_changes_nothing_passes(bench, edited, edit):
    proof = bench.prove(edited(edit))

    assert (proof.structure.status, proof.parity.status) == (Status.PASS, Status.PASS)


def test_an_artifact_that_nan_ends_or_hangs_fails_by_that_reason(bench, edited):
    """No kernel at hand dies of NaN, so its process is made to, on the cases that hold one."""

    class Dying:
        folder = bench.workers.folder

        def run(self, stage, function, job, environment):
            if "nan-left" in getattr(job, "only", ()):
                raise WorkerCrashed("killed by SIGSEGV")
            return bench.workers.run(stage, function, job, environment)

    proof = dataclasses.replace(bench, workers=Dying()).prove(edited(lambda graph: None))

    assert proof.parity.status is Status.FAIL
    assert "does not survive NaN or infinity in an input, as its source does: killed by SIGSEGV" in proof.parity.reason


def test_where_nan_of_an_input_goes_is_told_and_decides_nothing(bench, edited):
    nan_to_zero = before(
        "left", node("IsNaN", ["given"], "odd"), node("Where", ["odd", "zero", "given"], "used"), zero=np.float32(0)
    )

    swallowing, plain = bench.prove(edited(nan_to_zero)), bench.prove(edited(lambda graph: None))

    assert (swallowing.parity.status, plain.parity.status) == (Status.PASS, Status.PASS)
    (told,) = [f.message for f in plain.parity.findings if f.check == "propagation"]
    assert "reach the same places" in told
    assert any(
        "with one NaN in left" in f.message and "0 in the artifact" in f.message for f in swallowing.parity.findings
    )


@pytest.mark.parametrize(("edit", "words"), AT_STRUCTURE.values(), ids=AT_STRUCTURE.keys())
def test_an_onnx_file_that_breaks_the_contract_fails_before_it_is_run(bench, edited, edit, words):
    proof = bench.prove(edited(edit))

    assert proof.structure.status is Status.FAIL
    assert words in proof.structure.reason
    assert proof.parity.status is Status.NOT_RUN


@pytest.mark.parametrize(("edit", "words"), AT_PARITY.values(), ids=AT_PARITY.keys())
def test_an_onnx_file_that_keeps_the_contract_and_computes_something_else_fails(bench, edited, edit, words):
    proof = bench.prove(edited(edit))

    assert proof.structure.status is Status.PASS
    assert proof.parity.status is Status.FAIL
    assert words in proof.parity.reason


def test_an_operator_that_no_engine_has_is_refused_by_name_and_place(bench, edited):
    proof = bench.prove(edited(after("digit", node("Frobnicate", ["was"], domain="nobody"))))
    assert proof.structure.status is Status.FAIL
    assert "nobody.Frobnicate (digit); accept them with --allow-custom" in proof.structure.reason
    assert proof.parity.status is Status.NOT_RUN


def test_renamed_tensors_pass_when_they_are_matched_by_position(bench, edited):
    path = edited(rename("digit", "output_0"))

    assert bench.prove(path).structure.status is Status.FAIL
    assert bench.prove(path, BY_POSITION).parity.status is Status.PASS


def test_matching_by_position_does_not_forgive_swapped_outputs(bench, edited):
    assert bench.prove(edited(reorder("output")), BY_POSITION).structure.status is Status.FAIL


def test_matching_by_position_does_not_forgive_swapped_inputs(bench, edited):
    proof = bench.prove(edited(reorder("input")), BY_POSITION)

    assert proof.structure.status is Status.PASS
    assert proof.parity.status is Status.FAIL


def fixed_to(size):
    def edit(graph):
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size

    return edit


def test_a_batch_that_is_fixed_to_one_passes_and_is_said(bench, edited):
    proof = bench.prove(edited(fixed_to(1)))

    assert proof.parity.status is Status.PASS
    assert "batch is fixed to 1, the source's is free" in proof.structure.reason


def test_a_batch_that_is_fixed_to_a_size_no_case_has_is_not_run(bench, edited):
    proof = bench.prove(edited(fixed_to(4)))

    assert proof.parity.status is Status.NOT_RUN
    assert "no case has the sizes the artifact is fixed to" in proof.parity.reason


def cut_off(data):
    return data[: len(data) * 2 // 3]


def member_damaged(data):
    return data.replace(b"return", b"re\0\0rn")


@pytest.mark.parametrize(
    ("form", "damage"),
    [("onnx", cut_off), ("tflite", cut_off), ("torchscript", member_damaged)],
)
def test_a_damaged_file_fails_with_a_reason(bench, artifact, tmp_path, form, damage):
    path = tmp_path / artifact(form).name
    data = artifact(form).read_bytes()
    assert damage(data) != data
    path.write_bytes(damage(data))

    proof = bench.prove(path)

    assert Status.FAIL in (proof.structure.status, proof.parity.status)
    assert Status.PASS is not proof.parity.status
    assert "damaged" in proof.structure.reason or "cannot load" in proof.parity.reason


# TFLite: the flatbuffer's object tree is changed in place


def off_by_a_thousandth(model):
    for tensor in model.subgraphs[0].tensors:
        buffer = model.buffers[tensor.buffer]
        if tensor.type == 0 and buffer.data is not None and len(buffer.data):
            weights = np.frombuffer(bytes(buffer.data), "float32") * np.float32(1.001)
            buffer.data = np.frombuffer(weights.tobytes(), "uint8")


def swapped_inputs(model):
    left, right = model.signatureDefs[0].inputs
    left.tensorIndex, right.tensorIndex = right.tensorIndex, left.tensorIndex


def renamed_output(model):
    model.signatureDefs[0].outputs[0].name = b"output_0"


def reordered_outputs(model):
    model.signatureDefs[0].outputs.reverse()


def missing_output(model):
    model.signatureDefs[0].outputs.pop()


def swapped_output_tensors(model):
    digit, parity = model.signatureDefs[0].outputs
    digit.tensorIndex, parity.tensorIndex = parity.tensorIndex, digit.tensorIndex


def nothing(model):
    pass


@pytest.mark.parametrize(
    ("edit", "structure", "parity"),
    [
        (nothing, Status.PASS, Status.PASS),
        (off_by_a_thousandth, Status.PASS, Status.FAIL),
        (swapped_inputs, Status.PASS, Status.FAIL),
        (renamed_output, Status.FAIL, Status.NOT_RUN),
        (reordered_outputs, Status.FAIL, Status.NOT_RUN),
        (missing_output, Status.FAIL, Status.NOT_RUN),
        (swapped_output_tensors, Status.FAIL, Status.NOT_RUN),
    ],
)
def test_a_tflite_file_that_was_broken_is_caught(bench, artifact, tmp_path, edit, structure, parity):
    path = tmp_path / "edited.tflite"
    model = read_model(artifact("tflite"))
    edit(model)
    write_model(path, model)

    proof = bench.prove(path)

    assert (proof.structure.status, proof.parity.status) == (structure, parity)


# TorchScript: the archive's members are changed


def constants_off(name, data):
    if ("/constants/" not in name and "/data/" not in name) or len(data) < 64 or len(data) % 4:
        return data
    return (np.frombuffer(data, "float32") * np.float32(1.001)).tobytes()


def code_exchanging(pattern):
    names = {b"left": b"right", b"right": b"left"}

    def edit(name, data):
        return re.sub(pattern, lambda match: names[match[1]], data) if name.endswith(".py") else data

    return edit


#: The body takes one input for the other.
inputs_swapped = code_exchanging(rb"\b(left|right)\b(?!: Tensor)")
#: LibTorch, as phones call it, passes arguments by position only.
arguments_reordered = code_exchanging(rb"\b(left|right)\b(?=: Tensor)")


def output_renamed(name, data):
    return data.replace(b'"digit"', b'"output_0"') if name.endswith("signature.json") else data


def dtype_promised_wider(name, data):
    if not name.endswith("signature.json"):
        return data
    promise = json.loads(data)
    promise["outputs"][0]["dtype"] = "float64"
    return json.dumps(promise).encode()


def untouched(name, data):
    return data


@pytest.fixture
def rewritten(artifact, tmp_path):
    """Edit the members of a copy of the proven TorchScript artifact."""

    def make(edit):
        path = tmp_path / "edited.pt"
        changed = 0
        with zipfile.ZipFile(artifact("torchscript")) as old, zipfile.ZipFile(path, "w") as new:
            for entry in old.infolist():
                data = old.read(entry)
                changed += edit(entry.filename, data) != data
                new.writestr(entry, edit(entry.filename, data))
        assert bool(changed) == (edit is not untouched)
        return path

    return make


@pytest.mark.parametrize(
    ("edit", "structure", "parity"),
    [
        (untouched, Status.PASS, Status.PASS),
        (constants_off, Status.PASS, Status.FAIL),
        (inputs_swapped, Status.PASS, Status.FAIL),
        (output_renamed, Status.FAIL, Status.NOT_RUN),
        (dtype_promised_wider, Status.FAIL, Status.NOT_RUN),
    ],
)
def test_a_torchscript_file_that_was_broken_is_caught(bench, rewritten, edit, structure, parity):
    proof = bench.prove(rewritten(edit))

    assert (proof.structure.status, proof.parity.status) == (structure, parity)


def test_a_torchscript_file_that_takes_its_inputs_in_another_order_is_never_a_pass(bench, rewritten):
    proof = bench.prove(rewritten(arguments_reordered))

    assert Status.FAIL in (proof.structure.status, proof.parity.status)


# The whole tool


def test_the_reference_against_itself_passes_a_real_run(samples, tmp_path):
    model = samples / "two_by_two.pt"

    report = validate(model, model, out=tmp_path / "proof", timeout_seconds=300)

    assert (report.exit_code, report.targets[0].status) == (0, Status.PASS)
    assert [output.ratio for output in report.targets[0].attempts[0].parity.outputs] == [1, 1]


def test_a_broken_artifact_fails_a_real_run_and_its_report_says_why(samples, edited, tmp_path):
    path = edited(reweigh(lambda a: a * 1.001))

    report = validate(path, samples / "two_by_two.pt", out=tmp_path / "proof", timeout_seconds=300)

    assert report.exit_code == 1
    (target,) = report.targets
    assert "times what its source does" in target.reason
    assert (target.latency, target.latency_reason) == ((), "not proven")
    written = read_report((tmp_path / "proof" / "report.json").read_bytes())
    assert (written.exit_code, written.targets[0].reason) == (1, target.reason)
