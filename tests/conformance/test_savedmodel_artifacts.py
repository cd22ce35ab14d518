"""SavedModels as artifacts: the layout that TensorFlow Serving loads, and warm-up requests that it can replay."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from convert import convert
from validators.verdict import Status

#: Replay the warm-up file of a model as TensorFlow Serving does: decode every request by the messages' descriptors, and
#: call the signature it names by the names it gives.
REPLAY = """
import json, sys
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
import tensorflow as tf

def message(file, name, *fields):
    made = file.message_type.add(name=name)
    for field, number, kind in fields:
        made.field.add(name=field, number=number, label=1, type=11 if kind else 9, type_name=kind or None)
    return made

file = descriptor_pb2.FileDescriptorProto(
    name="replay.proto", package="replay", syntax="proto3", dependency=["tensorflow/core/framework/tensor.proto"]
)
message(file, "ModelSpec", ("name", 1, ""), ("signature_name", 3, ""))
request = message(file, "PredictRequest", ("model_spec", 1, ".replay.ModelSpec"))
entry = request.nested_type.add(name="InputsEntry")
entry.field.add(name="key", number=1, label=1, type=9)
entry.field.add(name="value", number=2, label=1, type=11, type_name=".tensorflow.TensorProto")
entry.options.map_entry = True
request.field.add(name="inputs", number=2, label=3, type=11, type_name=".replay.PredictRequest.InputsEntry")
message(file, "PredictLog", ("request", 1, ".replay.PredictRequest"))
message(file, "PredictionLog", ("predict_log", 6, ".replay.PredictLog"))
pool = descriptor_pool.Default()
pool.Add(file)
Log = message_factory.GetMessageClass(pool.FindMessageTypeByName("replay.PredictionLog"))

folder = sys.argv[1] + "/1"
model = tf.saved_model.load(folder)
shapes = []
for record in tf.data.TFRecordDataset(folder + "/assets.extra/tf_serving_warmup_requests"):
    log = Log.FromString(record.numpy()).predict_log.request
    tensors = {name: tf.constant(tf.make_ndarray(value)) for name, value in log.inputs.items()}
    found = model.signatures[log.model_spec.signature_name](**tensors)
    shapes.append([log.model_spec.name, {name: tensor.shape.as_list() for name, tensor in found.items()}])
print(json.dumps(shapes))
"""


@pytest.fixture(scope="module", params=["two_by_two.keras", pytest.param("two_by_two.pt", marks=pytest.mark.slow)])
def served(request, samples, tmp_path_factory):
    report = convert(samples / request.param, to="savedmodel", out=tmp_path_factory.mktemp("served"), threads=())
    (target,) = report.targets
    assert target.status is Status.PASS, target.reason
    return report, Path(target.artifact.path)


def test_the_layout_is_the_one_that_tensorflow_serving_loads(served):
    _, folder = served
    assert folder.name == "two_by_two"
    assert {path.name for path in folder.iterdir()} == {"1"}
    assert {path.name for path in (folder / "1").iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}


def test_the_contract_survives_with_its_free_batch(served):
    report, _ = served
    assert report.targets[0].artifact.signature == report.model.signature
    assert report.model.signature.free == ("batch",)


def test_the_warm_up_requests_are_answered_at_every_batch(served):
    _, folder = served
    replayed = subprocess.run([sys.executable, "-c", REPLAY, folder], capture_output=True, text=True, check=True)
    answers = json.loads(replayed.stdout)
    assert answers == [["two_by_two", {"digit": [n, 10], "parity": [n, 2]}] for n in (1, 2, 3, 5)]
