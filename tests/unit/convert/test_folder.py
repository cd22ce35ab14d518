"""The output folder: made or refused, held by one run at a time, and never showing half a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from convert import folder
from convert.errors import UsageError

BLOCK = 1 << 20


def files_below(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_the_folder_is_made_with_all_above_it(tmp_path):
    with folder.opened(tmp_path / "a" / "b") as stages:
        assert stages == tmp_path / "a" / "b" / "stages"
        assert stages.is_dir()


def test_a_folder_that_is_there_is_used_and_what_it_holds_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with folder.opened(tmp_path):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_trying_whether_the_folder_can_be_written_leaves_no_file_there(tmp_path):
    with folder.opened(tmp_path / "out"):
        assert files_below(tmp_path / "out") == ["stages/lock"]


UNWRITABLE = {
    "a file where the folder should be": lambda path: path / "file",
    "a file above the folder": lambda path: path / "file" / "below" / "out",
    "a file system that takes none": lambda path: Path("/proc/edgeproof"),
    "a name too long": lambda path: path / ("a" * 300),
}


@pytest.mark.parametrize("place", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_a_folder_that_cannot_be_written_is_refused_by_name_with_the_option_to_change(tmp_path, place):
    (tmp_path / "file").write_text("a regular file")
    target = place(tmp_path)
    with pytest.raises(UsageError) as refused, folder.opened(target):
        pytest.fail("it was opened")
    assert str(target) in refused.value.message
    assert "--out" in refused.value.fix
    assert (tmp_path / "file").read_text() == "a regular file"


def test_a_second_run_into_the_folder_is_refused_at_once(tmp_path):
    with folder.opened(tmp_path):
        began = time.monotonic()
        with pytest.raises(UsageError, match="another run") as refused, folder.opened(tmp_path):
            pytest.fail("both runs have the folder")
    assert time.monotonic() - began < 1
    assert "--out" in refused.value.fix


def test_another_process_is_refused_too(tmp_path):
    second = "import pathlib, sys; from convert import folder\nwith folder.opened(pathlib.Path(sys.argv[1])): pass"
    with folder.opened(tmp_path):
        ran = subprocess.run([sys.executable, "-c", second, tmp_path], capture_output=True, text=True, check=False)
    assert "another run is writing" in ran.stderr
    assert subprocess.run([sys.executable, "-c", second, tmp_path], check=False).returncode == 0


def test_the_folder_is_free_again_when_a_run_ended_badly(tmp_path):
    with pytest.raises(RuntimeError), folder.opened(tmp_path):
        raise RuntimeError("the run failed")
    with folder.opened(tmp_path):
        pass


def test_an_error_of_the_run_is_not_taken_for_one_of_the_folder(tmp_path):
    with pytest.raises(OSError, match="disk on fire") as raised, folder.opened(tmp_path):
        raise OSError("disk on fire")
    assert not isinstance(raised.value, UsageError)


def test_a_finished_file_takes_the_place_of_the_one_before(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "net.onnx").write_text("before")
    (tmp_path / "net.onnx").write_text("after")
    assert folder.place(tmp_path / "net.onnx", tmp_path / "out") == tmp_path / "out" / "net.onnx"
    assert (tmp_path / "out" / "net.onnx").read_text() == "after"
    assert files_below(tmp_path / "out") == ["net.onnx"]


def test_a_copy_that_fails_half_way_leaves_the_file_before_and_no_part_of_the_new_one(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "net.onnx").write_text("before")
    (tmp_path / "net.onnx").write_text("after")

    def half(source, target):
        Path(target).write_text("aft")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="No space"):
        folder.place(tmp_path / "net.onnx", out)
    assert (out / "net.onnx").read_text() == "before"
    assert files_below(out) == ["net.onnx"]


def test_nobody_ever_reads_half_a_file(tmp_path):
    made = {letter: tmp_path / letter / "net.onnx" for letter in "ab"}
    for letter, path in made.items():
        path.parent.mkdir()
        path.write_bytes(letter.encode() * BLOCK)
    out = tmp_path / "out"
    target = folder.place(made["a"], out)
    stop = threading.Event()
    strange: list[int] = []

    def read() -> None:
        while not stop.is_set():
            content = target.read_bytes()
            if content not in (b"a" * BLOCK, b"b" * BLOCK):
                strange.append(len(content))

    reader = threading.Thread(target=read)
    reader.start()
    for round_ in range(40):
        folder.place(made["ab"[round_ % 2]], out)
    stop.set()
    reader.join()
    assert strange == []


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    folder.write_text(path, "before")
    with pytest.raises(UnicodeEncodeError):
        folder.write_text(path, "after \ud800")  # half of a surrogate pair, which UTF-8 cannot hold
    assert path.read_text() == "before"
    assert files_below(tmp_path) == ["report.json"]
    folder.write_text(path, "after")
    assert path.read_text() == "after"
