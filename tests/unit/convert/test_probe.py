"""The first look at a file: damaged and hostile archives, and pickles read without running them."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from pathlib import Path

import pytest

from convert.errors import UnknownSource
from convert.sources._probe import BOMB_BYTES, BOMB_RATIO, foreign_globals, probe

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def patched(path: Path, at: dict[bytes, tuple[int, bytes]]) -> Path:
    """Overwrite bytes of the archive's first record of each kind, by the record's magic and an offset into it."""
    content = bytearray(path.read_bytes())
    for magic, (offset, new) in at.items():
        start = content.index(magic) + offset
        content[start : start + len(new)] = new
    path.write_bytes(content)
    return path


def test_an_archive_shows_its_members(tmp_path):
    seen = probe(archive(tmp_path / "a.zip", {"root/data.pkl": b"1", "root/code/model.py": b"2"}))
    assert seen.is_zip
    assert seen.root == "root"
    assert seen.has("data.pkl")
    assert seen.has("root/data.pkl")
    assert not seen.has("constants.pkl")
    assert seen.read("data.pkl") == b"1"


def test_an_archive_of_several_folders_has_no_root(tmp_path):
    assert probe(archive(tmp_path / "a.zip", {"a/x": b"1", "b/x": b"2"})).root == ""


def test_a_member_is_read_no_further_than_the_limit(tmp_path):
    seen = probe(archive(tmp_path / "a.zip", {"long": b"x" * 5000}))
    assert seen.read("long", limit=100) == b"x" * 100


@pytest.mark.parametrize("kept", [4, 30, 100, -1, -20], ids=lambda kept: f"{kept} bytes")
def test_an_archive_cut_short_anywhere_is_said_to_be_truncated(tmp_path, kept):
    path = archive(tmp_path / "a.pt", {"root/data.pkl": bytes(200)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnknownSource, match="truncated or damaged") as refused:
        probe(path)
    assert refused.value.fix


DAMAGES = {
    "a checksum that is wrong": lambda path: patched(archive(path, {"data.pkl": b"abc"}), {LOCAL: (30 + 8, b"X")}),
    "compressed data that is garbage": lambda path: patched(
        archive(path, {"data.pkl": bytes(range(256)) * 9}, zipfile.ZIP_DEFLATED), {LOCAL: (30 + 8 + 4, b"\xff" * 40)}
    ),
    "a member that is encrypted": lambda path: patched(
        archive(path, {"data.pkl": b"abc"}), {LOCAL: (6, b"\x01"), CENTRAL: (8, b"\x01")}
    ),
    "a compression nobody knows": lambda path: patched(
        archive(path, {"data.pkl": b"abc"}), {LOCAL: (8, b"\x63"), CENTRAL: (10, b"\x63")}
    ),
    "a member whose record is elsewhere": lambda path: patched(
        archive(path, {"data.pkl": b"abc"}), {CENTRAL: (42, b"\x05")}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_member_that_cannot_be_read_is_a_damaged_file_and_not_a_bug(tmp_path, damage):
    path = damage(tmp_path / "a.pt")
    with pytest.raises(UnknownSource) as refused:
        probe(path).read("data.pkl")
    assert str(path) in refused.value.message
    assert refused.value.fix


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/outside", "\\outside"])
def test_a_member_that_would_leave_its_folder_is_refused(tmp_path, name):
    with pytest.raises(UnknownSource, match="outside its folder") as refused:
        probe(archive(tmp_path / "a.keras", {"config.json": b"{}", name: b"1"}))
    assert repr(name) in refused.value.message


@pytest.mark.parametrize("name", ["..hidden", "a/..b/c", "a..b"])
def test_two_dots_within_a_name_are_no_traversal(tmp_path, name):
    assert probe(archive(tmp_path / "a.keras", {name: b"1"})).has(name)


def test_an_archive_that_would_flood_the_disk_is_refused(tmp_path):
    path = archive(tmp_path / "a.keras", {"model.weights.h5": b"1"})
    with pytest.raises(UnknownSource, match="would unpack to"):
        probe(patched(path, {CENTRAL: (24, (BOMB_BYTES + 1).to_bytes(4, "little"))}))


def test_a_bomb_in_many_small_members_is_refused(tmp_path):
    path = archive(tmp_path / "a.keras", {f"part{i}": b"1" for i in range(16)})
    content = bytearray(path.read_bytes())
    start = 0
    while (start := content.find(CENTRAL, start)) >= 0:
        content[start + 24 : start + 28] = (BOMB_BYTES // 15).to_bytes(4, "little")
        start += 4
    path.write_bytes(content)
    with pytest.raises(UnknownSource, match="would unpack to"):
        probe(path)


def test_zeros_that_compress_well_and_are_few_are_no_bomb(tmp_path):
    path = archive(tmp_path / "a.keras", {"zeros": bytes(1 << 22)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < (1 << 22) / BOMB_RATIO
    assert probe(path).has("zeros")


LOOKS = {
    "empty": (b"", "empty"),
    "blank": (b" \n \n", "blank text"),
    "text": (b"hello there\nworld", r"text \(it starts with 'hello there'\)"),
    "tflite": (b"\x1c\x00\x00\x00TFL3", "a TFLite model"),
    "gzip": (b"\x1f\x8b\x08", "a gzip archive"),
    "numpy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "binary": (b"\x00\x01\x02\x03", "binary data"),
    "latin-1 text": ("déjà vu".encode("latin-1"), "binary data"),
}


@pytest.mark.parametrize(("content", "said"), LOOKS.values(), ids=LOOKS.keys())
def test_a_file_of_no_known_kind_is_described(tmp_path, content, said):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    assert re.match(said, probe(path).looks_like())


def test_a_folder_and_a_strange_archive_are_described_too(tmp_path):
    assert probe(tmp_path).looks_like() == "an empty folder"
    assert "word/document.xml" in probe(archive(tmp_path / "a.docx", {"word/document.xml": b"1"})).looks_like()


class Attack:
    """Unpickling this would call a function; the tests only ever look at the pickle."""

    def __init__(self, function) -> None:
        self._function = function

    def __reduce__(self):
        return self._function, ("1",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("function", "module"), [(eval, "builtin"), (pickle.loads, "pickle")])
def test_a_function_that_unpickling_would_call_is_named_in_every_protocol(protocol, function, module):
    (name,) = foreign_globals(pickle.dumps({"weights": Attack(function)}, protocol))
    assert module in name
    assert name.endswith(function.__name__)


def test_containers_numbers_and_text_need_nothing():
    assert foreign_globals(pickle.dumps({"a": [1, 2.5, "text", (None, True)]})) == ()


@pytest.mark.parametrize(
    "name", ["collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage", "numpy dtype"]
)
def test_what_tensors_are_made_of_is_not_foreign(name):
    assert foreign_globals(f"\x80\x02c{name.replace(' ', chr(10))}\n.".encode("latin-1")) == ()


@pytest.mark.parametrize(
    "name",
    [
        "torch load",
        "torch.serialization load",
        "torch.storage _load_from_bytes",
        "torch._utils _import_dotted_name",
        "torch compile",
        "torch.hub load",
        "os system",
        "collections OrderedDict.fromkeys",
    ],
)
def test_functions_of_pytorch_that_run_or_read_more_are_foreign(name):
    (found,) = foreign_globals(f"\x80\x02c{name.replace(' ', chr(10))}\n.".encode("latin-1"))
    assert found == name.replace(" ", ".")


def test_a_function_hidden_behind_the_memo_is_found():
    """`os.system` is put into the memo, harmless names are put last, and the call takes the memo's."""
    text = b"\x8c"
    hidden = (
        b"\x80\x04"
        + (text + b"\x02os\x94" + text + b"\x06system\x94" + b"00")
        + (text + b"\x0ctorch._utils0" + text + b"\x12_rebuild_tensor_v20")
        + (b"h\x00h\x01\x93" + text + b"\x04true\x85R.")
    )
    assert foreign_globals(hidden)


def test_a_second_pickle_behind_the_first_is_not_where_code_can_hide():
    """Only the first is ever unpickled; it is the one that is looked at."""
    stream = io.BytesIO(pickle.dumps({}) + pickle.dumps(Attack(eval)))
    assert pickle.load(stream) == {}
    assert foreign_globals(pickle.dumps({}) + pickle.dumps(Attack(eval))) == ()


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"hello", pickle.dumps({"a": 1})[:-3]])
def test_a_stream_that_is_no_pickle_is_a_damaged_file(content):
    with pytest.raises(UnknownSource, match="pickle cannot be read"):
        foreign_globals(content)
