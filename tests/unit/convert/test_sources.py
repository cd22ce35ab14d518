"""Model files are recognised by what is in them, whatever they are called, and damage is said where it is seen."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from convert.errors import UnknownSource, UsageError
from convert.formats import FORMATS
from convert.formats import recognise as recognise_artifact
from convert.sources import SOURCES, identify
from convert.sources._probe import probe
from convert.spec import sha256_of

SAMPLES = Path(__file__).parents[3] / "samples"

KINDS = {
    ".keras": "keras",
    ".h5": "keras_h5",
    ".pt2": "exported_program",
    ".safetensors": "safetensors",
    ".pt": "torchscript",
    "_weights.pt": "torch_weights",
}

MODELS = sorted(path for path in SAMPLES.iterdir() if path.suffix in KINDS)


def kind_of(path: Path) -> str:
    """Give the kind a sample is known to be, by its name, which the tool itself must not look at."""
    return KINDS["_weights.pt" if path.name.endswith("_weights.pt") else path.suffix]


def text_of(error: pytest.ExceptionInfo[UnknownSource]) -> str:
    return error.value.message


def legacy(content: bytes) -> bytes:
    """Write a file as torch.save did before PyTorch 1.6: magic number, version, machine, object, storage keys."""
    header = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in header) + content + pickle.dumps([], 2)


def safetensors(header: object, data: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def tensor(end: object, begin: object = 0) -> dict[str, object]:
    return {"dtype": "U8", "shape": [4], "data_offsets": [begin, end]}


@pytest.fixture
def named_bin(tmp_path):
    """Write bytes to a file whose name says nothing."""

    def write(content: bytes) -> Path:
        path = tmp_path / "x.bin"
        path.write_bytes(content)
        return path

    return write


def test_the_samples_are_of_kinds_that_there_are():
    assert {kind_of(path) for path in MODELS} <= set(SOURCES.names())


@pytest.mark.parametrize("sample", MODELS, ids=lambda path: path.name)
def test_a_sample_is_recognised_under_a_name_that_says_nothing(sample, tmp_path):
    path = tmp_path / "x.bin"
    shutil.copy(sample, path)
    found = identify(path)
    assert found.kind == kind_of(sample)
    assert (found.path, found.sha256, found.file_bytes) == (str(path), sha256_of(sample), sample.stat().st_size)
    assert found.detail


@pytest.mark.parametrize("sample", MODELS, ids=lambda path: path.name)
def test_a_sample_is_of_one_kind_only(sample):
    seen = probe(sample)
    assert [source.name for source in SOURCES if source.recognise(seen)] == [kind_of(sample)]


@pytest.mark.parametrize("sample", MODELS, ids=lambda path: path.name)
def test_of_the_samples_only_torchscript_is_an_artifact_too(sample):
    found = [form.name for form in FORMATS if form.recognise(probe(sample))]
    assert found == (["torchscript"] if kind_of(sample) == "torchscript" else [])


def test_a_torchscript_archive_says_whether_it_carries_a_signature(tmp_path):
    bare = tmp_path / "bare.pt"
    with zipfile.ZipFile(SAMPLES / "digits.pt") as old, zipfile.ZipFile(bare, "w") as new:
        for name in old.namelist():
            if not name.endswith("signature.json"):
                new.writestr(name, old.read(name))
    assert "with a signature" in identify(SAMPLES / "digits.pt").detail
    assert "without a signature" in identify(bare).detail


def test_a_signature_that_cannot_be_read_is_said_to_be_unreadable(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("data.pkl", b"."), ("constants.pkl", b"."), ("extra/signature.json", b"{not json")):
            archive.writestr(f"root/{name}", content)
    with pytest.raises(Exception, match=r"signature\.json .* cannot be read") as refused:
        identify(path)
    assert refused.value.fix


def test_weights_of_before_pytorch_1_6_are_recognised(named_bin):
    assert identify(named_bin(legacy(pickle.dumps({"weight": [1.0]}, 2)))).kind == "torch_weights"


def test_a_pickle_of_before_pytorch_1_6_that_imports_code_is_recognised(named_bin):
    found = identify(named_bin(legacy(b"\x80\x02cposix\nsystem\n.")))
    assert found.kind == "torch_pickle"
    assert "posix.system" in found.detail


def test_a_pickle_that_imports_code_is_recognised_by_its_first_import(tmp_path):
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": zipfile.ZipFile}, 2))
    found = identify(path)
    assert found.kind == "torch_pickle"
    assert "zipfile.ZipFile" in found.detail


def test_a_file_that_is_not_there_is_a_wrong_path(tmp_path):
    with pytest.raises(UsageError, match="there is no file") as refused:
        identify(tmp_path / "nosuch.pt")
    assert "path" in refused.value.fix


def test_a_name_too_long_for_the_system_is_a_wrong_path_too(tmp_path):
    with pytest.raises(UsageError):
        identify(tmp_path / ("a" * 300))


@pytest.mark.parametrize("content", [b"", b"hello there", bytes(64), b"\x1f\x8b"])
def test_a_file_of_no_kind_is_answered_with_what_it_is_and_all_kinds_there_are(named_bin, content):
    path = named_bin(content)
    with pytest.raises(UnknownSource) as refused:
        identify(path)
    assert probe(path).looks_like() in refused.value.message
    assert all(source.title in refused.value.fix for source in SOURCES)


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(UnknownSource, match="is an empty folder"):
        identify(tmp_path)


H5 = (SAMPLES / "digits.h5").read_bytes()
SAFETENSORS = (SAMPLES / "digits_weights.safetensors").read_bytes()
OLD = legacy(pickle.dumps({"weight": [1.0] * 50}, 2))

TRUNCATED = {
    **{f"HDF5 after {kept} bytes": H5[:kept] for kept in (8, 9, 20, 47, 48, 2048, len(H5) // 2, len(H5) - 1)},
    **{f"newer HDF5 after {kept} bytes": (H5[:8] + b"\x02" + H5[9:])[:kept] for kept in (9, 28, 35)},
    **{f"safetensors after {k} bytes": SAFETENSORS[:k] for k in (10, 100, 2000, len(SAFETENSORS) - 1)},
    **{f"old PyTorch after {kept} bytes": OLD[:kept] for kept in (16, 30, 60, len(OLD) // 2)},
}


@pytest.mark.parametrize("content", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_a_file_cut_short_is_said_to_be_damaged_with_a_fix(named_bin, content):
    with pytest.raises(UnknownSource) as refused:
        identify(named_bin(content))
    assert "x.bin" in refused.value.message
    assert refused.value.fix


def test_a_truncated_hdf5_file_says_how_much_is_missing(named_bin):
    with pytest.raises(UnknownSource, match=f"{len(H5):,} bytes of which only 50,000"):
        identify(named_bin(H5[:50_000]))


def test_a_whole_safetensors_file_is_recognised(named_bin):
    content = safetensors({"a": tensor(4), "__metadata__": {"made by": "a test"}}, b"1234")
    assert identify(named_bin(content)).kind == "safetensors"


BROKEN_HEADERS = {
    "a tensor without its place": safetensors({"a": {"dtype": "U8"}}),
    "a place that is no pair": safetensors({"a": {"data_offsets": [0]}}),
    "a place in words": safetensors({"a": tensor("four", "none")}, b"1234"),
    "an end before the data's": safetensors({"a": tensor(3)}, b"1234"),
    "an end after the data's": safetensors({"a": tensor(5)}, b"1234"),
    "a number for a tensor": safetensors({"a": 1}),
    "no JSON": struct.pack("<Q", 5) + b"{nope",
}


@pytest.mark.parametrize("content", BROKEN_HEADERS.values(), ids=BROKEN_HEADERS.keys())
def test_a_safetensors_file_with_a_broken_header_is_said_to_be_damaged(named_bin, content):
    with pytest.raises(UnknownSource, match="truncated or damaged"):
        identify(named_bin(content))


def test_text_that_happens_to_have_a_brace_is_no_safetensors_file(named_bin):
    with pytest.raises(UnknownSource, match="is text"):
        identify(named_bin(b'{"a": 1}{"b": 2}'))


def test_a_damaged_member_of_an_archive_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "x.pt"
    shutil.copy(SAMPLES / "digits_weights.pt", path)
    content = bytearray(path.read_bytes())
    content[content.index(b"_rebuild_tensor_v2")] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnknownSource) as refused:
        identify(path)
    assert refused.value.fix


@pytest.mark.parametrize("sample", ["digits.pt", "digits.keras", "digits.pt2", "digits_weights.pt"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_an_archive_cut_short_is_said_to_be_truncated(named_bin, sample, share):
    content = (SAMPLES / sample).read_bytes()
    with pytest.raises(UnknownSource, match="truncated or damaged"):
        identify(named_bin(content[: int(len(content) * share)]))


def test_an_artifact_is_asked_for_by_path_too(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        recognise_artifact(tmp_path / "nosuch.onnx")
    with pytest.raises(UnknownSource, match="is no artifact"):
        recognise_artifact(SAMPLES / "digits.keras")
