"""Matching the tensors of two runs, and finding the operator at which error enters."""

from __future__ import annotations

import numpy as np
import pytest

from validators.divergence import Alone, Series, Value, belongs, blame, blame_alone, match

RNG = np.random.default_rng(0)
WEIGHTS = [RNG.standard_normal((8, 8)) / 3 for _ in range(4)]


def chain(weights, dtype, images, layers=True, bias=(0, 0, 0, 0)):
    """Run images through layers of products and ReLUs, with a shortcut around the third."""
    values = [Value("x", "")]
    arrays = [[image.astype(dtype) for image in images]]
    for at, weight in enumerate(weights):
        taken = len(values) - 1
        product = [image @ weight.astype(dtype) + dtype(bias[at]) for image in arrays[-1]]
        values.append(Value(f"dense_{at}", "MatMul", (taken,), (f"block.{at}.dense",) if layers else ()))
        arrays.append(product)
        values.append(Value(f"act_{at}", "Relu", (taken + 1,), (f"block.{at}.act",) if layers else ()))
        arrays.append([np.maximum(image, 0) for image in product])
        if at == 2:
            values.append(Value("sum", "Add", (taken, taken + 2), ("block.2",) if layers else ()))
            arrays.append([a + b for a, b in zip(arrays[taken], arrays[taken + 2], strict=True)])
    return Series(tuple(values), arrays, (("y", len(values) - 1),))


@pytest.fixture(scope="module")
def images():
    return [RNG.standard_normal((1, 5, 6, 8)) for _ in range(2)]


def broken(images, at, change=lambda weight: weight * 1.01, layers=True, **bias):
    weights = [change(weight) if place == at else weight for place, weight in enumerate(WEIGHTS)]
    return chain(weights, np.float32, images, layers, **bias)


def judged(images, artifact, precision="fp32"):
    exact, native = chain(WEIGHTS, np.float64, images), chain(WEIGHTS, np.float32, images)
    found = blame(artifact, exact, native, precision)
    return found, found.guilty and artifact.values[found.guilty.position].name, exact


def swapped(weight):
    found = weight.copy()
    found[:, [1, 4]] = found[:, [4, 1]]
    return found


@pytest.mark.parametrize("layers", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("change", [lambda w: w * 1.01, swapped], ids=["scaled", "swapped"])
@pytest.mark.parametrize("at", range(4))
def test_the_layer_whose_weights_are_wrong_is_blamed(images, at, change, layers):
    found, name, exact = judged(images, broken(images, at, change, layers))
    assert name == f"dense_{at}"
    assert exact.values[found.guilty.reference].name == name
    assert found.before < 1e-6 < 1e-3 < found.guilty.error
    assert found.through == ()


def turned(weight):
    """Weights of which nothing is where it was: what they give resembles no tensor of the source."""
    return weight[::-1, ::-1].T


@pytest.mark.parametrize("at", range(4))
def test_a_product_without_a_name_whose_values_resemble_nothing_is_told_by_its_place(images, at):
    artifact = broken(images, at, turned, layers=False)
    exact = chain(WEIGHTS, np.float64, images)
    position = next(place for place, value in enumerate(artifact.values) if value.name == f"dense_{at}")
    assert position not in match(artifact, exact)
    for found in (blame(artifact, exact), blame_alone(artifact, exact, alone(artifact, 1e-9), "int8")):
        assert artifact.values[found.guilty.position].name == f"dense_{at}"
        assert exact.values[found.guilty.reference].name == f"dense_{at}"
        assert [exact.values[place].name for place in found.between] == [f"dense_{at}"]


def test_a_right_run_blames_nobody(images):
    found, name, _ = judged(images, chain(WEIGHTS, np.float32, images))
    assert name is None
    assert len(found.points) == len(WEIGHTS) * 2 + 2
    assert all(point.error < 1e-6 for point in found.points)


def test_a_small_fault_before_a_large_one_is_not_taken_for_it(images):
    weights = [WEIGHTS[0] * (1 + 3e-6), WEIGHTS[1], WEIGHTS[2] * 1.5, WEIGHTS[3]]
    _, name, _ = judged(images, chain(weights, np.float32, images))
    assert name == "dense_2"


def test_layouts_are_told_by_values_not_by_shapes(images):
    square = [image[:, :, :5] for image in images]  # 5 by 5: two axes of one size
    exact = chain(WEIGHTS, np.float64, square)
    plain = broken(square, 2, layers=False)
    turned = Series(plain.values, [[a.transpose(0, 3, 2, 1) for a in arrays] for arrays in plain.arrays], plain.outputs)
    found = blame(turned, exact, None)
    assert turned.values[found.guilty.position].name == "dense_2"
    points = match(turned, exact)
    assert {point.axes for at, point in points.items() if at < found.guilty.position} == {(2, 1, 0)}


def test_what_cannot_be_read_is_named_beside_the_guilty(images):
    artifact = broken(images, 1)
    arrays = [
        None if value.name == "dense_1" else array
        for value, array in zip(artifact.values, artifact.arrays, strict=True)
    ]
    found = blame(Series(artifact.values, arrays, artifact.outputs), chain(WEIGHTS, np.float64, images))
    assert artifact.values[found.guilty.position].name == "act_1"
    assert [artifact.values[at].name for at in found.through] == ["dense_1"]


def test_fused_operators_cover_all_of_the_source_that_they_compute(images):
    artifact = broken(images, 1)
    keep = [at for at, value in enumerate(artifact.values) if not value.name.startswith("dense")]
    moved = {at: new for new, at in enumerate(keep)}

    def back(at):
        return moved.get(at, moved.get(at - 1))

    values = tuple(
        Value(v.name, "Fused", tuple(back(at) for at in v.inputs), v.layers) if v.operator else v
        for v in (artifact.values[at] for at in keep)
    )
    fused = Series(values, [artifact.arrays[at] for at in keep], (("y", len(keep) - 1),))
    exact = chain(WEIGHTS, np.float64, images)
    found = blame(fused, exact, chain(WEIGHTS, np.float32, images))
    assert values[found.guilty.position].name == "act_1"
    assert [exact.values[at].name for at in found.between] == ["dense_1", "act_1"]


def rounded(images, factor=1.0, at=-1):
    """A run in which every tensor is rounded to 8 bits, one product scaled."""
    exact = chain([w * factor if place == at else w for place, w in enumerate(WEIGHTS)], np.float32, images)
    arrays = []
    for array in exact.arrays:
        step = max(np.abs(a).max() for a in array) / 127
        arrays.append([(np.rint(a / step) * step).astype(np.float32) for a in array])
    return Series(exact.values, arrays, exact.outputs)


@pytest.mark.parametrize("at", range(4))
def test_a_quantized_layer_is_blamed_beyond_what_rounding_loses(images, at):
    assert judged(images, rounded(images), "int8")[1] is None
    assert judged(images, rounded(images, 1.5, at), "int8")[1] == f"dense_{at}"


def alone(artifact, step=1e-3):
    """What each operator of the chain makes of an artifact's own numbers, all of which are multiples of a step."""
    answers = {}
    for at, value in enumerate(artifact.values):
        taken = [artifact.arrays[place] for place in value.inputs]
        if value.operator == "MatMul":
            weight = WEIGHTS[int(value.name[-1])]
            answers[at] = [image @ weight for image in taken[0]]
        elif value.operator == "Relu":
            answers[at] = [np.maximum(image, 0) for image in taken[0]]
        elif value.operator == "Add":
            answers[at] = [one + other for one, other in zip(*taken, strict=True)]
    return Alone(
        {at: [np.rint(a / step) * step for a in arrays] for at, arrays in answers.items()}, dict.fromkeys(answers, step)
    )


def noisy(images, at=-1, factor=1.0, step=1e-3):
    """A run that loses 30 % of the signal at its start, and rounds as `alone` does; one product scaled."""
    random = np.random.default_rng(1)
    wild = [image + 0.3 * random.standard_normal(image.shape) for image in images]
    found = chain([w * factor if place == at else w for place, w in enumerate(WEIGHTS)], np.float64, wild)
    arrays = [found.arrays[0]]
    for value in found.values[1:]:
        taken = [arrays[place] for place in value.inputs]
        if value.operator == "MatMul":
            number = int(value.name[-1])
            answer = [image @ (WEIGHTS[number] * (factor if number == at else 1)) for image in taken[0]]
        elif value.operator == "Relu":
            answer = [np.maximum(image, 0) for image in taken[0]]
        else:
            answer = [one + other for one, other in zip(*taken, strict=True)]
        arrays.append([np.rint(a / step) * step for a in answer])
    return Series(found.values, arrays, found.outputs)


@pytest.mark.parametrize("at", range(4))
def test_a_little_fault_beneath_much_rounding_is_found_by_the_operator_alone(images, at):
    exact = chain(WEIGHTS, np.float64, images)
    artifact = noisy(images, at, 1.05)
    assert blame(artifact, exact, None, "int8").guilty is None  # every tensor errs by 30 % and more already
    found = blame_alone(artifact, exact, alone(artifact), "int8")
    assert artifact.values[found.guilty.position].name == f"dense_{at}"
    assert found.guilty.alone == pytest.approx(0.05, rel=0.1)
    assert len(found.points) == len(artifact.values)


def test_no_operator_alone_is_blamed_for_what_all_lose_together(images):
    artifact = noisy(images)
    found = blame_alone(artifact, chain(WEIGHTS, np.float64, images), alone(artifact), "int8")
    assert found.guilty is None
    assert min(point.error for point in found.points) > 0.05


def test_operators_whose_own_answer_is_unknown_or_infinite_are_left_out(images):
    artifact = noisy(images, 1, 1.5)
    known = alone(artifact)
    guilty = next(at for at, value in enumerate(artifact.values) if value.name == "dense_1")
    infinite = {
        at: [np.full_like(a, np.inf) for a in arrays] if at == guilty else arrays
        for at, arrays in known.answers.items()
    }
    found = blame_alone(artifact, chain(WEIGHTS, np.float64, images), Alone(infinite, known.steps), "int8")
    assert found.guilty is None


@pytest.mark.parametrize(
    ("layer", "path", "words"),
    [
        ("model/blocks/1/act", "blocks.1.act", 3),
        ("functional/conv2d/Conv2D", "conv2d", 1),
        ("model/blocks/10/act", "blocks.1.act", 0),
        ("hardtanh_1", "blocks", 0),
        ("model", "", 0),
    ],
)
def test_an_artifacts_word_for_a_layer_is_found_among_the_sources(layer, path, words):
    assert belongs(layer, path) == words
