"""Keras models that their file describes poorly load all the same, or say what is needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convert.errors import LoadError, MissingInputs
from convert.sources import KERAS, Loading, describe, identify
from convert.spec import Limits, LoadOptions, specs_from
from convert.worker import Workers

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    made = subprocess.run([sys.executable, HERE / "keras_models.py", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with Workers(tmp_path_factory.mktemp("stages"), Limits(120, 8 << 30)) as workers:
        yield workers


def facts(workers, path, *inputs):
    job = Loading(identify(path), LoadOptions(inputs=specs_from(inputs)))
    return workers.run(f"load-{path.name}", describe, job, KERAS.environment).value


def test_a_file_of_keras_2_loads_without_the_options_that_keras_3_refuses(models, workers):
    before = (models / "keras_2.h5").read_bytes()
    signature = facts(workers, models / "keras_2.h5").signature
    assert str(signature) == "(image:float32[batch,6,6,2]) -> (scores:float32[batch,2])"
    assert (models / "keras_2.h5").read_bytes() == before


def test_functions_that_keras_2_wrapped_are_named_with_the_way_around(models, workers, tmp_path):
    import h5py

    path = shutil.copyfile(models / "keras_2.h5", tmp_path / "wrapped.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer = {"name": "tf.nn.relu", "function": "nn.relu"}
        config["config"]["layers"].append({"class_name": "TFOpLambda", "config": layer, "inbound_nodes": []})
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(LoadError, match=r"nn\.relu") as raised:
        facts(workers, path)
    assert "convert that folder" in raised.value.fix


def test_an_option_of_keras_2_that_means_something_is_not_left_out(models, workers, tmp_path):
    import h5py

    path = shutil.copyfile(models / "keras_2.h5", tmp_path / "time_major.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"time_major": false', '"time_major": true')
    with pytest.raises(LoadError, match="time_major"):
        facts(workers, path)


def test_layers_that_read_text_are_split_off_and_the_report_says_what_the_app_must_do(models, workers):
    told = facts(workers, models / "text.keras")
    assert [str(spec) for spec in told.signature.inputs] == ["words:int64[batch,8]=0..49", "numbers:float32[batch,3]"]
    (note,) = told.notes
    assert note.startswith("words (TextVectorization, 13 words) reads text and was split off")
    assert "the app computes it and feeds the input words" in note


def test_nested_inputs_and_outputs_are_named_by_the_way_to_them(models, workers):
    signature = facts(workers, models / "nested.keras").signature
    assert [spec.name for spec in signature.inputs] == ["u.a", "u.b", "v"]
    assert sorted(spec.name for spec in signature.outputs) == ["flat", "z.again", "z.deep"]


def test_a_sequential_model_that_was_never_called_knows_its_input(models, workers):
    signature = facts(workers, models / "sequential.keras").signature
    assert [spec.shape for spec in (*signature.inputs, *signature.outputs)] == [("batch", 5), ("batch", 3)]


def test_a_model_that_does_not_say_what_it_takes_loads_with_stated_inputs(models, workers):
    with pytest.raises(MissingInputs, match="does not say what its inputs are"):
        facts(workers, models / "unbuilt.keras")
    signature = facts(workers, models / "unbuilt.keras", "features:float32[batch,7]").signature
    assert str(signature.inputs[0]) == "features:float32[batch,7]"
