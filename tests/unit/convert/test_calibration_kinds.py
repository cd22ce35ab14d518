"""Calibration data in folders, images, tables and the user's own code: what is read, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from convert.calibration import Preparation, prepare
from convert.calibration._preprocess import parse
from convert.errors import LoadError, UnknownName, UsageError
from convert.layout import marked
from convert.spec import NCHW, NHWC, Signature, TensorSpec
from convert.worker import missing_module


def signature(*inputs: str) -> Signature:
    return Signature(tuple(map(TensorSpec.parse, inputs)), (TensorSpec.parse("logits:float32[batch,10]"),))


ROWS = signature("x:float32[batch,4]")
IMAGE = marked(signature("image:float32[batch,3,8,8]"), NCHW)
TOKENS = signature("input_ids:int64[batch,words]=0..99")
BERT = signature(
    "input_ids:int64[batch,words]", "attention_mask:int64[batch,words]", "token_type_ids:int32[batch,words]"
)
RNG = np.random.default_rng(0)


@pytest.fixture
def prepared(tmp_path):
    def run(origin, which, **options):
        return prepare(Preparation(str(origin), which, str(tmp_path / "samples"), **options))

    return run


# Folders of arrays


@pytest.mark.parametrize("axes", [(4,), (1, 4)], ids=["without a batch axis", "with one"])
def test_every_file_of_a_folder_is_a_sample(prepared, tmp_path, axes):
    for i in range(12):
        np.save(tmp_path / f"{i:02d}.npy", np.full(axes, i, np.float32))

    assert [int(sample["x"][0, 0]) for sample in prepared(tmp_path, ROWS).samples()] == list(range(12))


def test_files_may_hold_several_rows_and_lie_in_folders(prepared, tmp_path):
    (tmp_path / "data" / "more").mkdir(parents=True)
    for i, name in enumerate(["a.npz", "b.npz", "more/c.npz"]):
        np.savez(tmp_path / "data" / name, x=np.arange(20, dtype=np.float32).reshape(5, 4) + 100 * i)
    (tmp_path / "data" / "README.md").write_text("where it is from")
    (tmp_path / "data" / ".DS_Store").write_text("")

    found = prepared(tmp_path / "data", ROWS)

    firsts = [int(sample["x"][0, 0]) for sample in found.samples()]
    assert firsts == [100 * i + 4 * row for i in range(3) for row in range(5)]
    assert any("1 file(s) in" in note for note in found.notes)


def test_files_may_differ_in_free_sizes_and_those_set_aside_are_of_one(prepared, tmp_path):
    for i in range(20):
        np.savez(tmp_path / f"{i:02d}.npz", input_ids=np.full((1, 7 if i % 4 else 9), i, np.int64))

    found = prepared(tmp_path, TOKENS, hold_out=True)

    assert {sample["input_ids"].shape for sample in found.samples()} == {(1, 7), (1, 9)}
    assert np.load(found.held_out)["input_ids"].shape[1] in (7, 9)


def test_a_file_of_a_folder_that_does_not_fit_is_named(prepared, tmp_path):
    for i in range(10):
        np.save(tmp_path / f"{i}.npy", np.full(4 if i != 6 else 5, i, np.float32))

    with pytest.raises(UsageError, match=r"6\.npy: x does not fit"):
        prepared(tmp_path, ROWS)


def test_a_folder_of_arrays_and_images_is_refused(prepared, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(4))
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "b.png")

    with pytest.raises(UsageError, match=r"holds arrays \(a.npy\) and images \(b.png\)"):
        prepared(tmp_path, ROWS)


def test_a_folder_of_other_files_is_refused(prepared, tmp_path):
    (tmp_path / "notes.txt").write_text("")

    with pytest.raises(UsageError, match=r"holds notes.txt, and no samples"):
        prepared(tmp_path, ROWS)


# Images


@pytest.fixture
def pictures(tmp_path):
    """Save ten images of noise, in folders by class, and give the folder and the pixels."""
    folder = tmp_path / "pictures"
    pixels = RNG.integers(0, 256, (10, 8, 8, 3), np.uint8)
    for i, image in enumerate(pixels):
        (folder / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(folder / f"class{i % 2}" / f"{i}.png")
    return folder, np.concatenate([pixels[0::2], pixels[1::2]])


def test_images_become_inputs_as_they_did_in_training(prepared, pictures):
    folder, pixels = pictures
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    found = prepared(folder, IMAGE, preprocess="scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225")

    expected = (((pixels / 255) - mean) / std).transpose(0, 3, 1, 2)
    for sample, want in zip(found.samples(), expected, strict=True):
        assert sample["image"].dtype == np.float32
        np.testing.assert_allclose(sample["image"][0], want, rtol=1e-5, atol=1e-6)
    assert "images were brought to 8x8 (bilinear), rgb, nchw" in found.notes


def test_models_of_pixels_take_them_as_they_are(prepared, pictures):
    folder, pixels = pictures
    which = signature("image:uint8[batch,8,8,3]")

    samples = prepared(folder, which, preprocess="channels=bgr").samples()

    assert (np.concatenate([sample["image"] for sample in samples]) == pixels[..., ::-1]).all()


def test_grey_models_take_grey_images_and_half_precision_stays(prepared, pictures):
    sample = next(prepared(pictures[0], signature("image:float16[1,1,8,8]"), preprocess="scale=1").samples())["image"]

    assert (sample.shape, str(sample.dtype)) == ((1, 1, 8, 8), "float16")


def test_images_of_other_sizes_are_resized_and_cropped(tmp_path):
    spec = marked(signature("image:float32[batch,4,4,1]"), NHWC).inputs[0]
    image = np.zeros((4, 8), np.uint8)
    image[:, 2:6] = 100
    PIL.Image.fromarray(image).save(tmp_path / "wide.png")

    def apply(text):
        return parse(text, spec).apply(tmp_path / "wide.png")[0, :, :, 0]

    assert (apply("scale=1,crop=center") == 100).all()
    assert (apply("scale=1,resize=nearest")[:, [0, -1]] == 0).all()
    assert (apply("scale=1,resize=nearest")[:, 1:3] == 100).all()
    assert (apply("scale=1,crop=center,shorter=4") == 100).all()
    assert apply("scale=1,crop=center,shorter=8").shape == (4, 4)
    with pytest.raises(UsageError, match="4x4 cannot be cut out of 2x4"):
        apply("scale=1,crop=center,shorter=2")


def test_models_of_free_sizes_take_each_image_at_its_own_or_at_the_stated_one(tmp_path):
    spec = TensorSpec("image", "float32", ("batch", "height", "width", 3))
    PIL.Image.new("RGB", (6, 5)).save(tmp_path / "a.png")

    assert parse("scale=1", spec).apply(tmp_path / "a.png").shape == (1, 5, 6, 3)
    assert parse("scale=1,size=7x9", spec).apply(tmp_path / "a.png").shape == (1, 7, 9, 3)


def test_a_damaged_image_is_named(prepared, pictures):
    folder, _ = pictures
    whole = (folder / "class1" / "3.png").read_bytes()
    (folder / "class1" / "3.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(UsageError, match=r"cannot read the image .*3\.png"):
        prepared(folder, IMAGE, preprocess="scale=1")


def test_what_is_called_an_image_and_is_none_is_named(prepared, pictures):
    (pictures[0] / "z.jpg").write_text("hello")

    with pytest.raises(UsageError, match=r"cannot read the image .*z\.jpg"):
        prepared(pictures[0], IMAGE, preprocess="scale=1")


def test_images_of_16_bits_are_refused(tmp_path):
    PIL.Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "a.png")

    with pytest.raises(UsageError, match="more than 8 bits per channel"):
        parse("scale=1", signature("image:float32[batch,8,8,1]").inputs[0]).apply(tmp_path / "a.png")


def test_images_without_a_word_on_preprocessing_are_refused(prepared, pictures):
    with pytest.raises(UsageError, match="nothing says how they become image") as caught:
        prepared(pictures[0], IMAGE)

    assert "scale=1/255" in caught.value.fix


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (signature("image:float32[batch,3,8,8]", "more:float32[batch,2]"), "and the model takes image"),
        (signature("x:float32[batch,4]"), "and the model takes x"),
        (signature("image:int8[batch,3,8,8]"), "8 bits without a sign"),
    ],
    ids=str,
)
def test_models_that_take_no_images_are_refused(prepared, pictures, which, words):
    with pytest.raises(UsageError, match=words):
        prepared(pictures[0], which, preprocess="scale=1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not say the scale"),
        ("mean=0.5", "does not say the scale"),
        ("scale", "cannot read --preprocess 'scale'"),
        ("scale=", "cannot read --preprocess 'scale='"),
        ("scale=fast", "cannot read --preprocess scale=fast"),
        ("scale=1/0", "cannot read --preprocess scale=1/0"),
        ("scale=nan", "cannot read --preprocess scale=nan"),
        ("scale=1,scale=2", "states 'scale' twice"),
        ("scal=1", "no key of --preprocess named 'scal'"),
        ("scale=1,resize=cubic", "no resize of --preprocess named 'cubic'"),
        ("scale=1,crop=middle", "no crop of --preprocess named 'middle'"),
        ("scale=1,layout=nwhc", "no layout of --preprocess named 'nwhc'"),
        ("scale=1,channels=gbr", "no channels of --preprocess named 'gbr'"),
        ("scale=1,channels=grey", "channels=grey are 1, and image"),
        ("scale=1,layout=nhwc", "channels"),
        ("scale=1,mean=1:2", r"mean has 2 numbers for 3 channel"),
        ("scale=1,std=1:0:1", "std is divided by, and has a 0"),
        ("scale=1,size=8", "cannot read --preprocess size=8"),
        ("scale=1,size=0x8", "cannot read --preprocess size=0x8"),
        ("scale=1,size=9x8", "size=9x8 does not fit image"),
        ("scale=1,shorter=9", "only with crop=center"),
        ("scale=1,crop=center,shorter=many", "cannot read --preprocess shorter=many"),
    ],
)
def test_preprocessing_that_cannot_be_meant_is_refused(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        parse(text, IMAGE.inputs[0])

    assert caught.value.fix


def test_a_misspelt_key_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'resize'"):
        parse("scale=1,resise=box", IMAGE.inputs[0])


def test_pixels_are_not_scaled_and_an_unclear_layout_must_be_said():
    with pytest.raises(UsageError, match="scale has no meaning"):
        parse("scale=1", signature("image:uint8[batch,8,8,3]").inputs[0])
    with pytest.raises(UsageError, match="does not say the layout"):
        parse("scale=1", signature("image:float32[batch,3,8,3]").inputs[0])
    with pytest.raises(UsageError, match="does not say the channels"):
        parse("scale=1,layout=nchw", signature("image:float32[batch,c,8,8]").inputs[0])
    assert parse("scale=1,layout=nhwc", signature("image:float32[batch,3,8,3]").inputs[0]).channels == "rgb"


# Tables


@pytest.fixture
def table(tmp_path):
    def write(text, name="ids.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def read_ids(found, name="input_ids"):
    return [sample[name][0].tolist() for sample in found.samples()]


IDS = [[n, n + 1, (7 * n) % 50] for n in range(10)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.csv", "\n".join(",".join(map(str, row)) for row in IDS)),
        ("spaces.csv", "\n".join(" ".join(map(str, row)) for row in IDS) + "\n"),
        ("tabs.tsv", "\n".join("\t".join(map(str, row)) for row in IDS)),
        ("semicolons.csv", "\n".join(";".join(map(str, row)) for row in IDS)),
        ("titled.csv", "input_ids\n" + "\n".join(" ".join(map(str, row)) for row in IDS)),
        ("lists.csv", "input_ids,label\n" + "\n".join(f'"{json.dumps(row)}",yes' for row in IDS)),
        ("bom.csv", "\ufeffinput_ids\r\n" + "\r\n\r\n".join(" ".join(map(str, row)) for row in IDS)),
    ],
)
def test_token_ids_are_read_from_tables_of_all_habits(prepared, table, name, text):
    assert read_ids(prepared(table(text, name), TOKENS)) == IDS


def test_samples_of_a_table_may_have_different_lengths(prepared, table):
    rows = [list(range(1, n + 2)) for n in range(10)]

    assert read_ids(prepared(table("\n".join(",".join(map(str, row)) for row in rows)), TOKENS)) == rows


def test_masks_that_a_table_lacks_are_filled_in_and_it_is_said(prepared, table):
    found = prepared(table("input_ids\n" + "\n".join(" ".join(map(str, row)) for row in IDS)), BERT)

    sample = next(found.samples())
    assert sample["attention_mask"].tolist() == [[1, 1, 1]]
    assert sample["token_type_ids"].tolist() == [[0, 0, 0]]
    assert str(sample["token_type_ids"].dtype) == "int32"
    assert any("attention_mask is not in" in note and "1 everywhere" in note for note in found.notes)


def test_columns_that_are_no_inputs_are_named(prepared, table):
    text = "text,input_ids\n" + "\n".join(f"word,{' '.join(map(str, row))}" for row in IDS)

    assert any(note.endswith("were not read: text") for note in prepared(table(text), TOKENS).notes)


def test_tables_of_floats_are_read_too(prepared, table):
    found = prepared(table("\n".join(f"{n}.5,2,-3e-1,{n}" for n in range(9))), ROWS)

    assert next(found.samples())["x"].tolist() == [pytest.approx([0.5, 2, -0.3, 0])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("word,other\n1,2\n", "holds neither names of inputs nor numbers: word, other"),
        ("0,1,2\n5,6,7\n", "counts 0, 1, 2"),
        ("3,4\n5,x\n" + "1,2\n" * 9, r"row 1: input_ids has 'x', which is no integer"),
        ("3,4\n5,1.5\n" + "1,2\n" * 9, "has '1.5', which is no integer"),
        ("3,4\n5,100\n" + "1,2\n" * 9, r"row 1: input_ids holds 5..100, outside 0..99"),
        ("input_ids\n3 4\n''\n" + "1 2\n" * 9, "row 1: input_ids has \"''\""),
        ("label,input_ids\n1,3 4\n1\n" + "1,1 2\n" * 9, "row 1 has 1 cells, and input_ids is column 2"),
        ("label,input_ids\n1,3 4\n1,\n" + "1,1 2\n" * 9, "input_ids has an empty cell"),
        ("3,4\n99999999999999999999,5\n" + "1,2\n" * 9, "row 1: input_ids"),
        ("1,2\n3,4\n", "has 2 sample"),
    ],
)
def test_tables_that_do_not_fit_are_refused(prepared, table, text, words):
    with pytest.raises(UsageError, match=words) as caught:
        prepared(table(text), TOKENS)

    assert caught.value.fix


def test_a_table_lacking_an_input_or_for_an_image_is_refused(prepared, table):
    pair = signature("left:int64[batch,3]", "right:int64[batch,3]")
    with pytest.raises(UsageError, match="has the columns left, and no right"):
        prepared(table("left\n1 2 3\n"), pair)
    with pytest.raises(UsageError, match="has no titles, and no left, right"):
        prepared(table("1,2,3\n"), pair)
    with pytest.raises(UsageError, match="no row of one holds image"):
        prepared(table("1,2,3\n"), IMAGE)


def test_ids_of_a_fixed_length_must_have_it(prepared, table):
    with pytest.raises(UsageError, match=r"row 0: input_ids does not fit: shape is \[1, 3\], expected \[batch,16\]"):
        prepared(table("\n".join(",".join(map(str, row)) for row in IDS)), signature("input_ids:int64[batch,16]"))


def test_a_file_that_is_no_text_is_refused(prepared, tmp_path):
    (tmp_path / "ids.csv").write_bytes(b"\xff\xfe\x00\x01" * 9)

    with pytest.raises(UsageError, match="cannot read"):
        prepared(tmp_path / "ids.csv", TOKENS)


# Parquet


@pytest.fixture
def parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    def write(**columns):
        path = tmp_path / "ids.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=100)
        return path

    return write


def test_token_ids_are_read_from_parquet_files(prepared, parquet):
    found = prepared(parquet(text=["word"] * 10, input_ids=IDS), BERT)

    assert read_ids(found) == IDS
    assert any(note.endswith("were not read: text") for note in found.notes)


def test_rows_are_found_across_batches_of_a_parquet_file(prepared, parquet):
    found = prepared(parquet(input_ids=[[n % 100, n // 100] for n in range(1000)]), TOKENS, limit=50)

    rows = [high * 100 + low for low, high in read_ids(found)]
    assert len(rows) == 50
    assert rows == sorted(set(rows))
    assert rows[-1] > 950


def test_a_parquet_file_of_one_column_per_number_is_a_row_per_sample(prepared, parquet):
    columns = {f"x{i}": [float(row + i) for row in range(9)] for i in range(4)}

    assert next(prepared(parquet(**columns), ROWS).samples())["x"].tolist() == [[0, 1, 2, 3]]


def test_parquet_files_that_do_not_fit_are_refused(prepared, parquet, tmp_path):
    with pytest.raises(UsageError, match="input_ids has None, which is no integer"):
        prepared(parquet(input_ids=[*IDS, None]), TOKENS)
    with pytest.raises(UsageError, match=r"input_ids has 1.0, which is no integer"):
        prepared(parquet(input_ids=[[1.0, 2.0]] * 9), TOKENS)
    whole = parquet(input_ids=IDS).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"cannot read .*cut\.parquet"):
        prepared(tmp_path / "cut.parquet", TOKENS)


def test_missing_packages_are_named_with_the_extra_that_brings_them():
    fixes = [missing_module(ModuleNotFoundError("no", name=name)).fix for name in ("PIL", "pyarrow.parquet")]

    assert fixes == ['pip install "edgeproof[images]"', 'pip install "edgeproof[tables]"']


# The user's own code


@pytest.fixture
def code(tmp_path):
    def write(body):
        path = tmp_path / f"data_{abs(hash(body))}.py"
        path.write_text(f"import itertools\nimport numpy as np\n\ndef samples():\n    {body}\n")
        return f"{path}:samples"

    return write


@pytest.mark.parametrize(
    "body",
    [
        "yield from ({'x': np.full((1, 4), i, np.float32)} for i in range(12))",
        "yield from ({'x': np.full(4, i, np.float32)} for i in range(12))",
        "yield from ({'x': np.arange(4 * i, 4 * i + 4, dtype=np.float32).reshape(4, 1) + np.zeros(4, np.float32)}"
        " for i in range(3))",
        "return [{'x': [float(i)] * 4} for i in range(12)]",
    ],
    ids=["rows", "without a batch axis", "batches", "a list of lists"],
)
def test_a_callable_yields_rows_or_batches(prepared, code, body):
    found = prepared(code(body), ROWS)

    assert [int(sample["x"][0, 0]) for sample in found.samples()] == list(range(12))


def test_a_callable_without_end_is_read_as_far_as_needed(prepared, code):
    body = "yield from ({'x': np.full((7, 4), i, np.float32)} for i in itertools.count())"

    found = prepared(code(body), ROWS, limit=20, hold_out=True)

    assert found.count == 20
    assert len(np.load(found.held_out)["x"]) == 5
    assert any("the first 25 samples" in note for note in found.notes)


def test_no_more_than_one_row_of_a_callable_is_kept_at_a_time(prepared, tmp_path):
    path = tmp_path / "lazily.py"
    path.write_text(
        "import weakref\nimport numpy as np\nalive = []\nmost = 0\n"
        "def samples():\n"
        "    global most\n"
        "    for i in range(40):\n"
        "        row = np.full((1, 4), i, np.float32)\n"
        "        alive.append(weakref.ref(row))\n"
        "        most = max(most, sum(ref() is not None for ref in alive))\n"
        "        yield {'x': row}\n"
    )

    found = prepared(f"{path}:samples", ROWS)

    assert found.count == 40
    assert sys.modules["edgeproof_calibration_lazily"].most <= 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("yield np.zeros((1, 4))", "number 0, is a ndarray, no dictionary"),
        ("yield from ({'y': np.zeros(4)} for _ in range(9))", "has an array 'y'"),
        ("yield from [{'x': np.zeros(4, np.float32)}] * 9 + [{'x': np.zeros(5)}]", "number 9: x does not fit"),
        ("yield from [{'x': np.full(4, i / (i - 9))} for i in range(20)]", r"samples\(\) failed: ZeroDivisionError"),
        ("return 5", r"samples\(\) failed: TypeError"),
        ("return []", "has 0 sample"),
        ("yield None", "is a NoneType, no dictionary"),
        ("yield {'x': object()}", "no numbers"),
        (
            "yield from ({'x': np.full(4, [1.0, 2.0, np.nan, i + 0.5][i % 4])} for i in range(9))",
            "number 2: x holds NaN",
        ),
    ],
)
def test_callables_that_yield_no_samples_are_refused(prepared, code, body, words):
    with pytest.raises(UsageError, match=words) as caught:
        prepared(code(body), ROWS)

    assert caught.value.fix


def test_callables_that_are_not_there_are_refused(prepared, code, tmp_path):
    with pytest.raises(UsageError, match="--calibration: there is no module 'nowhere_at_all'"):
        prepared("nowhere_at_all:samples", ROWS)
    with pytest.raises(UsageError, match="has no callable 'others'"):
        prepared(code("yield {}").replace(":samples", ":others"), ROWS)
    with pytest.raises(UsageError, match="there is no file"):
        prepared(f"{tmp_path}/missing.py:samples", ROWS)
    with pytest.raises(LoadError, match=r"importing .* failed: SyntaxError"):
        prepared(code("yield ("), ROWS)


def test_neighbours_of_the_file_can_be_imported(prepared, tmp_path):
    (tmp_path / "own_rows.py").write_text("ROWS = [{'x': [float(i)] * 4} for i in range(9)]\n")
    (tmp_path / "own_data.py").write_text("import own_rows\ndef samples():\n    return own_rows.ROWS\n")

    assert prepared(Path(f"{tmp_path}/own_data.py:samples"), ROWS).count == 9
