"""The inputs of a run: seeded and reproducible, within their ranges, at several sizes; and the user's own file."""

from __future__ import annotations

import zipfile
from collections import Counter

import numpy as np
import pytest

from convert.errors import UsageError
from convert.spec import Signature, TensorSpec
from validators.inputs import (
    USER_ROWS,
    CaseSet,
    collect,
    generate,
    probes,
    read_user_file,
    specs_of,
    user_cases,
)
from validators.kinds import KINDS
from validators.runtimes import cases_of, feed


def signature(*inputs: str) -> Signature:
    return Signature(tuple(map(TensorSpec.parse, inputs)), (TensorSpec.parse("logits:float32[batch,10]"),))


IMAGE = signature("image:float32[batch,1,8,8]")
FIXED = signature("image:float32[1,1,8,8]")
PAIR = signature("left:float32[batch,4]", "right:float32[batch,4]")
MANY = signature(
    "rows:float32[batch,time,8]",
    "ids:int64[batch,time]=3..9",
    "flags:bool[batch]",
    "scale:float16[]",
    "u:uint8[4]=0..255",
)


# Seeded cases


@pytest.mark.parametrize("which", [IMAGE, FIXED, PAIR, MANY], ids=str)
def test_there_are_at_least_32_cases_at_the_base_sizes(which):
    assert Counter(case.sizes for case in generate(which, 0)).most_common(1)[0][1] >= 32


@pytest.mark.parametrize("which", [IMAGE, FIXED, PAIR, MANY], ids=str)
def test_every_case_has_its_own_name_and_fits_the_signature(which):
    cases = generate(which, 0)

    assert len({case.name for case in cases}) == len(cases)
    assert [
        reason for case in cases for spec in which.inputs if (reason := spec.mismatch(case.arrays[spec.name]))
    ] == []
    assert all(case.arrays.keys() == {spec.name for spec in which.inputs} for case in cases)


@pytest.mark.parametrize("which", [IMAGE, PAIR, MANY], ids=str)
def test_the_shapes_of_a_case_are_those_of_its_sizes(which):
    for case in generate(which, 0):
        for spec in which.inputs:
            assert case.arrays[spec.name].shape == spec.sized(dict(case.sizes))


def test_one_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = generate(IMAGE, 7), generate(IMAGE, 7), generate(IMAGE, 8)

    assert all((a.arrays["image"] == b.arrays["image"]).all() for a, b in zip(first, again, strict=True))
    drawn = [(a, b) for a, b in zip(first, other, strict=True) if not a.name.startswith(("zeros", "ones"))]
    assert drawn
    assert not any((a.arrays["image"] == b.arrays["image"]).all() for a, b in drawn)


def test_an_input_keeps_its_values_when_others_come_or_go():
    alone, beside = generate(signature("right:float32[batch,4]"), 0), generate(PAIR, 0)

    for a, b in zip(alone, beside, strict=True):
        assert (a.arrays["right"] == b.arrays["right"]).all()


def test_inputs_of_equal_shape_get_different_values():
    normal = generate(PAIR, 0)[0].arrays

    assert (normal["left"] != normal["right"]).all()


def test_no_two_drawn_cases_are_alike():
    drawn = [case.arrays["image"] for case in generate(FIXED, 0) if not case.name.startswith(("zeros", "ones"))]

    assert len({array.tobytes() for array in drawn}) == len(drawn)


def test_integers_stay_in_their_range_and_reach_both_ends():
    values = np.concatenate([case.arrays["ids"].ravel() for case in generate(MANY, 0)])

    assert (values.min(), values.max()) == (3, 9)


def test_negative_ranges_are_respected():
    values = np.concatenate([c.arrays["q"].ravel() for c in generate(signature("q:int8[batch,99]=-128..-3"), 0)])

    assert (values.min(), values.max()) == (-128, -3)


def test_integers_without_a_range_stay_where_any_embedding_has_rows():
    values = np.concatenate([case.arrays["ids"].ravel() for case in generate(signature("ids:int32[batch,9]"), 0)])

    assert set(values) == {0, 1}


def test_booleans_take_both_values():
    assert {bool(case.arrays["flags"][0]) for case in generate(MANY, 0)} == {False, True}


def test_no_row_of_an_attention_mask_is_masked_from_its_first_word_on():
    spec = TensorSpec("attention_mask", "int64", ("batch", "sequence"), 0, 1)
    masks = [case.arrays["attention_mask"] for case in generate(Signature((spec,), ()), seed=0)]
    assert all((mask[:, 0] == 1).all() for mask in masks)
    assert any((mask == 0).any() for mask in masks)


def test_floats_come_positive_sparse_large_small_zero_and_one():
    by_kind: dict[str, list[np.ndarray]] = {}
    for case in generate(FIXED, 0):
        by_kind.setdefault(case.name.rpartition("-")[0], []).append(case.arrays["image"])
    values = {kind: np.concatenate([array.ravel() for array in arrays]) for kind, arrays in by_kind.items()}

    assert values["normal"].min() < -1
    assert (values["uniform"].min(), values["uniform"].max()) == (
        pytest.approx(0, abs=0.05),
        pytest.approx(1, abs=0.05),
    )
    assert 0.02 < (values["sparse"] != 0).mean() < 0.25
    assert np.abs(values["small"]).max() < 0.01
    assert np.abs(values["large"]).max() > 10
    assert not values["zeros"].any()
    assert (values["ones"] == 1).all()


def drawn(which, kind, ranges=None):
    name = which.inputs[0].name
    return np.stack([case.arrays[name] for case in generate(which, 0, ranges) if case.name.startswith(f"{kind}-")])


WIDE = signature("image:float32[1,1,64,64]")


def test_floats_come_extreme():
    spikes, saturated, denormal = (drawn(WIDE, kind) for kind in ("spikes", "saturation", "denormals"))

    assert set(np.unique(spikes[np.abs(spikes) > 10])) == {-100, 100}
    assert 0.005 < (np.abs(spikes) > 10).mean() < 0.02
    assert saturated.std() == pytest.approx(64, rel=0.1)
    assert 0 < np.abs(denormal).max() < np.finfo("float32").smallest_normal


def test_a_constant_is_neither_zero_nor_one_and_edges_are_nothing_else():
    (constant,) = drawn(WIDE, "constant")

    assert constant.min() == constant.max()
    assert 0 < constant.min() < 1
    assert set(np.unique(drawn(WIDE, "edges"))) == {0, 1}


def test_pink_noise_falls_with_its_frequency_as_natural_images_do():
    def slope(kind):
        """Fit the exponent with which the amplitude falls, over frequencies of both axes."""
        shape = WIDE.inputs[0].shape[-2:]
        frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij"))
        power = np.square(np.abs(np.fft.fft2(drawn(WIDE, kind)[:, 0, 0]))).mean(0)
        inner = (frequency > 0) & (frequency < 0.4)
        return np.polyfit(np.log(frequency[inner]), np.log(power[inner]) / 2, 1)[0]

    assert slope("pink") == pytest.approx(-1, abs=0.1)
    assert slope("normal") == pytest.approx(0, abs=0.1)


def test_the_range_of_real_inputs_bounds_what_is_drawn_over_a_range(tmp_path):
    pixels = np.random.default_rng(0).uniform(-30, 200, (4, 1, 8, 8)).astype("float32")
    cases = collect(IMAGE, 0, {"image": pixels}, tmp_path / "inputs.npz")

    with np.load(cases.path) as stored:
        low, high = pixels.min(), pixels.max()
        for kind in ("uniform", "pink", "smooth", "constant", "edges"):
            array = stored[f"{kind}-0/image"]
            assert (array >= low).all(), kind
            assert (array <= high).all(), kind
        assert set(np.unique(stored["edges-0/image"])) == {low, high}
        assert np.abs(stored["saturation-0/image"]).max() > 32 * high


def test_a_constant_far_from_one_has_a_twin_that_differs_by_its_own_rounding(tmp_path):
    pixels = np.random.default_rng(0).uniform(100, 200, (4, 1, 8, 8)).astype("float32")
    cases = collect(IMAGE, 0, {"image": pixels}, tmp_path / "inputs.npz")

    with np.load(cases.path) as stored:
        constant = stored["constant-0/image"]
        assert 0 < np.abs(stored["beside-constant-0/image"] - constant).max() < 1e-5 * constant.max()


def test_extremes_are_named_and_are_no_case_that_quality_is_judged_on(tmp_path):
    cases = collect(IMAGE, 0, None, tmp_path / "inputs.npz")

    assert set(cases.extremes) == {"spikes-0", "spikes-1", "saturation-0", "denormals-0"}
    assert not set(cases.extremes) & set(cases.evaluation)


def test_denormals_have_a_case_of_zeros_that_only_the_source_runs(tmp_path):
    cases = collect(IMAGE, 0, None, tmp_path / "inputs.npz")

    assert cases.flushed == (("denormals-0", "flushed-denormals-0"),)
    assert "flushed-denormals-0" not in cases.names
    assert "flushed-denormals-0" in cases.for_source
    with np.load(cases.path) as stored:
        assert not stored["flushed-denormals-0/image"].any()


def test_smooth_values_resemble_their_neighbours():
    which = signature("image:float32[1,1,32,32]")
    arrays = {case.name: case.arrays["image"][0, 0] for case in generate(which, 0)}

    def roughness(image):
        return np.abs(np.diff(image, axis=1)).mean() / image.std()

    assert roughness(arrays["smooth-0"]) < 0.5 * roughness(arrays["uniform-0"])
    assert (arrays["smooth-0"].min(), arrays["smooth-0"].max()) == (0, 1)


def masks(spec):
    which = Signature((spec, TensorSpec.parse("x:float32[batch,4]")), ())
    return [case.arrays[spec.name] for case in generate(which, 0) if case.name.partition("-")[0] in KINDS]


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_most_masks_are_ones_up_to_a_length_that_varies(dtype):
    found = masks(TensorSpec("pixel_mask", dtype, ("batch", 32)))
    prefixes = [mask for mask in found if (np.diff(mask[0].astype(int)) <= 0).all()]

    assert 0.6 * len(found) < len(prefixes) < len(found), "a few are arbitrary"
    assert len({int(mask.sum()) for mask in prefixes}) > 8
    assert all(mask[0, 0] for mask in found)


def test_a_mask_of_what_is_padded_has_its_ones_at_the_end():
    found = masks(TensorSpec("key_padding_mask", "bool", ("batch", 32)))

    assert not any(mask[0, 0] for mask in found)
    assert sum(bool((np.diff(mask[0].astype(int)) >= 0).all()) for mask in found) > 0.6 * len(found)


def test_an_input_of_many_values_is_no_mask_whatever_its_name():
    assert max(mask.max() for mask in masks(TensorSpec("mask", "int64", ("batch", 32), 0, 9))) == 9


def test_a_mask_that_may_only_be_zero_stays_so():
    assert not any(mask.any() for mask in masks(TensorSpec("mask", "int64", ("batch", 32), 0, 0)))


def test_every_free_dimension_is_tried_at_other_sizes():
    sizes = {(name, size) for case in generate(MANY, 0) for name, size in case.sizes}

    assert {size for name, size in sizes if name == "batch"} >= {1, 2, 3}
    times = {size for name, size in sizes if name == "time"}
    assert len(times) >= 3
    assert any(size % 2 for size in times)


def test_a_model_without_free_dimensions_gets_no_other_sizes():
    assert {case.sizes for case in generate(FIXED, 0)} == {()}


@pytest.mark.parametrize("which", [IMAGE, PAIR, MANY], ids=str)
def test_one_batch_repeats_rows_that_are_cases_of_their_own(which, tmp_path):
    cases = collect(which, 0, None, tmp_path / "inputs.npz")

    ((batch, rows),) = cases.batches
    assert (batch, len(rows)) == ("batch-3", 3)
    with np.load(cases.path) as stored:
        for spec in which.inputs:
            whole, parts = stored[f"{batch}/{spec.name}"], [stored[f"{row}/{spec.name}"] for row in rows]
            if "batch" in spec.free:
                assert (whole == np.concatenate(parts)).all()
            else:
                assert all((whole == part).all() for part in parts)


def test_the_users_batch_repeats_the_users_rows(tmp_path):
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    cases = collect(PAIR, 0, {"left": rows, "right": rows}, tmp_path / "inputs.npz")

    assert ("user-batch", ("user-0", "user-1", "user-2")) in cases.batches


def test_every_float_input_has_one_nan_and_one_infinity_beside_the_cases(tmp_path):
    cases = collect(MANY, 0, None, tmp_path / "inputs.npz")

    assert dict(cases.spread) == {
        "nan-rows": "NaN in rows",
        "nan-scale": "NaN in scale",
        "infinity-rows": "+infinity in rows",
        "infinity-scale": "+infinity in scale",
    }
    assert not set(dict(cases.spread)) & set(cases.for_source)
    with np.load(cases.path) as stored:
        odd, usual = stored["nan-rows/rows"], stored[f"{cases.names[0]}/rows"]
        assert np.isnan(odd).sum() == 1
        assert (odd[~np.isnan(odd)] == usual[~np.isnan(odd)]).all()
        assert np.isposinf(stored["infinity-rows/rows"]).sum() == 1


def test_a_sequence_is_the_cases_of_one_size_in_order(tmp_path):
    whole = collect(MANY, 0, None, tmp_path / "inputs.npz")
    steps = whole.sequence()

    assert steps.steps
    assert len({sizes for _, sizes in steps.sizes}) == 1
    assert steps.names == tuple(name for name in whole.names if name in steps.names)
    assert not {*whole.extremes, *dict(whole.probes).values()} & set(steps.names)
    assert (steps.probes, steps.twins, steps.batches, steps.spread) == ((), (), (), ())


# Probes


def test_a_probe_differs_from_the_first_case_in_one_input_alone():
    cases = generate(PAIR, 0)

    for name, probe in probes(PAIR, cases):
        differ = {n for n, array in probe.arrays.items() if (array != cases[0].arrays[n]).any()}
        assert differ == {name}
    assert [name for name, _ in probes(PAIR, cases)] == ["left", "right"]


def test_an_input_of_one_allowed_value_has_no_probe():
    which = signature("image:float32[batch,4]", "version:int32[1]=2..2")

    assert [name for name, _ in probes(which, generate(which, 0))] == ["image"]


@pytest.mark.parametrize("spec", ["flag:bool[batch]", "label:int64[batch]=0..1", "mode:int32[1]=0..9"])
def test_a_probe_differs_from_the_first_case_even_where_few_values_exist(spec):
    which = signature("image:float32[batch,4]", spec)
    for seed in range(16):
        cases = generate(which, seed)
        probe = dict(probes(which, cases))[which.inputs[1].name]
        assert (probe.arrays[which.inputs[1].name] != cases[0].arrays[which.inputs[1].name]).any(), f"seed {seed}"


# What is written


def test_a_slash_in_an_inputs_name_is_not_taken_for_the_end_of_its_cases(tmp_path):
    cases = collect(signature("a/x:float32[batch,4]", "b/x:float32[batch,4]"), 0, None, tmp_path / "inputs.npz")

    with np.load(cases.path) as arrays:
        assert tuple(cases_of(arrays))[: len(cases.names)] == cases.names
        assert all(feed(arrays, case, ()).keys() == {"a/x", "b/x"} for case in cases.names)


def test_all_cases_are_written_under_their_names(tmp_path):
    cases = collect(PAIR, 0, None, tmp_path / "inputs.npz")

    with np.load(cases.path) as stored:
        written = (*cases.for_source, *dict(cases.spread))
        assert set(stored.files) == {f"{case}/{name}" for case in written for name in ("left", "right")}
        again = generate(PAIR, 0)[3]
        assert (stored[f"{again.name}/left"] == again.arrays["left"]).all()
    assert cases.probes == (("left", "probe-left"), ("right", "probe-right"))
    assert set(dict(cases.probes).values()) <= set(cases.names)


def test_every_constant_case_has_a_twin_one_rounding_beside_that_no_artifact_runs(tmp_path):
    cases = collect(signature("x:float32[batch,4]", "ids:int64[batch]=0..9"), 0, None, tmp_path / "inputs.npz")

    assert cases.twins == tuple(
        (f"{kind}-0", f"beside-{kind}-0") for kind in ("zeros", "ones", "constant", "denormals")
    )
    assert not set(dict(cases.twins).values()) & set(cases.fitting({}))
    with np.load(cases.path) as stored:
        for case, twin in cases.twins:
            apart = np.abs(stored[f"{twin}/x"] - stored[f"{case}/x"])
            assert 0 < apart.max() < 1e-6
            assert (stored[f"{twin}/ids"] == stored[f"{case}/ids"]).all()


def test_integers_alone_have_no_twin(tmp_path):
    assert collect(signature("ids:int64[batch]=0..9"), 0, None, tmp_path / "inputs.npz").twins == ()


def test_the_users_rows_are_among_the_cases(tmp_path):
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")

    cases = collect(PAIR, 0, {"left": rows, "right": rows * 2}, tmp_path / "inputs.npz")

    assert {"user-0", "user-1", "user-2", "user-batch"} <= set(cases.names)
    with np.load(cases.path) as stored:
        assert (stored["user-1/right"] == rows[1:2] * 2).all()


def test_integers_without_a_range_are_noted_with_the_option_that_states_it(tmp_path):
    cases = collect(signature("ids:int64[batch,4]"), 0, None, tmp_path / "inputs.npz")

    (note,) = [note for note in cases.notes if "ids" in note]
    assert "only 0..1 was tried" in note
    assert "--input 'ids:int64[batch,4]=0..N'" in note


def test_integers_with_a_range_need_no_note(tmp_path):
    notes = collect(signature("ids:int64[batch,4]=0..9"), 0, None, tmp_path / "inputs.npz").notes

    assert not [note for note in notes if "ids" in note]


def test_without_real_inputs_it_is_said_what_the_verdict_rests_on(tmp_path):
    rows = {"image": np.ones((2, 1, 8, 8), "float32")}

    assert any("rests on generated inputs alone" in n for n in collect(IMAGE, 0, None, tmp_path / "a.npz").notes)
    assert not any("generated" in note for note in collect(IMAGE, 0, rows, tmp_path / "b.npz").notes)


# Cases that fit


def test_a_model_with_free_dimensions_runs_every_case(tmp_path):
    cases = collect(MANY, 0, None, tmp_path / "inputs.npz")

    assert cases.fitting({}) == cases.names


def test_a_model_with_a_fixed_dimension_runs_the_cases_of_that_size():
    cases = CaseSet(
        "",
        (("a", (("batch", 1), ("time", 16))), ("b", (("batch", 2), ("time", 16))), ("c", (("batch", 1), ("time", 24)))),
    )

    assert cases.fitting({"batch": 1}) == ("a", "c")
    assert cases.fitting({"batch": 1, "time": 16}) == ("a",)
    assert cases.fitting({"batch": 2}) == ("b",)
    assert cases.fitting({"batch": 64}) == ()


def test_a_dimension_a_case_does_not_have_excludes_nothing():
    assert CaseSet("", (("a", ()),)).fitting({"batch": 1}) == ("a",)


# The user's file


def write_text(path):
    path.write_text("not an archive")


def write_nothing(path):
    path.write_bytes(b"")


def write_single_array(path):
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))


def write_objects(path):
    np.savez(path, image=np.array([{"a": 1}], dtype=object))


def write_no_arrays(path):
    np.savez(path)


def write_truncated(path):
    np.savez(path, image=np.ones((8, 8)))
    path.write_bytes(path.read_bytes()[:-100])


def write_flipped_bits(path):
    np.savez_compressed(path, image=np.random.default_rng(0).standard_normal((32, 32)))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xff" * 60
    path.write_bytes(bytes(data))


def write_other_members(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.txt", "a picture of a cat")


def write_words(path):
    np.savez(path, image=np.array(["cat", "dog"]))


def make_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    "write",
    [
        write_text,
        write_nothing,
        write_single_array,
        write_objects,
        write_no_arrays,
        write_truncated,
        write_flipped_bits,
        write_other_members,
        write_words,
        make_folder,
    ],
)
def test_a_file_that_is_no_npz_of_arrays_is_refused_with_how_to_write_one(tmp_path, write):
    path = tmp_path / "inputs.npz"
    write(path)

    with pytest.raises(UsageError) as caught:
        read_user_file(path)

    assert str(path) in caught.value.message
    assert "numpy.savez" in caught.value.fix


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_file_is_not_run(tmp_path):
    np.savez(tmp_path / "inputs.npz", image=np.array([Trap(tmp_path / "sprung")], dtype=object))

    with pytest.raises(UsageError):
        read_user_file(tmp_path / "inputs.npz")

    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="there is no inputs file"):
        read_user_file(tmp_path / "inputs.npz")


def test_a_file_is_read_back_as_it_was_written(tmp_path):
    image, ids = np.random.default_rng(0).standard_normal((3, 4)), np.arange(3)
    np.savez(tmp_path / "inputs.npz", image=image, ids=ids)

    arrays = read_user_file(tmp_path / "inputs.npz")

    assert arrays.keys() == {"image", "ids"}
    assert (arrays["image"] == image).all()
    assert arrays["ids"].dtype == ids.dtype


def test_a_leading_axis_that_all_arrays_share_is_the_batch():
    specs = specs_of({"image": np.ones((5, 1, 8, 8), "float32"), "ids": np.array([[3, 9]] * 5)})

    assert [str(spec) for spec in specs] == ["image:float32[batch,1,8,8]", "ids:int64[batch,2]=3..9"]


def test_leading_axes_that_differ_are_no_batch():
    specs = specs_of({"image": np.ones((5, 8), "float32"), "anchors": np.ones((3, 4), "float32")})

    assert [spec.shape for spec in specs] == [(5, 8), (3, 4)]


def test_an_array_without_axes_leaves_no_batch():
    assert [spec.shape for spec in specs_of({"image": np.ones((5, 8)), "scale": np.array(2.0)})] == [(5, 8), ()]


def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("which", "arrays", "words"),
    [
        (IMAGE, {"picture": ones(3, 1, 8, 8)}, "has an array 'picture'"),
        (PAIR, {"left": ones(3, 4)}, "has no array 'right'"),
        (PAIR, {"left": ones(3, 4), "right": ones(2, 4)}, "right in the inputs file"),
        (IMAGE, {"image": ones(0, 1, 8, 8)}, "is empty"),
        (IMAGE, {"image": ones(3, 1, 8, 8) * np.nan}, "holds NaN or infinity"),
        (IMAGE, {"image": ones(3, 1, 8, 8) * np.inf}, "holds NaN or infinity"),
        (IMAGE, {"image": ones(3, 1, 8, 8, dtype="float64")}, "dtype is float64, expected float32"),
        (IMAGE, {"image": ones(3, 8, 8, 1)}, "shape is [1, 8, 8, 1], expected [batch,1,8,8]"),
        (IMAGE, {"image": ones(1, 8, 8)}, "expected [batch,1,8,8]"),
        (IMAGE, {"image": np.float32(1)}, "expected [batch,1,8,8]"),
        (signature("image:float32[4,8]"), {"image": ones(6, 8)}, "has 6 rows, which 4 does not divide"),
        (
            signature("a:float32[batch,time]", "b:float32[batch,time]"),
            {"a": ones(2, 5), "b": ones(2, 6)},
            "gives time two sizes, 5 and 6",
        ),
        (signature("ids:int64[batch,2]=0..9"), {"ids": np.array([[3, 10]])}, "ids in the inputs file"),
        (signature("a:float32[4,8]", "b:float32[2,8]"), {"a": ones(8, 8), "b": ones(8, 8)}, "b in the inputs file"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(which, arrays, words):
    with pytest.raises(UsageError) as caught:
        user_cases(which, arrays)

    assert words in caught.value.message
    assert caught.value.fix


def test_rows_are_run_one_by_one_and_once_together():
    rows = np.arange(12, dtype="float32").reshape(3, 4)

    cases, notes = user_cases(PAIR, {"left": rows, "right": -rows})

    assert [case.name for case in cases] == ["user-0", "user-1", "user-2", "user-batch"]
    assert [dict(case.sizes) for case in cases] == [{"batch": 1}] * 3 + [{"batch": 3}]
    assert (cases[2].arrays["right"] == -rows[2:3]).all()
    assert (cases[3].arrays["left"] == rows).all()
    assert notes == []


def test_the_batch_of_rows_is_kept_small():
    cases, _ = user_cases(PAIR, {"left": ones(100, 4), "right": ones(100, 4)})

    assert cases[-1].arrays["left"].shape == (8, 4)


def test_one_row_needs_no_batch():
    assert [case.name for case in user_cases(IMAGE, {"image": ones(1, 1, 8, 8)})[0]] == ["user-0"]


def test_a_fixed_batch_takes_pieces_of_its_size():
    rows = np.arange(48, dtype="float32").reshape(12, 4)

    cases, _ = user_cases(signature("image:float32[4,4]"), {"image": rows})

    assert [case.name for case in cases] == ["user-0", "user-1", "user-2"]
    assert (cases[1].arrays["image"] == rows[4:8]).all()


def test_a_free_axis_other_than_the_batch_belongs_to_one_case():
    rows = np.arange(40, dtype="float32").reshape(5, 8)

    cases, _ = user_cases(signature("rows:float32[time,8]"), {"rows": rows})

    assert [(case.name, case.arrays["rows"].shape, dict(case.sizes)) for case in cases] == [
        ("user-0", (5, 8), {"time": 5})
    ]


def test_an_input_without_axes_is_given_whole():
    cases, _ = user_cases(
        signature("image:float32[batch,4]", "scale:float32[]"), {"image": ones(2, 4), "scale": np.float32(3)}
    )

    assert all(case.arrays["scale"].shape == () for case in cases)


def test_rows_beyond_the_limit_are_left_out_and_that_is_said():
    cases, notes = user_cases(IMAGE, {"image": ones(USER_ROWS + 1, 1, 8, 8)})

    assert sum(case.name != "user-batch" for case in cases) == USER_ROWS
    assert notes == [f"{USER_ROWS} of the inputs file's {USER_ROWS + 1} rows were used"]


@pytest.mark.parametrize(
    ("which", "arrays"),
    [
        (PAIR, {"left": ones(10, 4), "right": ones(10, 4)}),
        (signature("image:float32[4,4]"), {"image": ones(8, 4)}),
        (signature("x:float32[batch,4]", "state:float32[1,3]"), {"x": ones(10, 4), "state": ones(10, 3)}),
    ],
    ids=["free", "fixed", "free beside fixed"],
)
def test_every_case_cut_from_the_users_rows_fits_the_signature(which, arrays):
    for case in user_cases(which, arrays)[0]:
        assert [which.inputs[i].mismatch(a) for i, a in enumerate(case.arrays.values())] == [None] * len(arrays), (
            case.name
        )
