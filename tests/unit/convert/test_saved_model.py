"""SavedModels: recognised, chosen from, refused where they reach out, and run in double precision."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from convert.errors import EdgeproofError, LoadError, MissingInputs, UnknownName, UnknownSource, UsageError
from convert.sources import TENSORFLOW, Loading, describe, identify
from convert.sources._saved_model import place_of
from convert.spec import Limits, LoadOptions, specs_from
from convert.worker import Workers
from validators.runtimes import Execution, Subject, execute

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    made = subprocess.run([sys.executable, HERE / "saved_models.py", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with Workers(tmp_path_factory.mktemp("stages"), Limits(120, 8 << 30)) as workers:
        yield workers


def facts(workers, path, **options):
    job = Loading(identify(path), LoadOptions(**options))
    return workers.run(f"load-{path.name}", describe, job, TENSORFLOW.environment).value


def names(specs) -> list[str]:
    return [spec.name for spec in specs]


def test_inputs_and_outputs_come_in_the_order_of_their_names(models, workers):
    signature = facts(workers, models / "two", signature="crossed").signature
    assert list(map(str, signature.inputs)) == ["alpha:float32[batch,4]", "zeta:float32[batch,5]"]
    assert list(map(str, signature.outputs)) == ["add:float32[batch,4]", "softmax:float32[batch,4]"]


def test_several_signatures_without_a_default_are_listed(models, workers):
    with pytest.raises(UsageError, match="crossed, single") as raised:
        facts(workers, models / "two")
    assert "--signature crossed" in raised.value.fix


def test_a_signature_that_is_not_there_is_answered_with_the_nearest(models, workers):
    with pytest.raises(UnknownName, match="singel") as raised:
        facts(workers, models / "two", signature="singel")
    assert "'single'" in raised.value.fix


def test_a_model_without_signatures_is_answered_with_the_code_that_adds_one(models, workers):
    with pytest.raises(UsageError, match="without signatures") as raised:
        facts(workers, models / "unsigned")
    assert 'signatures={"serving_default": serve}' in raised.value.fix


def test_the_newest_version_of_the_serving_layout_is_taken(models, workers):
    file = identify(models / "two_versions")
    assert file.detail == "TensorFlow SavedModel, version 12"
    assert names(facts(workers, models / "two_versions").signature.outputs) == ["y"]


@pytest.mark.parametrize(
    ("members", "place"),
    [
        (("saved_model.pb", "variables/variables.index"), ""),
        (("1/saved_model.pb", "1/variables/variables.index"), "1"),
        (("2/saved_model.pb", "10/saved_model.pb"), "10"),
        (("saved_model.pb", "1/saved_model.pb"), "1"),
        (("deep/1/saved_model.pb",), None),
        (("one/saved_model.pb", "two/saved_model.pb"), None),
        (("model.safetensors",), None),
    ],
)
def test_a_model_is_found_at_the_top_or_under_its_version(members, place):
    assert place_of(members) == place


def test_a_folder_of_something_else_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UnknownSource, match=r"a folder \(of notes.txt"):
        identify(tmp_path)


@pytest.mark.parametrize(
    ("model", "operator"),
    [
        ("spying", "ReadFile, WriteFile"),
        ("saving", "SaveV2"),
        ("calling", "PyFunc"),
        ("printing", "PrintV2 to file://"),
        ("prying", "InitializeTableFromTextFileV2 of a file that is not the model's own"),
    ],
)
def test_a_model_that_reaches_out_is_refused_and_the_operator_named(models, workers, model, operator):
    with pytest.raises(UsageError, match="reach files, the network or Python") as raised:
        facts(workers, models / model)
    assert operator in raised.value.message
    assert "--trust" in raised.value.fix
    assert not (models / "written").exists()


def test_trust_loads_it_all_the_same(models, workers):
    try:
        assert names(facts(workers, models / "saving", trust=True).signature.outputs) == ["y"]
    finally:
        for written in models.glob("written*"):
            written.unlink()


def test_a_vocabulary_of_the_model_s_own_is_no_reason_to_refuse(models, workers):
    assert names(facts(workers, models / "looking_up").signature.outputs) == ["y"]


def test_text_inputs_are_refused_with_what_to_do(models, workers):
    with pytest.raises(UsageError, match=r"takes text \(x\)"):
        facts(workers, models / "reading")


def test_a_shape_that_is_left_open_altogether_must_be_stated(models, workers):
    with pytest.raises(MissingInputs, match="leaves the shape of its input x open"):
        facts(workers, models / "shapeless")
    signature = facts(workers, models / "shapeless", inputs=specs_from(["x:float32[batch,3]"])).signature
    assert str(signature.outputs[0]) == "y:float32[batch,3]"


@pytest.mark.parametrize("damage", ["no variables", "cut graph", "cut variables"])
def test_a_damaged_model_is_an_error_with_a_fix(models, workers, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(models / "two_versions" / "12", folder)
    if damage == "no variables":
        shutil.rmtree(folder / "variables")
    else:
        file = folder / ("saved_model.pb" if damage == "cut graph" else "variables/variables.data-00000-of-00001")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    with pytest.raises(EdgeproofError) as raised:
        facts(workers, folder)
    assert isinstance(raised.value, LoadError), raised.value
    assert raised.value.fix


def packed(folder: Path, archive: Path, top: str) -> Path:
    with tarfile.open(archive, "w:gz") as out:
        out.add(folder, top)
    return archive


@pytest.mark.parametrize("top", [".", "module", ""])
def test_a_hub_module_is_a_model_in_an_archive(models, workers, tmp_path, top):
    path = packed(models / "two_versions" / "12", tmp_path / "module.tar.gz", top)
    assert identify(path).kind == "tf_hub"
    assert names(facts(workers, path).signature.outputs) == ["y"]


def test_an_older_hub_module_is_one_without_tags(models, workers, tmp_path):
    path = packed(models / "first_hub", tmp_path / "old.tar.gz", ".")
    assert str(facts(workers, path).signature) == "(x:float32[batch,4]) -> (y:float32[batch,3])"


def crafted(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        graph = tarfile.TarInfo("saved_model.pb")
        archive.addfile(graph)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "variables/../../outside"])
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UnknownSource, match="outside its folder"):
        identify(crafted(tmp_path / "evil.tar.gz", tarfile.TarInfo(name), b"x"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_with_links_or_devices_is_refused(tmp_path, kind):
    member = tarfile.TarInfo("variables/variables.index")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(UnknownSource, match="neither file nor folder"):
        identify(crafted(tmp_path / "evil.tar.gz", member))


def test_an_archive_that_would_flood_the_disk_is_refused(tmp_path, monkeypatch):
    from convert.sources import tf_hub

    monkeypatch.setattr(tf_hub, "BOMB_BYTES", 1 << 20)
    with pytest.raises(UnknownSource, match="would unpack to more than"):
        identify(crafted(tmp_path / "bomb.tar.gz", tarfile.TarInfo("variables/data"), bytes(8 << 20)))


def test_a_truncated_archive_says_so(models, tmp_path):
    path = packed(models / "two", tmp_path / "module.tar.gz", ".")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UnknownSource, match="truncated or damaged"):
        identify(path)


def test_another_archive_is_no_model(tmp_path):
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme.txt"))
    with pytest.raises(UnknownSource, match="a gzip archive"):
        identify(tmp_path / "other.tar.gz")


def outputs(workers, path: Path, arrays: dict, dtype: str, folder: Path) -> dict:
    np.savez(folder / "in.npz", **{f"case/{name}": array for name, array in arrays.items()})
    subject = Subject(identify(path), LoadOptions(), dtype)
    job = Execution("saved_model", subject, str(folder / "in.npz"), str(folder / "out.npz"))
    ran = workers.run(f"run-{path.name}-{dtype}", execute, job, TENSORFLOW.environment).value
    assert ran.failures == ()
    with np.load(folder / "out.npz") as found:
        return {name: found[f"case/{name}"] for name in ran.names}


def test_operators_without_a_64_bit_kernel_compute_the_same_in_double(models, workers, tmp_path):
    clip = np.random.default_rng(0).standard_normal((2, 4, 12, 10, 3)).astype("float32")
    native = outputs(workers, models / "kernels_of_32_bits", {"clip": clip}, "", tmp_path)
    wide = outputs(workers, models / "kernels_of_32_bits", {"clip": clip}, "float64", tmp_path)
    assert list(native) == ["corners", "half", "legacy"]
    for name, expected in wide.items():
        assert expected.dtype == np.float64
        np.testing.assert_allclose(native[name], expected, rtol=0, atol=2e-6 * np.abs(expected).max())
        assert np.abs(native[name] - expected).max() > 0


def test_a_model_that_draws_other_numbers_in_double_has_no_oracle(models, workers, tmp_path):
    with pytest.raises(LoadError, match="computes something else"):
        outputs(workers, models / "drawing", {"x": np.ones((2, 5), "float32")}, "float64", tmp_path)
