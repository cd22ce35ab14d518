"""Calibration data as arrays: which rows are used, what is refused, and that no more than a row is in memory."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from convert.calibration import FEWEST, MOST, READERS, Preparation, prepare
from convert.calibration._choice import HELD_MOST, choose
from convert.errors import UsageError
from convert.spec import Signature, TensorSpec
from convert.worker import Limits, Workers
from validators.inputs import read_user_file, user_cases


def signature(*inputs: str) -> Signature:
    return Signature(tuple(map(TensorSpec.parse, inputs)), (TensorSpec.parse("logits:float32[batch,10]"),))


ROWS = signature("x:float32[batch,4]")
PAIR = signature("left:float32[batch,4]", "ids:int64[batch,3]=0..9")


def numbered(count: int, *shape: int) -> np.ndarray:
    """Give rows that differ, the first number of each its own."""
    return np.arange(count, dtype=np.float32).reshape(-1, *(1 for _ in shape)) + np.zeros((count, *shape), np.float32)


@pytest.fixture
def prepared(tmp_path):
    def run(origin, which=ROWS, **options):
        return prepare(Preparation(str(origin), which, str(tmp_path / "samples"), **options))

    return run


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return save


# What becomes of good data


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archives_rows_become_samples_in_their_order(prepared, tmp_path, compressed):
    data = {"ids": np.arange(36).reshape(12, 3) % 10, "left": numbered(12, 4)}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "data.npz", **data)

    found = prepared(tmp_path / "data.npz", PAIR)

    samples = list(found.samples())
    assert len(samples) == found.count == 12
    assert [list(sample) for sample in samples] == [["left", "ids"]] * 12
    for i, sample in enumerate(samples):
        assert sample["left"].shape == (1, 4)
        assert (sample["left"] == data["left"][i]).all()
        assert (sample["ids"] == data["ids"][i]).all()
    assert found.release


def test_an_array_file_serves_a_model_of_one_input(prepared, tmp_path):
    np.save(tmp_path / "data.npy", numbered(9, 4))

    assert [int(sample["x"][0, 0]) for sample in prepared(tmp_path / "data.npy").samples()] == list(range(9))


def test_arrays_stored_by_columns_are_read_right(prepared, saved):
    data = np.asfortranarray(np.random.default_rng(0).random((9, 4), np.float32))

    samples = prepared(saved(x=data)).samples()

    assert (np.concatenate([sample["x"] for sample in samples]) == data).all()


def test_the_range_of_every_input_is_told(prepared, saved):
    found = prepared(saved(left=numbered(10, 4) - 3, ids=np.arange(30).reshape(10, 3) % 7), PAIR)

    assert [(r.name, r.low, r.high) for r in found.ranges] == [("left", -3, 6), ("ids", 0, 6)]


def test_the_hash_is_of_the_contents_not_of_the_file(prepared, tmp_path):
    np.savez(tmp_path / "a.npz", x=numbered(9, 4))
    np.savez_compressed(tmp_path / "b.npz", x=numbered(9, 4))
    np.savez(tmp_path / "c.npz", x=numbered(9, 4)[::-1])

    first, same, other = (prepared(tmp_path / f"{name}.npz").sha256 for name in "abc")

    assert first == same != other


def test_a_fixed_batch_takes_that_many_rows_at_once(prepared, saved):
    found = prepared(saved(x=numbered(20, 4)), signature("x:float32[2,4]"))

    assert found.count == 10
    assert next(found.samples())["x"].shape == (2, 4)


def test_an_input_without_axes_is_shared_by_all_rows(prepared, saved):
    found = prepared(saved(x=numbered(9, 4), scale=np.float32(2)), signature("x:float32[batch,4]", "scale:float32[]"))

    assert [float(sample["scale"]) for sample in found.samples()] == [2.0] * 9


@pytest.mark.parametrize("name", ["file", "args", "allow_pickle", "serving/x:0"])
def test_inputs_may_have_any_name(prepared, tmp_path, name):
    np.save(tmp_path / "data.npy", numbered(10, 4))
    which = Signature((TensorSpec(name, "float32", ("batch", 4)),), ())

    found = prepared(tmp_path / "data.npy", which, hold_out=True)

    assert list(next(found.samples())) == [name]
    assert list(np.load(found.held_out)) == [name]


def test_samples_of_an_earlier_run_are_gone(prepared, saved):
    prepared(saved(x=numbered(20, 4)))
    found = prepared(saved(x=numbered(9, 4)))

    assert len(list(found.samples())) == 9


# Which rows are used


def test_many_rows_are_used_up_to_a_limit_and_spread_evenly(prepared, saved):
    found = prepared(saved(x=numbered(5000, 4)))

    rows = [int(sample["x"][0, 0]) for sample in found.samples()]
    assert len(rows) == MOST
    assert rows == sorted(set(rows))
    assert np.diff([0, *rows, 5000]).max() <= 2 * (5000 // MOST + 1)
    assert f"{MOST} of 5000 calibration rows were used, spread evenly" in found.notes


def test_a_lower_limit_is_kept(prepared, saved):
    assert prepared(saved(x=numbered(100, 4)), limit=16).count == 16


def test_few_samples_are_used_with_a_warning(prepared, saved):
    assert any("only 9 calibration samples" in note for note in prepared(saved(x=numbered(9, 4))).notes)


def test_one_row_of_five_is_set_aside_to_judge_by_and_never_calibrated_with(prepared, saved):
    found = prepared(saved(x=numbered(1000, 4)), hold_out=True)

    used = {int(sample["x"][0, 0]) for sample in found.samples()}
    held = {int(row[0]) for row in np.load(found.held_out)["x"]}
    assert len(held) == HELD_MOST
    assert not used & held
    assert any("one of every 5 calibration rows was set aside" in note for note in found.notes)
    assert any("200 in all (64 of these are judged on)" in note for note in found.notes)


def test_rows_set_aside_do_not_fall_in_with_classes_that_take_turns():
    held = choose(640, MOST, 0, hold_out=True).held

    assert {row % 10 for row in held} == set(range(10))


def test_the_choice_depends_on_the_seed_alone():
    assert choose(999, 64, 1, hold_out=True) == choose(999, 64, 1, hold_out=True)
    assert choose(999, 64, 1, hold_out=True) != choose(999, 64, 2, hold_out=True)


def test_what_is_set_aside_can_be_judged_on(prepared, saved):
    which = signature("left:float32[2,4]", "ids:int64[2,3]=0..9")
    found = prepared(saved(left=numbered(40, 4), ids=np.arange(120).reshape(40, 3) % 10), which, hold_out=True)

    cases, _ = user_cases(which, read_user_file(Path(found.held_out)))

    assert len(cases) == 4


def test_nothing_is_set_aside_where_the_user_gave_inputs(prepared, saved):
    assert prepared(saved(x=numbered(100, 4))).held_out == ""


def test_rows_that_are_judged_on_too_are_counted(prepared, tmp_path):
    np.savez(tmp_path / "judged.npz", x=numbered(30, 4)[20:])
    np.savez(tmp_path / "data.npz", x=numbered(24, 4).astype(np.float64))

    found = prepared(tmp_path / "data.npz", evaluation=str(tmp_path / "judged.npz"))

    assert found.overlap == 4
    assert any("4 of the 24 calibration samples are in" in note for note in found.notes)


def test_repeated_rows_are_found_on_both_sides(prepared, saved):
    found = prepared(saved(x=np.tile(numbered(4, 4), (10, 1))), hold_out=True)

    assert found.overlap == found.count == 32
    assert any("28 of the 32 calibration samples repeat others" in note for note in found.notes)


# Generated data


def test_generated_data_must_be_asked_for_and_is_not_for_release(prepared):
    found = prepared("random", PAIR, hold_out=True)

    assert found.count == 128
    assert not found.release
    assert found.held_out == ""
    assert any("not for release" in note for note in found.notes)
    assert {r.name: (r.low, r.high) for r in found.ranges}["ids"] == (0, 9)


def test_generated_data_is_another_than_what_is_judged_on(prepared):
    from convert.calibration._fitting import digest
    from validators.inputs import generate

    wide = signature("x:float32[batch,400]")
    judged = {digest(dict(case.arrays)) for case in generate(wide, 0)}

    assert not judged & {digest(sample) for sample in prepared("random", wide).samples()}


def test_generated_data_depends_on_the_seed(prepared):
    assert prepared("random", seed=1).sha256 == prepared("random", seed=1).sha256 != prepared("random", seed=2).sha256


# Casts


def test_wider_floats_and_integers_become_the_models_and_it_is_said(prepared, saved):
    found = prepared(saved(left=numbered(9, 4).astype(np.float64), ids=np.ones((9, 3), np.uint8)), PAIR)

    sample = next(found.samples())
    assert (str(sample["left"].dtype), str(sample["ids"].dtype)) == ("float32", "int64")
    assert "calibration data of left was cast from float64 to float32" in found.notes


def test_floats_that_never_vary_are_told(prepared, saved):
    found = prepared(saved(left=np.full((9, 4), 2.0, np.float32), ids=np.arange(27).reshape(9, 3) % 10), PAIR)

    assert "left is 2 everywhere in the calibration data" in found.notes


# What is refused

GOOD = {"left": numbered(9, 4), "ids": np.arange(27).reshape(9, 3) % 10}


def spoiled(name: str, value: float) -> dict[str, np.ndarray]:
    array = GOOD[name].copy()
    array[5, 1] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"other": numbered(9, 4)}, "has an array 'other'"),
        ({"left": numbered(9, 5)}, r"left does not fit: shape is \[1, 5\], expected \[batch,4\]"),
        ({"left": numbered(8, 4)}, "different numbers of rows: left 8, ids 9"),
        ({"left": numbered(0, 4)}, "left is empty"),
        ({"left": GOOD["left"].astype(np.uint8)}, r"left holds integers \(uint8\), and the model takes float32"),
        ({"ids": GOOD["ids"].astype(np.float32)}, "ids holds floats, and the model takes int64"),
        ({"left": GOOD["left"] > 3}, "left holds booleans"),
        ({"left": GOOD["left"].astype("U5")}, "left holds <U5, no numbers"),
        ({"left": GOOD["left"].astype(np.complex64)}, "left holds complex64, no numbers"),
        (spoiled("left", np.nan), r"data.npz, row 5: left holds NaN"),
        (spoiled("left", -np.inf), "row 5: left holds infinity"),
        (spoiled("ids", 10), r"row 5: ids holds \d..10, outside 0..9"),
        (spoiled("ids", -1), r"row 5: ids holds -1..\d, outside 0..9"),
        ({"left": GOOD["left"].astype(np.float64) + 1e300}, "left holds values too large for float32"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_data_that_does_not_fit_is_refused_by_name_and_row(prepared, saved, change, words):
    with pytest.raises(UsageError, match=words) as caught:
        prepared(saved(**{**GOOD, **change}), PAIR)

    assert caught.value.fix


def test_a_missing_input_is_refused(prepared, saved):
    with pytest.raises(UsageError, match="has no array 'ids'"):
        prepared(saved(left=numbered(9, 4)), PAIR)


def test_integers_too_large_for_a_narrow_input_are_refused(prepared, saved):
    with pytest.raises(UsageError, match=r"row 10: x holds 215..257, which is more than uint8 holds"):
        prepared(saved(x=np.arange(301).reshape(7, 43).repeat(2, 0)), signature("x:uint8[batch,43]"))


def test_images_in_the_other_layout_are_told_so(prepared, saved):
    with pytest.raises(UsageError, match="the axes are in another order"):
        prepared(saved(x=numbered(9, 8, 8, 3)), signature("x:float32[batch,3,8,8]"))


@pytest.mark.parametrize(("count", "hold_out"), [(1, False), (FEWEST - 1, False), (8, True)])
def test_too_few_samples_are_refused(prepared, saved, count, hold_out):
    with pytest.raises(UsageError, match=f"has {count} sample.*too few"):
        prepared(saved(x=numbered(count, 4)), hold_out=hold_out)


def test_the_fewest_that_do_are_taken(prepared, saved):
    assert prepared(saved(x=numbered(FEWEST, 4))).count == FEWEST
    assert prepared(saved(x=numbered(10, 4)), hold_out=True).count == 8


def test_one_array_without_rows_is_too_few(prepared, saved):
    with pytest.raises(UsageError, match="has 1 sample"):
        prepared(saved(x=np.zeros(4, np.float32)))


def test_samples_that_are_all_equal_are_refused(prepared, saved):
    with pytest.raises(UsageError, match=r"all 20 samples of .* are equal"):
        prepared(saved(x=np.ones((20, 4), np.float32)))


def test_one_array_for_a_model_of_several_inputs_is_refused(prepared, tmp_path):
    np.save(tmp_path / "data.npy", numbered(9, 4))

    with pytest.raises(UsageError, match="is one array, and the model takes 2 inputs"):
        prepared(tmp_path / "data.npy", PAIR)


@pytest.mark.parametrize("origin", ["nothing.npz", "no/such/folder", "randon"])
def test_what_is_not_there_is_refused_with_all_that_can_be_given(prepared, origin):
    with pytest.raises(UsageError, match="there is no file") as caught:
        prepared(origin)

    assert "`random`" in caught.value.fix


def test_other_files_are_refused(prepared, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(UsageError, match="is no calibration data"):
        prepared(tmp_path / "notes.txt")


def test_an_empty_folder_is_refused(prepared, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="is empty, and no samples"):
        prepared(tmp_path / "empty")


def test_archives_without_arrays_and_with_objects_are_refused(prepared, saved, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")

    with pytest.raises(UsageError, match="holds no arrays"):
        prepared(tmp_path / "other.npz")
    with pytest.raises(UsageError, match="holds Python objects"):
        prepared(saved(x=np.array([{}] * 9, object)))


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_a_file_that_was_cut_off_is_refused(prepared, saved, tmp_path, suffix):
    whole = saved(x=numbered(100, 400))
    if suffix == "npy":
        np.save(whole := tmp_path / "data.npy", numbered(100, 400))
    whole.write_bytes(whole.read_bytes()[:20_000])

    with pytest.raises(UsageError) as caught:
        prepared(whole, signature("x:float32[batch,400]"))

    assert caught.value.fix


def test_a_damaged_row_of_a_compressed_archive_is_refused(prepared, tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((100, 400), np.float32))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = b"\xff" * 2000
    path.write_bytes(data)

    with pytest.raises(UsageError, match=r"cannot read .*data\.npz"):
        prepared(path, signature("x:float32[batch,400]"))


def test_preprocessing_means_nothing_for_arrays(prepared, saved):
    with pytest.raises(UsageError, match="--preprocess has no meaning"):
        prepared(saved(x=numbered(9, 4)), preprocess="scale=1/255")


# Memory and processes

MEASURE = """
import resource, sys
import numpy as np
from convert.calibration import Preparation, prepare
from convert.spec import Signature, TensorSpec

def resident():
    return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0] * 1024

before = resident()
spec = TensorSpec("x", "float32", ("batch", 500_000))
found = prepare(Preparation(sys.argv[1], Signature((spec,), ()), sys.argv[2], hold_out=True, limit=12))
print(found.count, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
@pytest.mark.parametrize("kind", ["stored", "compressed"])
def test_a_file_larger_than_what_is_in_memory_at_a_time(tmp_path, kind):
    path = tmp_path / "data.npz"
    compression = zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
    header = {"descr": "<f4", "fortran_order": False, "shape": (50, 500_000)}
    with (
        zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, header)
        for row in range(50):
            stream.write(np.full(500_000, row, np.float32).tobytes())

    words = [sys.executable, "-c", MEASURE, path, tmp_path / "samples"]
    count, grown = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout.split()

    assert int(count) == 12
    assert int(grown) < 40 * 2**20, f"{int(grown) / 2**20:.0f} MiB for 95 MiB of data in rows of 2 MiB"


def test_preparing_runs_as_a_stage_of_its_own(saved, tmp_path):
    from convert.calibration import ENVIRONMENT

    job = Preparation(str(saved(x=numbered(20, 4))), ROWS, str(tmp_path / "samples"), hold_out=True)
    with Workers(tmp_path / "stages", Limits(60, 2**31)) as workers:
        found = workers.run("calibration", prepare, job, ENVIRONMENT).value

    assert found.count == len(list(found.samples())) == 16
    assert found == prepare(job)


def test_every_reader_says_what_it_reads():
    assert all(reader.title for reader in READERS)
